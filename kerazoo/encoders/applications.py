"""Encoders from `keras.applications`: any of its classifiers as a feature pyramid.

The classifier is built once without its top, recorded as data, and wired again on the image: without the normalization
inside (which depends on the weights that were asked for), with the levels that `graph.pyramid` finds, with dilation if
a smaller output stride is wanted, with as many input channels as the image has. Layers keep the family's names.
"""

import contextlib
import dataclasses
import functools
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from kerazoo.arguments import did_you_mean
from kerazoo.encoders.dilation import dilate
from kerazoo.encoders.graph import Node, pyramid, trace, wire, without_preprocessing
from kerazoo.encoders.preprocessing import normalize
from kerazoo.encoders.stem import adapt_stem
from kerazoo.encoders.switches import check_undilated, remember_maxima
from kerazoo.encoders.weights import CLASSIFIER_SUFFIX, misfit
from kerazoo.layers import CropLike, PadToMultiple
from kerazoo.types import BY_128, CAFFE, MINUS_ONE_TO_ONE, TORCH, Encoder, Features, Level, Preprocessing, Tensor

SIZE = 224
"""Image size that families are recorded at: a multiple of 32 that every family has ImageNet weights for."""

COLORS = 3

_NASNET = (
    "its cells read the two cells before them, so no single tensor per stride carries the features, and its first "
    "convolution leaves 111 rows of 224: it has no pyramid of exact strides. Take an EfficientNet of the same size"
)

REFUSED = {"NASNetMobile": _NASNET, "NASNetLarge": _NASNET}
"""Functions of `keras.applications` that cannot be encoders, and why."""


@dataclass(frozen=True, kw_only=True)
class Application(Encoder):
    """A classifier of `keras.applications` as an encoder.

    Args:
        arch: Name in the catalog of pretrained weights, None for an encoder of your own making.
        function: Name of the function of `keras.applications`, such as "VGG16".
        preprocessing: What the family's `preprocess_input`, or the preprocessing inside its models, does to raw images
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

    arch: str | None = None
    function: str
    preprocessing: Preprocessing
    same_padding: bool = False
    dilatable: bool = True
    alpha: float | None = None
    minimalistic: bool = False
    taps: str | None = None

    pad_multiple = 32
    weight_suffixes = (CLASSIFIER_SUFFIX,)

    def __post_init__(self):
        if self.function in REFUSED:
            raise ValueError(f"keras.applications.{self.function} cannot be an encoder: {REFUSED[self.function]}.")
        if not self.function[:1].isupper() or not callable(getattr(keras.applications, self.function, None)):
            raise ValueError(
                f"`function` must be the name of a classifier in keras.applications, received {self.function!r}."
                f"{did_you_mean(self.function, dir(keras.applications))}"
            )

    @property
    def output_strides(self) -> tuple[int, ...]:
        """Output strides that the family has."""
        return (32, 16, 8) if self.dilatable else (32,)

    def preprocess(self, image: Tensor) -> Tensor:
        return normalize(image, self.preprocessing)

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
        nodes = recorded(dataclasses.replace(self, arch=None, taps=None))  # neither changes the graph
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
        try:
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
        except (ValueError, OSError, KeyError) as error:
            raise misfit(path, error) from error

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
    str(part.arch): part
    for part in (
        Application(arch="vgg16", function="VGG16", preprocessing=CAFFE),
        Application(arch="vgg19", function="VGG19", preprocessing=CAFFE),
        Application(arch="resnet50v2", function="ResNet50V2", preprocessing=MINUS_ONE_TO_ONE),
        Application(arch="resnet101v2", function="ResNet101V2", preprocessing=MINUS_ONE_TO_ONE),
        Application(arch="resnet152v2", function="ResNet152V2", preprocessing=MINUS_ONE_TO_ONE),
        Application(arch="densenet121", function="DenseNet121", preprocessing=TORCH),
        Application(arch="densenet169", function="DenseNet169", preprocessing=TORCH),
        Application(arch="densenet201", function="DenseNet201", preprocessing=TORCH),
        Application(arch="mobilenet", function="MobileNet", preprocessing=MINUS_ONE_TO_ONE),
        Application(arch="mobilenet_025", function="MobileNet", preprocessing=MINUS_ONE_TO_ONE, alpha=0.25),
        Application(arch="mobilenet_050", function="MobileNet", preprocessing=MINUS_ONE_TO_ONE, alpha=0.5),
        Application(arch="mobilenet_075", function="MobileNet", preprocessing=MINUS_ONE_TO_ONE, alpha=0.75),
        Application(arch="mobilenetv2", function="MobileNetV2", preprocessing=MINUS_ONE_TO_ONE),
        Application(arch="mobilenetv2_035", function="MobileNetV2", preprocessing=MINUS_ONE_TO_ONE, alpha=0.35),
        Application(arch="mobilenetv2_050", function="MobileNetV2", preprocessing=MINUS_ONE_TO_ONE, alpha=0.5),
        Application(arch="mobilenetv2_075", function="MobileNetV2", preprocessing=MINUS_ONE_TO_ONE, alpha=0.75),
        Application(arch="mobilenetv2_130", function="MobileNetV2", preprocessing=MINUS_ONE_TO_ONE, alpha=1.3),
        Application(arch="mobilenetv2_140", function="MobileNetV2", preprocessing=MINUS_ONE_TO_ONE, alpha=1.4),
        Application(arch="mobilenetv3_small", function="MobileNetV3Small", preprocessing=MINUS_ONE_TO_ONE),
        Application(
            arch="mobilenetv3_small_075", function="MobileNetV3Small", preprocessing=MINUS_ONE_TO_ONE, alpha=0.75
        ),
        Application(
            arch="mobilenetv3_small_minimalistic",
            function="MobileNetV3Small",
            preprocessing=MINUS_ONE_TO_ONE,
            minimalistic=True,
        ),
        Application(arch="mobilenetv3_large", function="MobileNetV3Large", preprocessing=MINUS_ONE_TO_ONE),
        Application(
            arch="mobilenetv3_large_075", function="MobileNetV3Large", preprocessing=MINUS_ONE_TO_ONE, alpha=0.75
        ),
        Application(
            arch="mobilenetv3_large_minimalistic",
            function="MobileNetV3Large",
            preprocessing=MINUS_ONE_TO_ONE,
            minimalistic=True,
        ),
        Application(arch="efficientnetb0", function="EfficientNetB0", preprocessing=TORCH),
        Application(arch="efficientnetb1", function="EfficientNetB1", preprocessing=TORCH),
        Application(arch="efficientnetb2", function="EfficientNetB2", preprocessing=TORCH),
        Application(arch="efficientnetb3", function="EfficientNetB3", preprocessing=TORCH),
        Application(arch="efficientnetb4", function="EfficientNetB4", preprocessing=TORCH),
        Application(arch="efficientnetb5", function="EfficientNetB5", preprocessing=TORCH),
        Application(arch="efficientnetb6", function="EfficientNetB6", preprocessing=TORCH),
        Application(arch="efficientnetb7", function="EfficientNetB7", preprocessing=TORCH),
        Application(arch="efficientnetv2_b0", function="EfficientNetV2B0", preprocessing=TORCH),
        Application(arch="efficientnetv2_b1", function="EfficientNetV2B1", preprocessing=TORCH),
        Application(arch="efficientnetv2_b2", function="EfficientNetV2B2", preprocessing=TORCH),
        Application(arch="efficientnetv2_b3", function="EfficientNetV2B3", preprocessing=TORCH),
        Application(arch="efficientnetv2_s", function="EfficientNetV2S", preprocessing=BY_128),
        Application(arch="efficientnetv2_m", function="EfficientNetV2M", preprocessing=BY_128),
        Application(arch="efficientnetv2_l", function="EfficientNetV2L", preprocessing=BY_128),
        Application(arch="convnext_tiny", function="ConvNeXtTiny", preprocessing=TORCH),
        Application(arch="convnext_small", function="ConvNeXtSmall", preprocessing=TORCH),
        Application(arch="convnext_base", function="ConvNeXtBase", preprocessing=TORCH),
        Application(arch="convnext_large", function="ConvNeXtLarge", preprocessing=TORCH),
        Application(arch="convnext_xlarge", function="ConvNeXtXLarge", preprocessing=TORCH),
        Application(arch="xception", function="Xception", preprocessing=MINUS_ONE_TO_ONE, same_padding=True),
        Application(
            arch="inceptionv3",
            function="InceptionV3",
            preprocessing=MINUS_ONE_TO_ONE,
            same_padding=True,
            dilatable=False,
        ),
        Application(
            arch="inceptionresnetv2",
            function="InceptionResNetV2",
            preprocessing=MINUS_ONE_TO_ONE,
            same_padding=True,
            dilatable=False,
        ),
    )
}
