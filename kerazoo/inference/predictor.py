"""Masks for images of any size: batched, tiled, flipped, and given back at the size of each image."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from kerazoo.arguments import as_pair, check_whole
from kerazoo.compose import without_aux
from kerazoo.data.source import Source
from kerazoo.inference.decision import DecisionRule
from kerazoo.inference.inputs import ImageInput, named_images
from kerazoo.inference.tiling import Tiling
from kerazoo.layers import Resize
from kerazoo.outputs import label_probabilities, mask_logits, probabilities
from kerazoo.types import Tensor

Images = np.ndarray | Sequence[np.ndarray] | Source | Iterable[tuple[str, np.ndarray]]

_WINDOW = 4  # batches of images that are held to find images of equal size


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """What a model predicts for one image.

    Attributes:
        id: Name of the image in its source, or its position.
        mask: `(H, W)` uint8 class ids, at the size of the image.
        probability: `(H, W, num_classes)` float32 in [0, 1]; with one class that of the foreground.
        score: What the rule compares with its image threshold: by default the largest foreground probability of all
            pixels, at the resolution of the model.
        label: `(num_classes,)` float32 in [0, 1], what the label head says of the whole image; None without that head.
            With tiles, a class is as likely as in the tile where it is likeliest, and index 0 of several classes (an
            empty image) as in the tile where it is least.
    """

    id: str
    mask: np.ndarray
    probability: np.ndarray = field(repr=False)
    score: float
    label: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelOutput:
    """What a model gives for one image, before a rule decides.

    Attributes:
        id: As in `Prediction`.
        small: `(h, w, num_classes)` float32 probabilities, or logits, at the resolution of the model.
        full: `(H, W, num_classes)`, the same at the size of the image; the same array where the sizes are equal.
        label: As in `Prediction`.
    """

    id: str
    small: np.ndarray
    full: np.ndarray
    label: np.ndarray | None


class Predictor:
    """A segmenter, and how images are given to it: in batches, resized, in tiles, mirrored.

    What is checked is checked once, and the model is compiled once for images of a size, whatever the number of calls.

    ```python
    predictor = kz.inference.Predictor(model, tile=512, tta="flip")
    predictions = predictor(images, rule=kz.inference.DecisionRule(min_area=20))
    ```

    Args:
        model: Segmenter that returns logits `(B, H, W, num_classes)`, or a mapping whose `"mask"` they are.
        batch_size: Images (or tiles) in a batch; images of the same size share one.
        image_size: `(height, width)` the model was trained at: images are resized to it, antialiased as the pipeline
            does it, and probabilities are resized back before the threshold. None works at the size of the image.
        tile: Height and width of overlapping tiles for images that do not fit into memory, or None.
        overlap: Pixels that tiles share; None is a quarter of the tile.
        tta: "flip" averages the probabilities of the image and its left-right mirror image.

    Call: images as in `predict`, and a `rule`; None is `DecisionRule()`.
    Returns: one `Prediction` per image, in the order of the images.

    Raises:
        ValueError: an argument does not fit the model.
    """

    def __init__(
        self,
        model: keras.Model,
        *,
        batch_size: int = 8,
        image_size: tuple[int, int] | None = None,
        tile: int | tuple[int, int] | None = None,
        overlap: int | None = None,
        tta: Literal["flip"] | None = None,
    ):
        check_whole("Predictor", "batch_size", batch_size)
        if tta not in (None, "flip"):
            raise ValueError(f"`tta` must be None or 'flip', received {tta!r}.")
        self._input = ImageInput(model, image_size=image_size)
        self._tiling = _tiling(tile, overlap, fixed_size=self._input.fixed_size)
        self._model, self._batch_size, self._flip = without_aux(model), batch_size, tta == "flip"

    def __call__(self, images: Images, *, rule: DecisionRule | None = None) -> list[Prediction]:
        return list(self.stream(images, rule=rule))

    def stream(self, images: Images, *, rule: DecisionRule | None = None) -> Iterator[Prediction]:
        """Predict image by image, for sets whose probabilities do not fit into memory.

        Args:
            images: As in `kerazoo.inference.stream`.
            rule: What counts as foreground; None is `DecisionRule()`.

        Returns: an iterator of `Prediction`, in the order of `images`.
        """
        rule = DecisionRule() if rule is None else rule
        return (_decide(output, rule) for output in self.probabilities(images))

    def probabilities(self, images: Images) -> Iterator[ModelOutput]:
        """Probabilities image by image, for whoever decides by other means than a rule.

        Args:
            images: As in `kerazoo.inference.stream`.

        Returns: an iterator of `ModelOutput`, in the order of `images`.
        """
        return self._outputs(named_images(images), probabilities)

    def logits(self, images: Images) -> Iterator[ModelOutput]:
        """Logits image by image: tiles and mirror images are averaged before any sigmoid or softmax.

        Args:
            images: As in `kerazoo.inference.stream`.

        Returns: an iterator of `ModelOutput` whose maps are logits; labels are probabilities here too.
        """
        return self._outputs(named_images(images), lambda logits: logits)

    def predict_on_batch(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Probabilities of a batch that has the size and the values the model takes; `tta` applies, tiles do not.

        Args:
            images: `(B, H, W, C)`.

        Returns: `(B, H, W, num_classes)` float32, and `(B, num_classes)` of the label head or None.

        Raises:
            ValueError: the model gives no logits of the size of the images.
        """
        return self._batch(images, probabilities)

    def _outputs(
        self, images: Iterable[tuple[str, np.ndarray]], activation: Callable[[Tensor], Tensor]
    ) -> Iterator[ModelOutput]:
        images, tiling, resize = iter(images), self._tiling, Resize(dtype="float32")
        while window := list(itertools.islice(images, 1 if tiling else _WINDOW * self._batch_size)):
            inputs = [self._input.prepare(name, image, any_size=tiling is not None) for name, image in window]
            if tiling is None:
                results = self._run(inputs, activation)
            else:
                size = inputs[0].shape[:2]
                tiles = self._run([inputs[0][span] for span in tiling.spans(size)], activation)
                labels = [label for _, label in tiles if label is not None]
                blended = tiling.blend(size, [tile for tile, _ in tiles])
                results = [(blended, _label_of_tiles(labels) if labels else None)]
            for (name, image), (small, label) in zip(window, results, strict=True):
                full = small
                if small.shape[:2] != image.shape[:2]:
                    like = np.broadcast_to(np.uint8(0), (1, *image.shape[:2], 1))
                    full = _numpy(resize(small[None], like=like))[0]
                yield ModelOutput(id=name, small=small, full=full, label=label)

    def _run(
        self, inputs: Sequence[np.ndarray], activation: Callable[[Tensor], Tensor]
    ) -> list[tuple[np.ndarray, np.ndarray | None]]:
        """Maps `(h, w, num_classes)` and label probabilities or None, for inputs that may differ in size."""
        by_size: dict[tuple[int, ...], list[int]] = {}
        for position, image in enumerate(inputs):
            by_size.setdefault(image.shape, []).append(position)
        results: dict[int, tuple[np.ndarray, np.ndarray | None]] = {}
        for positions in by_size.values():
            for start in range(0, len(positions), self._batch_size):
                chosen = positions[start : start + self._batch_size]
                maps, labels = self._batch(np.stack([inputs[i] for i in chosen]), activation)
                labels = [None] * len(chosen) if labels is None else labels
                results.update(zip(chosen, zip(maps, labels, strict=True), strict=True))
        return [results[position] for position in range(len(inputs))]

    def _batch(
        self, images: np.ndarray, activation: Callable[[Tensor], Tensor]
    ) -> tuple[np.ndarray, np.ndarray | None]:
        maps, label = self._forward(images, activation)
        if self._flip:
            mirrored, mirrored_label = self._forward(images[:, :, ::-1], activation)
            maps = (maps + mirrored[:, :, ::-1]) / 2
            label = None if label is None else (label + mirrored_label) / 2
        return maps, label

    def _forward(self, images: np.ndarray, activation: Callable[[Tensor], Tensor]) -> tuple[np.ndarray, Any]:
        outputs = keras.tree.map_structure(  # in NumPy: ops.cast on torch leaves its bfloat16
            lambda output: _numpy(output).astype("float32"), self._model.predict_on_batch(np.ascontiguousarray(images))
        )
        logits = mask_logits(outputs)
        if logits.ndim != 4 or logits.shape[:3] != images.shape[:3]:
            raise ValueError(
                f"`model` must return logits of the size of the image, (B, H, W, num_classes); for images "
                f"{images.shape} it returned {logits.shape}."
            )
        label = label_probabilities(outputs)
        return _numpy(activation(ops.convert_to_tensor(logits))), None if label is None else _numpy(label)


def predict(
    model: keras.Model,
    images: Images,
    *,
    batch_size: int = 8,
    threshold: float | None = None,
    rule: DecisionRule | None = None,
    image_size: tuple[int, int] | None = None,
    tile: int | tuple[int, int] | None = None,
    overlap: int | None = None,
    tta: Literal["flip"] | None = None,
) -> list[Prediction]:
    """Predict the masks of images, which may differ in size and in type; for several calls make a `Predictor`.

    Args:
        model: Segmenter that returns logits `(B, H, W, num_classes)`, or a mapping whose `"mask"` they are.
        images: `(N, H, W, C)` array, a sequence of `(H, W)` or `(H, W, C)` arrays, or a `Source`, whose masks are not
            opened. Values as in training: uint8 in 0-255, uint16 in 0-65535 (which become 0-255, as in the pipeline),
            or floats. Gray images become RGB, and RGB ones gray, if the model wants that.
        batch_size: Images (or tiles) in a batch.
        threshold: Shorthand for `rule=DecisionRule(pixel_threshold=threshold)`; None is 0.5.
        rule: What counts as foreground.
        image_size: `(height, width)` the model was trained at; None works at the size of the image.
        tile: Height and width of overlapping tiles for images that do not fit into memory, or None.
        overlap: Pixels that tiles share; None is a quarter of the tile.
        tta: "flip" averages over the image and its left-right mirror image.

    Returns: one `Prediction` per image, in the order of `images`.

    Raises:
        ValueError: an argument or an image does not fit the model; the image is named.
        TypeError: `images` is none of the above.
    """
    predictor = Predictor(model, batch_size=batch_size, image_size=image_size, tile=tile, overlap=overlap, tta=tta)
    return predictor(images, rule=rule_of(threshold, rule))


def stream(
    model: keras.Model,
    images: Images,
    *,
    batch_size: int = 8,
    threshold: float | None = None,
    rule: DecisionRule | None = None,
    image_size: tuple[int, int] | None = None,
    tile: int | tuple[int, int] | None = None,
    overlap: int | None = None,
    tta: Literal["flip"] | None = None,
) -> Iterator[Prediction]:
    """Predict image by image, for sets whose probabilities do not fit into memory.

    Args:
        model: Segmenter, as `predict` takes it.
        images: As `predict` takes them, or an iterator of pairs of a name and an image, read as they are needed.
        batch_size: Images (or tiles) in a batch.
        threshold: Shorthand for `rule=DecisionRule(pixel_threshold=threshold)`; None is 0.5.
        rule: What counts as foreground.
        image_size: `(height, width)` the model was trained at; None works at the size of the image.
        tile: Height and width of overlapping tiles, or None.
        overlap: Pixels that tiles share; None is a quarter of the tile.
        tta: "flip" averages over the image and its left-right mirror image.

    Returns: an iterator of `Prediction`, in the order of `images`.

    Raises:
        ValueError: an argument does not fit the model; a faulty image raises when its turn comes.
        TypeError: `images` is none of the above.
    """
    predictor = Predictor(model, batch_size=batch_size, image_size=image_size, tile=tile, overlap=overlap, tta=tta)
    return predictor.stream(images, rule=rule_of(threshold, rule))


def rule_of(threshold: float | None, rule: DecisionRule | None) -> DecisionRule:
    """The rule that a caller gave, or that the threshold is short for; of the two only one may be given."""
    if threshold is None:
        return DecisionRule() if rule is None else rule
    if rule is not None:
        raise ValueError(f"Give `threshold` or `rule`, not both; received threshold={threshold} and {rule}.")
    return DecisionRule(pixel_threshold=threshold)


def _tiling(
    tile: int | tuple[int, int] | None, overlap: int | None, *, fixed_size: tuple[int, int] | None
) -> Tiling | None:
    if tile is None:
        if overlap is not None:
            raise ValueError(f"`overlap` is for tiles; received overlap={overlap} without `tile`.")
        return None
    height, width = as_pair(tile)
    if fixed_size not in (None, (height, width)):
        raise ValueError(f"`tile` is {(height, width)}, but the model takes images of {fixed_size} only.")
    shared = min(height, width) // 4 if overlap is None else overlap
    return Tiling(tile=(height, width), overlap=shared, full_tiles=fixed_size is not None)


def _label_of_tiles(labels: list[np.ndarray]) -> np.ndarray:
    """Label of an image from those of its tiles: it shows what any tile shows, and is empty if every tile is."""
    label = np.max(labels, axis=0)
    if len(label) > 1:
        label[0] = np.min(labels, axis=0)[0]
    return label


def _decide(output: ModelOutput, rule: DecisionRule) -> Prediction:
    small, full, label = (
        None if part is None else ops.convert_to_tensor(part[None])
        for part in (output.small, output.full, output.label)
    )
    mask, score = rule(small, full_size=None if output.full is output.small else full, label=label)
    return Prediction(
        id=output.id, mask=_numpy(mask)[0], probability=output.full, score=float(_numpy(score)[0]), label=output.label
    )


def _numpy(tensor: Any) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(tensor))
