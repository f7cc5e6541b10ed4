"""Export as TensorFlow SavedModel, which runs without Keras and without kerazoo."""

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from kerazoo.compose import without_aux
from kerazoo.data.formats.images import UINT16_PER_LEVEL, check_intensity_range
from kerazoo.export.card import card
from kerazoo.export.parity import Parity, allowed_difference, compare, example_batches
from kerazoo.export.precision import in_float32
from kerazoo.inference.decision import DecisionRule
from kerazoo.layers import Resize
from kerazoo.outputs import label_probabilities, mask_logits, probabilities
from kerazoo.types import Tensor

INPUT_TYPES = ("uint8", "uint16", "float32")


def saved_model(
    model: keras.Model,
    path: str | Path,
    rule: DecisionRule | None = None,
    *,
    image_size: tuple[int, int] | None = None,
    input_dtype: Literal["uint8", "uint16", "float32"] = "uint8",
    intensity_range: tuple[float, float] | None = None,
    class_names: Sequence[str] | None = None,
    overwrite: bool = False,
    verbose: bool = True,
) -> Path:
    """Export a segmenter, load what was written, and compare it with the model.

    The signature `serving_default` takes `images` `(B, H, W, C)` and gives `mask` `(B, H, W)` uint8 class ids,
    `probability` `(B, H, W, num_classes)` float32 (with one class that of the foreground), `score` `(B,)` float32,
    which the rule compares with its image threshold, and with a label head `label` `(B, num_classes)` float32. Beside
    the model it writes `parity.json`, the differences, and `card.md`, which says how to use it.

    Args:
        model: Segmenter with one input; a model in mixed precision is rebuilt in float32, and what
            `segmenter(aux=True)` adds is left out.
        path: Directory to make.
        rule: What counts as found; None is `DecisionRule()`.
        image_size: `(height, width)` the model was trained at: images are resized to it inside the export, antialiased,
            and probabilities are resized back. None works at the size of the image.
        input_dtype: Type of the images: uint8 in 0-255, uint16 in 0-65535, which become 0-255 inside as in training, or
            float32 with values as in training.
        intensity_range: Image values (low, high) that become 0 and 255 inside; what the source of the training had.
        class_names: Names of the class ids from 0, the background, on; for the card.
        overwrite: Whether `path` may be replaced if it is an export already.
        verbose: Whether to print the largest difference.

    Returns: `path`.

    Raises:
        RuntimeError: the backend is not TensorFlow, or the export differs from the model by more than 1e-4 (more if
            logits are far above 40, where float32 rounding is larger); then nothing is written.
        FileExistsError: `path` exists and may not be replaced.
        ValueError: an argument does not fit the model.
    """
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            f"A SavedModel is written by TensorFlow, and Keras runs on {keras.backend.backend()}. Save the model, then "
            f"load and export it with KERAS_BACKEND=tensorflow."
        )
    path, rule = Path(path), rule or DecisionRule()
    _check_target(path, overwrite)
    service = _Service(model, rule, image_size=image_size, input_dtype=input_dtype, intensity_range=intensity_range)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as directory:
        written = Path(directory) / "export"
        service.write(written)
        parity = service.compare(written)
        if verbose:
            print(parity)
        if not parity.holds:
            raise RuntimeError(
                f"{parity}: more than {parity.tolerance:.0e} is not the same model. Nothing was written."
            )
        inside = {"rule": asdict(rule), "image_size": image_size, "intensity_range": intensity_range}
        content = {**parity.to_dict(), **inside, "versions": _versions()}
        (written / "parity.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        description = card(
            service.model,
            rule,
            parity,
            size=service.signature_size,
            image_size=image_size,
            input_dtype=input_dtype,
            intensity_range=intensity_range,
            class_names=class_names,
            versions=_versions(),
        )
        (written / "card.md").write_text(description, encoding="utf-8")
        if path.exists():
            shutil.rmtree(path)
        written.rename(path)
    return path


class _Service:
    """The exported function, from images to masks, probabilities and scores."""

    def __init__(
        self,
        model: keras.Model,
        rule: DecisionRule,
        *,
        image_size: tuple[int, int] | None,
        input_dtype: str,
        intensity_range: tuple[float, float] | None,
    ):
        if not isinstance(model, keras.Model) or len(getattr(model, "inputs", None) or ()) != 1:
            raise ValueError(f"`model` must be a Keras model with one input, a batch of images; received {model!r}.")
        if input_dtype not in INPUT_TYPES:
            raise ValueError(f"`input_dtype` must be one of {', '.join(INPUT_TYPES)}; received {input_dtype!r}.")
        check_intensity_range(intensity_range)
        if intensity_range is not None and input_dtype == "uint8" and intensity_range[1] > 255:
            raise ValueError(
                f"8-bit images do not hold the values up to {intensity_range[1]:g} of `intensity_range`. Give "
                f"input_dtype uint16 or float32."
            )
        _, height, width, self.channels = model.inputs[0].shape
        fixed = None if None in (height, width) else (height, width)
        if image_size is not None and fixed not in (None, tuple(image_size)):
            raise ValueError(f"`image_size` is {tuple(image_size)}, but the model takes images of {fixed} only.")
        self.model, self.rule, self.input_dtype = in_float32(without_aux(model)), rule, input_dtype
        self.intensity_range = intensity_range
        self.image_size = None if image_size is None else tuple(image_size)
        self.signature_size = (None, None) if image_size is not None else (height, width)
        self._resize = Resize(dtype="float32")

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        outputs = self.model(self._preprocess(images), training=False)
        small = probabilities(mask_logits(outputs))
        full = small if self.image_size is None else self._resize(small, like=images)
        label = label_probabilities(outputs)
        mask, score = self.rule(small, full_size=None if self.image_size is None else full, label=label)
        served = {"mask": mask, "probability": full, "score": score}
        return served if label is None else {**served, "label": label}

    def _preprocess(self, images: Tensor) -> Tensor:
        """Images as in training: scaled to 0-255, resized, and rounded if they have 8 bits."""
        import tensorflow as tf

        if self.intensity_range is not None:
            low, high = self.intensity_range
            images = tf.clip_by_value((tf.cast(images, tf.float32) - low) * (255 / (high - low)), 0, 255)
        elif self.input_dtype == "uint16":
            images = tf.cast(images, tf.float32) / UINT16_PER_LEVEL
        if self.image_size is not None:
            images = tf.image.resize(tf.cast(images, tf.float32), self.image_size, antialias=True)
            rounded = self.input_dtype == "uint8" and self.intensity_range is None
            images = tf.round(images) if rounded else images
        return tf.cast(images, self.model.inputs[0].dtype)

    def write(self, path: Path) -> None:
        import tensorflow as tf

        spec = tf.TensorSpec((None, *self.signature_size, self.channels), self.input_dtype, name="images")
        archive = keras.export.ExportArchive()
        archive.track(self.model)
        archive.add_endpoint("serve", self.__call__, input_signature=[spec])
        archive.write_out(str(path), verbose=False)

    def compare(self, path: Path) -> Parity:
        """Load the export with plain TensorFlow, and compare its outputs with the model's."""
        import tensorflow as tf

        loaded = tf.saved_model.load(str(path)).signatures["serving_default"]
        height, width = self.signature_size
        options = {} if height is None or width is None else {"sizes": [(height, width)] * 2}
        batches = example_batches(self.channels, self.input_dtype, values=self.intensity_range, **options)
        return compare(
            lambda images: _as_numpy(loaded(images=tf.constant(images))),
            lambda images: _as_numpy(self(tf.constant(images))),
            batches,
            tolerance=allowed_difference(max(self._largest_logit(tf.constant(images)) for images in batches)),
        )

    def _largest_logit(self, images: Tensor) -> float:
        logits = mask_logits(self.model(self._preprocess(images), training=False))
        return float(ops.max(ops.abs(logits)))


def _as_numpy(outputs: Any) -> dict[str, np.ndarray]:
    return {name: np.asarray(value) for name, value in outputs.items()}


def _check_target(path: Path, overwrite: bool) -> None:
    if not path.exists():
        return
    empty = path.is_dir() and not any(path.iterdir())
    if not empty and not (overwrite and (path / "saved_model.pb").is_file()):
        hint = (
            "Give another directory, or overwrite=True." if (path / "saved_model.pb").is_file() else "It is no export."
        )
        raise FileExistsError(f"`path` {str(path)!r} exists. {hint}")


def _versions() -> dict[str, str]:
    import tensorflow as tf

    import kerazoo

    return {"kerazoo": kerazoo.__version__, "keras": keras.__version__, "tensorflow": tf.__version__}
