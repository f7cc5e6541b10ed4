"""Encoders from `keras.applications`: any of its classifiers as a feature pyramid.

The classifier is built once without its top, recorded as data, and wired again on the image: without the normalization
inside (which depends on the weights that were asked for), with the levels that `graph.pyramid` finds, with dilation if
a smaller output stride is wanted, with as many input channels as the image has. Layers keep the family's names.
"""

import contextlib
import difflib
import functools
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import keras

from kerazoo.encoders.dilation import dilate
from kerazoo.encoders.graph import Node, pyramid, trace, wire, without_preprocessing
from kerazoo.encoders.preprocessing import IMAGENET_MEAN, IMAGENET_STD, standardize
from kerazoo.encoders.stem import adapt_stem
from kerazoo.encoders.switches import check_undilated, remember_maxima
from kerazoo.layers import CropLike, PadToMultiple, ReverseColors
from kerazoo.types import Features, Level, Tensor

SIZE = 224
"""Image size that families are recorded at: a multiple of 32 that every family has ImageNet weights for."""

COLORS = 3

_NASNET = (
    "its cells read the two cells before them, so no single tensor per stride carries the features, and its first "
    "convolution leaves 111 rows of 224: it has no pyramid of exact strides. Take an EfficientNet of the same size"
)

REFUSED = {"NASNetMobile": _NASNET, "NASNetLarge": _NASNET}
"""Functions of `keras.applications` that cannot be encoders, and why."""


class Normalization(NamedTuple):
    """What a family does to raw images: `(image / 255 - mean) / std`, per color.

    Attributes:
        mean: One per color, in the order of the network.
        std: One per color.
        bgr: Whether the network takes blue, green, red.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    bgr: bool = False


TORCH = Normalization(IMAGENET_MEAN, IMAGENET_STD)
CAFFE = Normalization((103.939 / 255, 116.779 / 255, 123.68 / 255), (1 / 255,) * 3, bgr=True)
MINUS_ONE_TO_ONE = Normalization((0.5,) * 3, (0.5,) * 3)
BY_128 = Normalization((128 / 255,) * 3, (128 / 255,) * 3)


@dataclass(frozen=True, kw_only=True)
class Application:
    """A classifier of `keras.applications` as an encoder.

    Args:
        function: Name of the function of `keras.applications`, such as "VGG16".
        normalization: What the family's `preprocess_input`, or the preprocessing inside its models, does to raw images
            when ImageNet weights are asked for.
        same_padding: Whether to replace "valid" padding by "same". Families that shrink maps at every unpadded
            convolution (127, 125, 62 rows, …) have no exact strides otherwise. The weights fit; near borders the
            features are not exactly the family's own.
        dilatable: Whether strides can become dilation. Inception's parallel strided branches pad by different amounts,
            so no dilated graph gives the same features.
        alpha: Width multiplier of a MobileNet, None for the family's default.
        minimalistic: Whether a MobileNetV3 leaves out squeeze-and-excitation, hard swish and 5x5 kernels.
        taps: Regular expression for the names of the layers that levels are taken from; None takes the last layer of
            each stride, which in an EfficientNet is widened for the next block or the classifier. What no level needs
            is left out; the same weights fit.

    Call: `image` `(B, H, W, C)`, normalized as `preprocess` does; `output_stride` 32, or 16 or 8 for a `dilatable`
        family; `depth`, the number of levels to return, fine to coarse, None for all.
    Returns: levels at the strides that the family has: 1 to 32 (VGG), 4 to 32 (ConvNeXt), 2 to 32 (all others); each
        with ceil(H / stride) rows for every H, because images are padded to a multiple of 32 and the levels cropped.
    Raises: ValueError if the function is unknown or has no pyramid, or if it has no such `output_stride` or `depth`.
    """

    function: str
    normalization: Normalization
    same_padding: bool = False
    dilatable: bool = True
    alpha: float | None = None
    minimalistic: bool = False
    taps: str | None = field(default=None, compare=False)  # the family, and so its graph and weights, are the same

    pad_multiple = 32

    def __post_init__(self):
        if self.function in REFUSED:
            raise ValueError(f"keras.applications.{self.function} cannot be an encoder: {REFUSED[self.function]}.")
        if not self.function[:1].isupper() or not callable(getattr(keras.applications, self.function, None)):
            near = difflib.get_close_matches(self.function, dir(keras.applications))
            raise ValueError(
                f"`function` must be the name of a classifier in keras.applications, received {self.function!r}."
                f"{' Did you mean ' + ' or '.join(map(repr, near)) + '?' if near else ''}"
            )

    @property
    def output_strides(self) -> tuple[int, ...]:
        """Output strides that the family has."""
        return (32, 16, 8) if self.dilatable else (32,)

    def preprocess(self, image: Tensor) -> Tensor:
        """Normalize raw images in [0, 255] as the family does, whatever the weights.

        Args:
            image: `(B, H, W, C)`, any numeric dtype. One channel is taken for gray, others for repeated colors.

        Returns: `(B, H, W, C)` float32.
        """
        if self.normalization.bgr:
            image = ReverseColors(dtype="float32", name="preprocess_reverse_colors")(image)
        return standardize(image, mean=self.normalization.mean, std=self.normalization.std)

    def __call__(self, image: Tensor, *, output_stride: int = 32, depth: int | None = None) -> Features:
        if output_stride not in self.output_strides:
            raise ValueError(
                f"{self.function}'s `output_stride` is one of {self.output_strides}, received {output_stride}."
                + ("" if self.dilatable else " Its parallel strided branches cannot be dilated alike.")
            )
        nodes, taps = self._graph(depth)
        outputs = wire(nodes, self._padded(image), dilate(nodes, output_stride))
        levels = []
        for stride, index in taps.items():
            kept = min(stride, output_stride)
            levels.append(Level(kept, CropLike(stride=kept, name=f"s{stride}_crop")(outputs[index], image)))
        return tuple(levels)

    def with_switches(
        self, image: Tensor, *, output_stride: int = 32, depth: int | None = None
    ) -> tuple[Features, dict[int, Tensor]]:
        """Wire the encoder with poolings that remember where each maximum was; VGG has such poolings only.

        Args:
            image: `(B, H, W, C)`, normalized as `preprocess` does.
            output_stride: 32: a pooling that keeps the resolution has no switches.
            depth: Number of levels to return, None for all.

        Returns: the levels, and the switches of each pooling by the stride after it, as from `MaxPoolWithIndices`.

        Raises:
            ValueError: the family lowers the resolution by something else than max poolings that do not overlap, or
                `output_stride` or `depth` is not one of those.
        """
        check_undilated(self.function, output_stride)
        nodes, taps = self._graph(depth)
        change, switches = remember_maxima(self.function, nodes)
        outputs = wire(nodes, self._padded(image), change)
        levels = tuple(
            Level(stride, CropLike(stride=stride, name=f"s{stride}_crop")(outputs[index], image))
            for stride, index in taps.items()
        )
        cropped = {
            stride: CropLike(stride=stride, name=f"s{stride}_switches_crop")(switch, image)
            for stride, switch in switches.items()
        }
        return levels, cropped

    def _graph(self, depth: int | None) -> tuple[tuple[Node, ...], dict[int, int]]:
        """The nodes that the first `depth` levels need, and the index of each level's node by its stride."""
        nodes = recorded(self)
        taps = pyramid(nodes, SIZE, self.taps)
        if not taps:
            raise ValueError(f"No layer of {self.function} that could be a level matches taps={self.taps!r}.")
        if depth is not None and not 1 <= depth <= len(taps):
            raise ValueError(f"{self.function} has 1 to {len(taps)} levels, received depth={depth}.")
        taps = dict(list(taps.items())[:depth])
        return nodes[: 1 + max(taps.values())], taps

    def _padded(self, image: Tensor) -> Tensor:
        return PadToMultiple(self.pad_multiple, dtype="float32", name="s1_pad")(image)

    def load_pretrained(self, model: keras.Model, path: Path) -> None:
        """Copy the family's weights into an encoder built by this part.

        Args:
            model: With any number of input channels; the first convolution is adapted by `stem.adapt_stem`.
            path: Of a file for `keras.applications`' model without top (`include_top=False`).

        Raises:
            ValueError: a tensor of the model gets no value, or one of another shape.
        """
        recorded_nodes, layers = trace(self.classifier(path))
        nodes = without_preprocessing(recorded_nodes)
        donors = {node.name: donor for node, donor in zip(nodes, layers[-len(nodes) :], strict=True)}
        stem = next(name for name, donor in donors.items() if donor.weights)  # padding may come before it
        for layer in model.layers:
            if not layer.weights:
                continue
            if layer.name not in donors:
                raise ValueError(f"keras.applications.{self.function} has no weights for the layer {layer.name!r}.")
            values = donors[layer.name].get_weights()
            if layer.name == stem:
                values[0] = adapt_stem(values[0], layer.weights[0].shape[2])
            layer.set_weights(values)

    def classifier(self, path: Path | None) -> keras.Model:
        """Keras's own model without top, for color images of `SIZE` rows; with the weights of a file if given."""
        options: dict[str, Any] = {"weights": None if path is None else str(path)}
        if self.alpha is not None:
            options["alpha"] = self.alpha
        if self.minimalistic:
            options["minimalistic"] = True
        build = getattr(keras.applications, self.function)
        with same_seeds():
            return build(include_top=False, input_shape=(SIZE, SIZE, COLORS), **options)


@contextlib.contextmanager
def same_seeds():
    """Leave Python's generator, which initializers draw their seeds from, as it was.

    Models that are only read must not change the random weights of the models that are built after them.
    """
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)


@functools.cache
def recorded(part: Application) -> tuple[Node, ...]:
    """The graph of a family from its normalized image on; kept, as building a classifier takes seconds."""
    model = part.classifier(None)
    if part.same_padding:
        with same_seeds():
            model = keras.models.clone_model(model, clone_function=_with_same_padding)
    nodes, _ = trace(model)
    return without_preprocessing(nodes)


def _with_same_padding(layer: keras.Layer) -> keras.Layer:
    config = layer.get_config()
    if config.get("padding") == "valid":
        config["padding"] = "same"
    return type(layer).from_config(config)


VARIANTS = {
    "vgg16": Application(function="VGG16", normalization=CAFFE),
    "vgg19": Application(function="VGG19", normalization=CAFFE),
    "resnet50v2": Application(function="ResNet50V2", normalization=MINUS_ONE_TO_ONE),
    "resnet101v2": Application(function="ResNet101V2", normalization=MINUS_ONE_TO_ONE),
    "resnet152v2": Application(function="ResNet152V2", normalization=MINUS_ONE_TO_ONE),
    "densenet121": Application(function="DenseNet121", normalization=TORCH),
    "densenet169": Application(function="DenseNet169", normalization=TORCH),
    "densenet201": Application(function="DenseNet201", normalization=TORCH),
    "mobilenet": Application(function="MobileNet", normalization=MINUS_ONE_TO_ONE),
    "mobilenet_025": Application(function="MobileNet", normalization=MINUS_ONE_TO_ONE, alpha=0.25),
    "mobilenet_050": Application(function="MobileNet", normalization=MINUS_ONE_TO_ONE, alpha=0.5),
    "mobilenet_075": Application(function="MobileNet", normalization=MINUS_ONE_TO_ONE, alpha=0.75),
    "mobilenetv2": Application(function="MobileNetV2", normalization=MINUS_ONE_TO_ONE),
    "mobilenetv2_035": Application(function="MobileNetV2", normalization=MINUS_ONE_TO_ONE, alpha=0.35),
    "mobilenetv2_050": Application(function="MobileNetV2", normalization=MINUS_ONE_TO_ONE, alpha=0.5),
    "mobilenetv2_075": Application(function="MobileNetV2", normalization=MINUS_ONE_TO_ONE, alpha=0.75),
    "mobilenetv2_130": Application(function="MobileNetV2", normalization=MINUS_ONE_TO_ONE, alpha=1.3),
    "mobilenetv2_140": Application(function="MobileNetV2", normalization=MINUS_ONE_TO_ONE, alpha=1.4),
    "mobilenetv3_small": Application(function="MobileNetV3Small", normalization=MINUS_ONE_TO_ONE),
    "mobilenetv3_small_075": Application(function="MobileNetV3Small", normalization=MINUS_ONE_TO_ONE, alpha=0.75),
    "mobilenetv3_small_minimalistic": Application(
        function="MobileNetV3Small", normalization=MINUS_ONE_TO_ONE, minimalistic=True
    ),
    "mobilenetv3_large": Application(function="MobileNetV3Large", normalization=MINUS_ONE_TO_ONE),
    "mobilenetv3_large_075": Application(function="MobileNetV3Large", normalization=MINUS_ONE_TO_ONE, alpha=0.75),
    "mobilenetv3_large_minimalistic": Application(
        function="MobileNetV3Large", normalization=MINUS_ONE_TO_ONE, minimalistic=True
    ),
    "efficientnetb0": Application(function="EfficientNetB0", normalization=TORCH),
    "efficientnetb1": Application(function="EfficientNetB1", normalization=TORCH),
    "efficientnetb2": Application(function="EfficientNetB2", normalization=TORCH),
    "efficientnetb3": Application(function="EfficientNetB3", normalization=TORCH),
    "efficientnetb4": Application(function="EfficientNetB4", normalization=TORCH),
    "efficientnetb5": Application(function="EfficientNetB5", normalization=TORCH),
    "efficientnetb6": Application(function="EfficientNetB6", normalization=TORCH),
    "efficientnetb7": Application(function="EfficientNetB7", normalization=TORCH),
    "efficientnetv2_b0": Application(function="EfficientNetV2B0", normalization=TORCH),
    "efficientnetv2_b1": Application(function="EfficientNetV2B1", normalization=TORCH),
    "efficientnetv2_b2": Application(function="EfficientNetV2B2", normalization=TORCH),
    "efficientnetv2_b3": Application(function="EfficientNetV2B3", normalization=TORCH),
    "efficientnetv2_s": Application(function="EfficientNetV2S", normalization=BY_128),
    "efficientnetv2_m": Application(function="EfficientNetV2M", normalization=BY_128),
    "efficientnetv2_l": Application(function="EfficientNetV2L", normalization=BY_128),
    "convnext_tiny": Application(function="ConvNeXtTiny", normalization=TORCH),
    "convnext_small": Application(function="ConvNeXtSmall", normalization=TORCH),
    "convnext_base": Application(function="ConvNeXtBase", normalization=TORCH),
    "convnext_large": Application(function="ConvNeXtLarge", normalization=TORCH),
    "convnext_xlarge": Application(function="ConvNeXtXLarge", normalization=TORCH),
    "xception": Application(function="Xception", normalization=MINUS_ONE_TO_ONE, same_padding=True),
    "inceptionv3": Application(
        function="InceptionV3", normalization=MINUS_ONE_TO_ONE, same_padding=True, dilatable=False
    ),
    "inceptionresnetv2": Application(
        function="InceptionResNetV2", normalization=MINUS_ONE_TO_ONE, same_padding=True, dilatable=False
    ),
}
