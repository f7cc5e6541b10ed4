"""Augmentation of images and masks together, on Keras's own preprocessing layers.

What Keras 3.15 does to masks is not taken on trust:

- `fill_value` is for images and masks alike there; here a mask is filled with the background or the ignored class.
- `RandomElasticTransform` draws another displacement for the mask than for the image, and `RandomShear` cannot be made
  again from its configuration; both are refused. `elastic` is our own.
- A scalar factor makes `RandomContrast` only ever raise the contrast; `contrast` goes both ways.
- Layers count their draws in a variable, so parallel calls are not reproducible; here every batch brings its own seed.

Images are in 0-255, whatever their dtype, or in the `value_range` of their source, to which values that are given for
0-255 (`fill_value`, and the ranges of layers) are carried over. The geometry changes masks by the nearest pixel, so
that no new id appears, and brightness, contrast, gamma and noise leave them alone.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import keras

from kerazoo.data.batches.warps import Crop, RandomCutMix, RandomElastic
from kerazoo.data.sample import VALUE_RANGE
from kerazoo.registry import Registry

_GEOMETRY = ("RandomFlip", "RandomRotation", "RandomZoom", "RandomTranslation", "RandomPerspective")
_INTENSITY = (
    "AutoContrast", "Equalization", "RandomBrightness", "RandomColorDegeneration", "RandomColorJitter",
    "RandomContrast", "RandomGaussianBlur", "RandomGrayscale", "RandomHue", "RandomInvert", "RandomPosterization",
    "RandomSaturation", "RandomSharpness", "Solarization",
)  # fmt: skip


def flip() -> keras.layers.Layer:
    """Mirror left and right, in half of the images."""
    return keras.layers.RandomFlip("horizontal")


def flip_vertical() -> keras.layers.Layer:
    """Mirror top and bottom, in half of the images."""
    return keras.layers.RandomFlip("vertical")


def rotate(*, degrees: float = 15.0, fill_value: float = 0.0) -> keras.layers.Layer:
    """Turn about the center by up to `degrees` either way; image pixels from outside are `fill_value`, 0-255."""
    return keras.layers.RandomRotation(degrees / 360, fill_mode="constant", fill_value=fill_value)


def zoom(*, factor: float = 0.2, fill_value: float = 0.0) -> keras.layers.Layer:
    """Shrink or enlarge about the center by up to `factor`, < 1, in proportion; outside is `fill_value`, 0-255."""
    return keras.layers.RandomZoom(factor, fill_mode="constant", fill_value=fill_value)


def shift(*, factor: float = 0.1, fill_value: float = 0.0) -> keras.layers.Layer:
    """Move by up to `factor` of the height and of the width, either way; what comes in is `fill_value`, 0-255."""
    return keras.layers.RandomTranslation(factor, factor, fill_mode="constant", fill_value=fill_value)


def brightness(*, factor: float = 0.15) -> keras.layers.Layer:
    """Add up to `factor` × 255, either way; clipped to 0-255."""
    return keras.layers.RandomBrightness(factor, value_range=VALUE_RANGE)


def contrast(*, factor: float = 0.25) -> keras.layers.Layer:
    """Scale the deviation from the image's mean by 1 - `factor` to 1 + `factor`; clipped to 0-255."""
    return keras.layers.RandomContrast((factor, factor), value_range=VALUE_RANGE)


@keras.saving.register_keras_serializable("kerazoo")
class RandomGamma(keras.layers.RandomBrightness):
    """Raises intensities, as shares of 255, to a power: 255 · (x / 255)^γ, γ log-uniform, one for each image.

    Args:
        factor: γ is between 1 / (1 + `factor`) and 1 + `factor`; 0 < `factor` ≤ 1.
    """

    def get_random_transformation(self, data: Any, training: bool = True, seed: Any = None) -> dict[str, Any]:
        """Draw `gamma`, `(B, 1, 1, 1)`."""
        ops = self.backend
        images = data["images"] if isinstance(data, dict) else data
        shape = (ops.shape(images)[0], 1, 1, 1) if len(images.shape) == 4 else (1, 1, 1)
        high = ops.numpy.log(1.0 + self.factor[1])
        if not training:
            return {"gamma": ops.numpy.ones(shape)}
        seed = self._get_seed_generator(ops.name) if seed is None else seed
        return {"gamma": ops.numpy.exp(ops.random.uniform(shape, minval=-high, maxval=high, seed=seed))}

    def transform_images(self, images: Any, transformation: dict[str, Any], training: bool = True) -> Any:
        """Apply the power to intensities clipped to 0-255."""
        low, high = self.value_range
        share = (self.backend.numpy.clip(images, low, high) - low) / (high - low)
        return low + (high - low) * share ** transformation["gamma"]


@keras.saving.register_keras_serializable("kerazoo")
class RandomNoise(keras.layers.RandomBrightness):
    """Adds Gaussian noise, clipped to 0-255; its deviation is uniform between 0 and `factor` × 255 for each image.

    Args:
        factor: Greatest standard deviation, as share of 255.
    """

    def get_random_transformation(self, data: Any, training: bool = True, seed: Any = None) -> dict[str, Any]:
        """Draw `noise`, of the images' shape."""
        ops = self.backend
        images = data["images"] if isinstance(data, dict) else data
        each = (ops.shape(images)[0], 1, 1, 1) if len(images.shape) == 4 else (1, 1, 1)
        if not training:
            return {"noise": ops.numpy.zeros(each)}
        seed = self._get_seed_generator(ops.name) if seed is None else seed
        scale = self.value_range[1] - self.value_range[0]
        deviation = ops.random.uniform(each, maxval=self.factor[1] * scale, seed=seed)
        return {"noise": deviation * ops.random.normal(ops.shape(images), seed=seed)}

    def transform_images(self, images: Any, transformation: dict[str, Any], training: bool = True) -> Any:
        """Add the noise."""
        return self.backend.numpy.clip(images + transformation["noise"], *self.value_range)


def gamma(*, factor: float = 0.3) -> keras.layers.Layer:
    """Raise intensities to a power between 1 / (1 + `factor`) and 1 + `factor`."""
    return RandomGamma(factor, value_range=VALUE_RANGE)


def noise(*, factor: float = 0.04) -> keras.layers.Layer:
    """Add Gaussian noise of a deviation up to `factor` × 255."""
    return RandomNoise(factor, value_range=VALUE_RANGE)


def elastic(*, factor: float = 0.04, cells: int = 4, fill_value: float = 0.0) -> keras.layers.Layer:
    """Bend by a smooth random field: a grid of `cells`, moved by about `factor`; outside is `fill_value`, 0-255."""
    return RandomElastic(factor, cells=cells, fill_value=fill_value)


def crop(*, size: tuple[int, int], foreground: float = 0.33, fill_value: float = 0.0) -> Crop:
    """Cut out a window of `size`; the share `foreground` of the windows shows some, if the image has any.

    It comes first in `augment` and takes images of any sizes; smaller ones get `fill_value`, 0-255, around them.
    """
    return Crop(size=(size[0], size[1]), foreground=foreground, fill_value=fill_value)


def cutmix(*, factor: float = 0.5) -> keras.layers.Layer:
    """Paste a rectangle of another image of the batch, and of its mask, into the share `factor` of the images."""
    return RandomCutMix(factor, value_range=VALUE_RANGE)


AUGMENTATIONS = Registry(
    "augmentation",
    {
        "brightness": brightness,
        "contrast": contrast,
        "crop": crop,
        "cutmix": cutmix,
        "elastic": elastic,
        "flip": flip,
        "flip_vertical": flip_vertical,
        "gamma": gamma,
        "noise": noise,
        "rotate": rotate,
        "shift": shift,
        "zoom": zoom,
    },
)

list = AUGMENTATIONS.list
create = AUGMENTATIONS.create

__all__ = [
    "AUGMENTATIONS",
    "Augmenter",
    "brightness",
    "contrast",
    "create",
    "crop",
    "cutmix",
    "elastic",
    "flip",
    "flip_vertical",
    "gamma",
    "list",
    "noise",
    "rotate",
    "shift",
    "zoom",
]


class Augmenter:
    """Applies augmentations, one after the other, to a batch of images and their masks.

    Args:
        augment: Names of the registry, or Keras layers: those of the registry with parameters (`rotate(degrees=30)`),
            or `keras.layers.Random…` of which it is known what they do to masks. A `crop` comes first.
        mask_fill: Id that a mask gets where the geometry brings in what was outside the image.
        masks: There are masks.
        value_range: Black and white of the images, if they are float32.

    Attributes:
        crop: The `Crop`, which is for the caller to apply before there is a batch; or None.

    Call: TensorFlow tensors: `images` `(B, H, W, C)` uint8 or float32, `masks` `(B, H, W)` integer or None,
        `seed` `(2,)` int32.
    Returns: images and masks; shapes and dtypes are kept, uint8 images are rounded and clipped.

    Raises:
        ValueError: a name is unknown, a layer is not known to keep masks aligned, a crop does not come first, or there
            are no masks and an augmentation needs them.
        TypeError: an item is neither a name nor a Keras layer.
    """

    def __init__(
        self,
        augment: Sequence[str | keras.layers.Layer | Crop],
        *,
        mask_fill: int = 0,
        masks: bool = True,
        value_range: tuple[float, float] = VALUE_RANGE,
    ):
        items = [create(item) if isinstance(item, str) else item for item in augment]
        crop = items[0] if items and isinstance(items[0], Crop) else None
        self.crop = None if crop is None else replace(crop, fill_value=_rescaled(crop.fill_value, value_range))
        layers = items if crop is None else items[1:]
        for layer in layers:
            _check(layer)
        needed = [type(layer).__name__ for layer in layers if isinstance(layer, RandomCutMix)]
        if crop is not None and crop.foreground > 0:
            needed.append("crop(foreground > 0)")
        if needed and not masks:
            raise ValueError(
                f'{" and ".join(needed)} in `augment` need masks, and outputs="label" opens none. Leave them out, or '
                "ask for the mask too."
            )
        self._steps = [(_for_images(layer, value_range), _for_masks(layer, mask_fill)) for layer in layers]

    def __call__(self, images: Any, masks: Any, seed: Any) -> tuple[Any, Any]:
        if not self._steps:
            return images, masks
        ops = self._steps[0][0].backend
        pixels = ops.cast(images, "float32")
        ids = None if masks is None else ops.cast(ops.numpy.expand_dims(masks, -1), "float32")
        source = _Seeds(seed)
        for layer, mask_layer in self._steps:
            transformation = layer.get_random_transformation(pixels, training=True, seed=source)
            pixels = layer.transform_images(pixels, transformation, training=True)
            if ids is not None and mask_layer is not None:
                ids = mask_layer.transform_images(ids, transformation, training=True)
        if keras.backend.standardize_dtype(images.dtype) == "uint8":
            pixels = ops.cast(ops.numpy.round(ops.numpy.clip(pixels, *VALUE_RANGE)), "uint8")
        if ids is not None and masks is not None:
            masks = ops.cast(ops.numpy.squeeze(ids, -1), keras.backend.standardize_dtype(masks.dtype))
        return pixels, masks


class _Seeds(keras.random.SeedGenerator):
    """Gives the draws of one batch their seeds: a pure function of the batch's own, without a variable."""

    def __init__(self, seed: Any):
        self._seed, self._drawn = seed, 0

    def next(self, ordered: bool = True) -> Any:
        self._drawn += 1
        return self._seed + (0, self._drawn)  # noqa: RUF005 a tensor, not a list


def _copy(layer: keras.layers.Layer, **changes: Any) -> Any:
    """A copy of our own, in float32 whatever the policy, that computes with TensorFlow whatever the backend."""
    twin: Any = type(layer).from_config({**layer.get_config(), "dtype": "float32", **changes})
    twin.backend.set_backend("tensorflow")
    return twin


def _for_images(layer: keras.layers.Layer, value_range: tuple[float, float]) -> Any:
    """What the layer is for images of a range; one that was made for another range than 0-255 keeps it."""
    config = layer.get_config()
    changes: dict[str, Any] = {}
    if config.get("value_range") is not None and tuple(config["value_range"]) == VALUE_RANGE:
        changes["value_range"] = value_range
    if "fill_value" in config:
        changes["fill_value"] = _rescaled(config["fill_value"], value_range)
    return _copy(layer, **changes)


def _rescaled(value: float, value_range: tuple[float, float]) -> float:
    """What a value of 0-255 is in another range."""
    low, high = value_range
    return value if value_range == VALUE_RANGE else low + (high - low) * value / VALUE_RANGE[1]


def _for_masks(layer: keras.layers.Layer, fill: int) -> Any:
    """What the layer is for a mask: nearest pixel and the mask's own fill; None if it leaves masks alone."""
    if type(layer).__name__ not in _GEOMETRY and not isinstance(layer, (RandomElastic, RandomCutMix)):
        return None
    config = layer.get_config()
    own = {"interpolation": "nearest", "fill_value": float(fill)}
    return _copy(layer, **{key: value for key, value in own.items() if key in config})


_OWN = (RandomGamma, RandomNoise, RandomElastic, RandomCutMix)


def _check(layer: Any) -> None:
    name = type(layer).__name__
    if isinstance(layer, Crop):
        raise ValueError("A crop must be the first of `augment`: it makes images of one size for the others.")
    if not isinstance(layer, keras.layers.Layer):
        raise TypeError(
            f"`augment` takes names ({', '.join(AUGMENTATIONS)}) or Keras layers, received {layer!r} of type {name}."
        )
    if name not in (*_GEOMETRY, *_INTENSITY) and not isinstance(layer, _OWN):
        raise ValueError(
            f"`augment` has a {name}, of which it is not known that image and mask stay aligned. Take one of "
            f"{', '.join((*_GEOMETRY, *_INTENSITY))}, or a name: {', '.join(AUGMENTATIONS)}."
        )
