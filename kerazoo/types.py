"""What passes between the parts of a model, and what a part may have: its protocol, with every default.

A part is any object with a protocol's `__call__`; one that derives from the protocol has the rest by default.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

Tensor = Any  # a tensor or KerasTensor of whichever backend Keras runs on
Model = Any  # a keras.Model; this module imports nothing


class Level(NamedTuple):
    """One level of a feature pyramid.

    Attributes:
        stride: Input pixels per row of `tensor`.
        tensor: `(B, ceil(H / stride), ceil(W / stride), C)`, floating point.
    """

    stride: int
    tensor: Tensor


Features = tuple[Level, ...]
"""Levels of a pyramid, ordered fine to coarse. Strides need not double and may repeat."""

Switches = Mapping[int, Tensor]
"""Where each maximum of a max pooling was, as `MaxPoolWithIndices` says it, by the stride after the pooling."""

AUX_PREFIX = "aux_"
"""How the names of the outputs for deep supervision begin: their targets are masks, and only training needs them."""


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """What a network was trained to see of a raw image in [0, 255]: `(scale * image - mean) / std`, per color.

    Attributes:
        scale: Factor on the intensities.
        mean: One per color, in the order of the network.
        std: One per color.
        order: Of the colors that the network takes.
    """

    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    order: Literal["RGB", "BGR"] = "RGB"

    @property
    def range(self) -> tuple[float, float]:
        """Lowest and highest value that an image in [0, 255] can have afterwards."""
        ends = [(255 * self.scale * end - m) / s for m, s in zip(self.mean, self.std, strict=True) for end in (0, 1)]
        return min(ends), max(ends)


TORCH = Preprocessing(scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
CAFFE = Preprocessing(scale=1.0, mean=(103.939, 116.779, 123.68), std=(1.0,) * 3, order="BGR")
MINUS_ONE_TO_ONE = Preprocessing(scale=1 / 127.5, mean=(1.0,) * 3, std=(1.0,) * 3)
BY_128 = Preprocessing(scale=1 / 128, mean=(1.0,) * 3, std=(1.0,) * 3)
BY_127_128 = Preprocessing(scale=1 / 128, mean=(127 / 128,) * 3, std=(1.0,) * 3)


@runtime_checkable
class Encoder(Protocol):
    """From an image to levels of features.

    Attributes:
        arch: Name in the catalog of pretrained weights; None for one of your own making.
        pad_multiple: Images are padded to a multiple of so many pixels, so that all strides divide.
        output_strides: Strides that the coarsest level can have.
        prebuilt: Whether it comes with its own weights, strides and normalization, as a backbone of KerasHub does.
        weight_suffixes: Endings of the files that `load_pretrained` reads.
    """

    arch: str | None = None
    pad_multiple: int = 32
    output_strides: tuple[int, ...] = (32,)
    prebuilt: bool = False
    weight_suffixes: tuple[str, ...] = ()

    @abstractmethod
    def preprocess(self, image: Tensor) -> Tensor:
        """Normalize raw images in [0, 255], `(B, H, W, C)`, to float32, as the weights want it."""
        ...

    @abstractmethod
    def __call__(self, image: Tensor, *, output_stride: int = 32, depth: int | None = None) -> Features:
        """The first `depth` levels (None: all) of a normalized image, the coarsest at `output_stride`."""
        ...

    def with_switches(
        self, image: Tensor, *, output_stride: int = 32, depth: int | None = None
    ) -> tuple[Features, Switches]:
        """The levels, and the switches of each pooling, for decoders that put values back where the maxima were."""
        name = repr(self.arch) if self.arch else str(self)
        raise ValueError(
            f"This decoder undoes the max poolings of its encoder, and {name} does not say where the "
            "maxima were. Take an encoder that does, such as 'vgg16', 'vgg19' or 'vgg16_bn', or another decoder."
        )

    def continuing_mirror(self, margin: int) -> "Encoder":
        """The encoder for images that are mirrored by `margin` pixels already; for one that would mirror them, too."""
        return self

    def top(self, features: Tensor, *, num_classes: int) -> Tensor:
        """Logits of classes, `(B, num_classes)` float32, from the coarsest level, as the weights were trained with."""
        name = repr(self.arch) if self.arch else str(self)
        raise ValueError(
            f"The files of {name} do not hold the layers on top of the encoder. Take an encoder whose files do, such "
            "as 'efficientnet_lite0' or 'resnet50', or leave `top` out."
        )

    def load_pretrained(self, model: Model, path: Path) -> None:
        """Fill a model from a file that ends in one of `weight_suffixes`, strictly.

        Its outputs are levels of this encoder, and behind all of them may come the logits of `top`.
        """
        raise ValueError(f"{self} reads no pretrained weights; received {path.name}.")


@runtime_checkable
class Decoder(Protocol):
    """From the levels of an encoder to decoded levels.

    Attributes:
        output_stride: Stride that the encoder's coarsest level should have; `segmenter` may be told another one.
        depth: How many levels it wants of the encoder, None for all; `segmenter` may be told another number.
        margin: Pixels that images are mirrored by on each side first: what its valid convolutions use up.
        switches: Whether it is called with the switches of the encoder's poolings, too.
    """

    output_stride: int = 32
    depth: int | None = None
    margin: int = 0
    switches: bool = False

    @abstractmethod
    def __call__(self, features: Features, *switches: Switches) -> Features:
        """The decoded levels, fine to coarse."""
        ...


@runtime_checkable
class Head(Protocol):
    """From decoded levels to logits. A head is told the number of classes when it is called; a decoder is not."""

    @abstractmethod
    def __call__(self, features: Features, *, num_classes: int) -> Level:
        """The logits as a level: stride and `(B, ceil(H / stride), ceil(W / stride), num_classes)`."""
        ...


class _Completed:
    """A part of one's own that does not derive from its protocol, with the protocol's defaults for what it lacks."""

    def __init__(self, part: Any, protocol: type):
        self._part, self._protocol = part, protocol

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._part(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # of copy and pickle, which ask before there is a part
            raise AttributeError(name)
        if hasattr(self._part, name):
            return getattr(self._part, name)
        default = getattr(self._protocol, name)
        return default.__get__(self) if callable(default) else default

    def __repr__(self) -> str:
        return repr(self._part)


def complete(part: Any, protocol: type) -> Any:
    """`part` with everything that `protocol` names; None if it lacks what has no default, or is a class and no part.

    A part that derives from its protocol has everything, and is given back as it is.
    """
    if isinstance(part, type) or not all(callable(getattr(part, name, None)) for name in protocol.__abstractmethods__):
        return None
    return part if isinstance(part, protocol) else _Completed(part, protocol)
