"""The encoders of segmentation_models_pytorch 0.6 that are ours, and what is different about them.

Its plain ResNets are torchvision's. Its "se_resnet…" come from Caffe (Hu et al., 2018,
https://arxiv.org/abs/1709.01507): a bottleneck's stride is in its first convolution, and the max pooling starts at the
border. Its "tu-…" are timm's. Dilated, the first two dilate all of a stage, timm only what follows a lost stride.
"""

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass

from keras import layers

from kerazoo.encoders import ENCODERS, ResNet
from kerazoo.encoders.resnet import bottleneck
from kerazoo.types import Tensor

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
SE_RESNETS = {"se_resnet50": "seresnet50", "se_resnet101": "seresnet101", "se_resnet152": "seresnet152"}
TIMM = "tu-"


@dataclass(frozen=True, kw_only=True)
class _Encoder(ResNet):
    """A ResNet that pads images no further than its coarsest level needs: smp pools over what is left."""

    pad_multiple: int = 32


@dataclass(frozen=True, kw_only=True)
class _CaffeSEResNet(_Encoder):
    def pool(self, x: Tensor) -> Tensor:
        return layers.MaxPooling2D(3, strides=2, padding="same", name="maxpool")(x)

    def state_dict_name(self, path: str) -> str:
        if path in ("conv1", "bn1"):
            return f"layer0.{path}"
        return super().state_dict_name(path).replace(".se.", ".se_module.")


@dataclass(frozen=True)
class Encoder:
    """An encoder of smp as a part of ours.

    Attributes:
        part: What `segmenter()` takes.
        state_dict_name: Function from the path of a weight to its module in smp's state dict.
        unused: Patterns of tensors that smp keeps and never reads.
    """

    part: ResNet
    state_dict_name: Callable[[str], str]
    unused: tuple[str, ...]


def encoder(name: str, *, depth: int, output_stride: int) -> Encoder:
    """Find the part for smp's `encoder_name`.

    Args:
        name: Such as "resnet34", "se_resnet50" or "tu-seresnet18"; a tag of timm's after a dot is left out.
        depth: Number of levels.
        output_stride: Stride to which a deep enough encoder is dilated.

    Raises:
        ValueError: the encoder is none of ours.
    """
    names = {arch: arch for arch in RESNETS} | SE_RESNETS
    names |= {f"{TIMM}{arch}": arch for arch, part in ENCODERS.items() if isinstance(part, ResNet)}
    key = name.partition(".")[0] if name.startswith(TIMM) else name
    if key not in names:
        raise ValueError(f"encoder_name={name!r} is no encoder that can be converted; there are {', '.join(names)}.")
    arch = names[key]
    fields = {field.name: getattr(ENCODERS[arch], field.name) for field in dataclasses.fields(ResNet)}
    fields |= {"pad_multiple": min(output_stride, 2**depth), "dilate_first": not name.startswith(TIMM)}
    if name in SE_RESNETS:
        part = _CaffeSEResNet(**{**fields, "block": functools.partial(bottleneck, stride_first=True)})
    else:
        part = _Encoder(**fields)
    prefix = "encoder.model." if name.startswith(TIMM) else "encoder."
    deeper = () if name.startswith(TIMM) else part.state_dict_beyond(depth)
    return Encoder(
        part, lambda path: prefix + part.state_dict_name(path), tuple(f"{prefix}{module}.*" for module in deeper)
    )
