"""Encoders as models: build by name or from an object, measure strides, load weights."""

import math
import numbers
import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras

from kerazoo.checkpoints import catalog, download, tensors
from kerazoo.encoders.stem import adapt_stem
from kerazoo.types import Features, Level, Tensor

WEIGHTS_SUFFIX = ".weights.h5"
"""Ending of the files that an encoder's own `save_weights` writes."""

CLASSIFIER_SUFFIX = ".h5"
"""Ending of the files of keras.applications, such as vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5."""

CLASSIFIERS = ("fc.*", "head.*", "pre_logits.*", "classifier.*", "last_linear.*")
"""What PyTorch's checkpoints of classifiers hold beyond the encoder: timm, torchvision and pretrained-models."""


def check_image_shape(image_shape: Any) -> tuple[int | None, int | None, int]:
    """Return `image_shape` as `(height or None, width or None, channels)`.

    Raises:
        ValueError: it has another length, sizes that are not positive, or no channel count.
    """
    shape = tuple(image_shape) if isinstance(image_shape, Iterable) else ()
    sizes = [n for n in shape[:2] if n is not None] + list(shape[2:])
    if len(shape) != 3 or not all(isinstance(n, numbers.Integral) and int(n) > 0 for n in sizes):
        raise ValueError(
            "`image_shape` must be (height, width, channels) without the batch, height and width positive or None for "
            f"any size, channels a positive number; received {image_shape}."
        )
    height, width = (None if n is None else int(n) for n in shape[:2])
    return height, width, int(shape[2])


def build_encoder(
    part: Any,
    *,
    image_shape: tuple[int | None, int | None, int],
    weights: str | Path | None = None,
    output_stride: int = 32,
    depth: int | None = None,
    preprocessing: bool = False,
) -> tuple[keras.Model, tuple[int, ...]]:
    """Build the model of an encoder part.

    Args:
        part: Frozen dataclass of `ENCODERS`, or an object like it.
        image_shape: `(height, width, channels)`, sizes None for any.
        weights: None for random ones; a name of the catalog, "imagenet" or a tag with or without the encoder's name;
            or the path of a file: a `.weights.h5` file of this encoder, for a part of keras.applications the `.h5` file
            of its classifier without top, for a part that follows the names of PyTorch the `.safetensors` or `.pth`
            file of timm or torchvision.
        output_stride: Stride of the coarsest level; smaller ones than the family's dilate its convolutions.
        depth: Number of levels, None for all.
        preprocessing: Whether the model takes raw images in [0, 255] and normalizes them itself.

    Returns: a model named "encoder" whose outputs are a list, fine to coarse, and the strides of these outputs.

    Raises:
        ValueError: an argument is not what the part can do.
        FileNotFoundError: there is no file at `weights`.
        OSError: the weights could not be downloaded.
    """
    image = keras.Input(check_image_shape(image_shape), name="image")
    x = part.preprocess(image) if preprocessing else image
    features: Features = part(x, output_stride=output_stride, depth=depth)
    model = keras.Model(image, [level.tensor for level in features], name="encoder")
    if weights is not None:
        load_weights(model, part, weights)
    return model, tuple(level.stride for level in features)


def load_weights(model: keras.Model, part: Any, weights: str | Path, *, top: bool = False) -> None:
    """Fill an encoder with trained weights, strictly: every tensor has to fit.

    Args:
        model: The encoder.
        part: It was made of.
        weights: As in `build_encoder`.
        top: Whether the model is a whole classifier, the encoder with the part's `top`, of a file of PyTorch.

    Raises:
        ValueError: there are no weights of that name for `part`, or the file does not fit the architecture.
        FileNotFoundError: there is no file at `weights`.
        OSError: the weights could not be downloaded.
    """
    if not isinstance(weights, (str, Path)):
        raise ValueError(
            "`weights` must be None, the name of weights such as 'imagenet', or the path of a file; received "
            f"{weights!r}."
        )
    path = Path(weights) if _is_path(weights) else _download(part, str(weights))
    kinds = [(WEIGHTS_SUFFIX, not top), (CLASSIFIER_SUFFIX, not top and hasattr(part, "load_pretrained"))]
    kinds += [(suffix, hasattr(part, "module_of")) for suffix in tensors.SUFFIXES]
    taken = tuple(suffix for suffix, fits in kinds if fits)
    if not path.name.endswith(taken):
        raise ValueError(f"weights={str(weights)!r}: this encoder takes files that end in {', '.join(taken)}.")
    if not path.is_file():
        raise FileNotFoundError(f"weights={str(weights)!r}: there is no such file.")
    if path.name.endswith(tensors.SUFFIXES):
        _load_tensors(model, part, path, top=top)
        return
    try:
        if not path.name.endswith(WEIGHTS_SUFFIX):
            part.load_pretrained(model, path)
            return
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # Keras only warns of layers that the file does not have
            model.load_weights(path)
    except (ValueError, OSError, KeyError, UserWarning) as error:
        raise ValueError(f"{path.name} does not hold the weights of this encoder: {error}") from error


def _is_path(weights: str | Path) -> bool:
    """Whether a file is meant: names of weights have no slash and none of the endings."""
    endings = (WEIGHTS_SUFFIX, CLASSIFIER_SUFFIX, *tensors.SUFFIXES)
    return isinstance(weights, Path) or weights.endswith(endings) or "/" in weights or os.sep in weights


def _download(part: Any, weights: str) -> Path:
    from kerazoo.encoders import ENCODERS  # which is made of modules that import this one

    arch = next((name for name, variant in ENCODERS.items() if variant == part), None)
    return download.fetch(catalog.find(arch, weights))


def _load_tensors(model: keras.Model, part: Any, path: Path, *, top: bool) -> None:
    """Fill a model whose layers follow the names of PyTorch; an encoder leaves classifier and deeper levels over."""
    found = tensors.read(path)
    if hasattr(part, "tensor_name"):
        found = found.renamed(part.tensor_name)
    deeper = getattr(part, "modules_beyond", lambda depth: ())(len(model.outputs))
    tensors.assign(
        model,
        found,
        part.module_of,
        allow_unexpected=() if top else (*CLASSIFIERS, *(f"{module}.*" for module in deeper)),
        fit_stem=adapt_stem,
        source=path.name,
    )


def strides(model: keras.Model) -> list[int]:
    """Measure the stride of every output of an encoder, from shapes.

    Args:
        model: Model from `(B, H, W, C)` to a list of maps, of any or of fixed size.

    Returns: strides in the order of the outputs.

    Raises:
        ValueError: an output's rows do not divide the input's: the encoder has no exact strides.
    """
    shape = model.input_shape
    size = [n or math.lcm(256, 7 * 9 * 5) for n in shape[1:3]]
    outputs = model.outputs
    if any(None in output.shape[1:3] for output in outputs):
        outputs = model.compute_output_spec(keras.KerasTensor((1, *size, shape[3]), dtype="float32"))
        outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
    return [_stride(size, output.shape[1:3]) for output in outputs]


def _stride(size: list[int], rows: tuple[int, ...]) -> int:
    """The stride that gives ceil(size / stride) rows and columns; a power of two where a small size leaves a choice."""
    sides = list(zip(size, rows, strict=True))
    least = max(-(-n // r) for n, r in sides)
    most = min((n - 1) // (r - 1) if r > 1 else 2 * n for n, r in sides)
    if least > most:
        raise ValueError(
            f"An encoder's output is {rows} for an image of {tuple(size)}: that is no exact stride. Where a family has "
            'the choice (KerasHub\'s CSPNet: stem_padding="same"), take the padding that keeps strides exact.'
        )
    return next((s for s in range(least, most + 1) if s & (s - 1) == 0), least)


def padded_shape(image_shape: tuple[int | None, int | None, int], multiple: int) -> tuple[int | None, int | None, int]:
    """Shape of an image after padding to `multiple`; sizes None stay None."""
    height, width = (None if n is None else -(-n // multiple) * multiple for n in image_shape[:2])
    return height, width, image_shape[2]


def outside_levels(backbone: Any) -> dict[str, Tensor] | None:
    """Levels by name of a model with `pyramid_outputs` (KerasHub) or `pyramid_level_inputs` (KerasCV), else None."""
    if hasattr(backbone, "pyramid_outputs"):
        return backbone.pyramid_outputs
    if hasattr(backbone, "pyramid_level_inputs"):  # names of layers
        return {name: backbone.get_layer(layer).output for name, layer in backbone.pyramid_level_inputs.items()}
    return None


def pyramid_features(
    backbone: Any, image_shape: tuple[int | None, int | None, int], *, pad: bool
) -> tuple[keras.Model, tuple[int, ...]]:
    """Turn a backbone that `outside_levels` knows the levels of into an encoder.

    Strides are measured from shapes: families number their levels differently.

    Args:
        backbone: The object.
        image_shape: `(height, width, channels)`, sizes None where the backbone takes any.
        pad: Whether images come padded to a multiple of the coarsest stride.

    Returns: a model named "encoder" with the list of levels, fine to coarse, and their strides.

    Raises:
        ValueError: the backbone has no levels, takes another number of channels than `image_shape` has, was built for
            another size or for one that its strides do not divide, or has outputs that are no maps or have no exact
            stride.
    """
    shape = check_image_shape(image_shape)
    channels = backbone.input_shape[-1]
    if channels != shape[2]:
        raise ValueError(
            f"The backbone {backbone.name!r} takes {channels} channels, image_shape={image_shape} has {shape[2]}."
        )
    outputs = outside_levels(backbone)
    if not outputs:
        raise ValueError(f"The backbone {backbone.name!r} has no levels: its `pyramid_outputs` are empty.")
    for name, output in outputs.items():
        if len(output.shape) != 4:
            raise ValueError(
                f"The backbone {backbone.name!r} has no maps: {name!r} is {tuple(output.shape)}, and levels are "
                "(batch, height, width, channels). Reshape the tokens of a vision transformer first."
            )
    pyramid = keras.Model(backbone.inputs, list(outputs.values()), name="pyramid")
    levels = sorted(
        (Level(stride, position) for position, stride in enumerate(strides(pyramid))), key=lambda level: level.stride
    )
    built_for = backbone.input_shape[1:3]
    if any(n is not None and n % level.stride for n in built_for for level in levels):
        raise ValueError(
            f"The backbone {backbone.name!r} was built for images of {built_for}, which its strides do not divide. "
            "Build it for a multiple of 32, or for any size."
        )
    shape = padded_shape(shape, levels[-1].stride if pad else 1)
    for built, wanted in zip(built_for, shape[:2], strict=True):
        if built is not None and built != wanted:
            raise ValueError(
                f"The backbone {backbone.name!r} was built for images of {built_for}, and would get "
                f"{shape[:2]}. Pass image_shape={backbone.input_shape[1:]}, or build it for any size."
            )
    image = keras.Input(shape, name="image")
    maps = pyramid(image)
    maps = maps if isinstance(maps, (list, tuple)) else [maps]
    model = keras.Model(image, [maps[level.tensor] for level in levels], name="encoder")
    return model, tuple(level.stride for level in levels)
