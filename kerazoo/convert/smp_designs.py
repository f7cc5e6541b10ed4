"""The architectures of segmentation_models_pytorch 0.6 as parts of ours.

A function per class of smp, whose arguments are those of the class: same names, same defaults. Whatever a part of ours
cannot do is refused by the name of the argument.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from kerazoo import decoders
from kerazoo.heads import Linear
from kerazoo.types import Features, Level


@dataclass(frozen=True, kw_only=True)
class Design:
    """What `segmenter()` takes for a model of smp, beside the encoder.

    Attributes:
        decoder: The decoder.
        head: The head.
        depth: Levels of the encoder.
        output_stride: Stride to which a deep enough encoder is dilated.
        unused: Patterns of the decoder's tensors that smp keeps and never reads.
    """

    decoder: Any
    head: Linear
    depth: int
    output_stride: int = 32
    unused: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Head(Linear):
    """smp's head, where it ends at the size of the image; `segmenter()` would resize other logits, and smp does not."""

    align_corners: bool = True

    def __call__(self, features: Features, *, num_classes: int) -> Level:
        stride = features[0].stride
        if self.upsampling != stride:
            raise ValueError(
                f"upsampling={self.upsampling} gives masks of another size than the image, which has {stride} pixels "
                f"per pixel of the decoder. Only upsampling={stride} can be converted."
            )
        return super().__call__(features, num_classes=num_classes)


AFFINE_INSTANCE_NORM = {"type": "instancenorm", "affine": True}
"""The only instance norm that smp can build: it initializes weights that others do not have."""


def _norm(value: Any) -> str | None:
    if isinstance(value, dict) and set(value) == {"type"}:
        value = value["type"]
    if value is True or value == "batchnorm":
        return "batch"
    if value is False or value == "identity":
        return None
    if value == AFFINE_INSTANCE_NORM:
        return "instance"
    raise ValueError(
        f"decoder_use_norm={value!r} cannot be converted: there are 'batchnorm' (True) and 'identity' (False), without "
        f"further arguments, and {AFFINE_INSTANCE_NORM}."
    )


def _choice(argument: str, value: Any, known: dict[Any, Any]) -> Any:
    if value not in known:
        raise ValueError(f"{argument}={value!r} cannot be converted; there are {list(known)}.")
    return known[value]


INTERPOLATIONS = {"nearest": "nearest", "nearest-exact": "nearest", "bilinear": "bilinear"}  # one for doublings


def _interpolation(value: str) -> str:
    return _choice("decoder_interpolation", value, INTERPOLATIONS)


def _attention(value: str | None) -> str | None:
    return _choice("decoder_attention_type", value, {None: None, "scse": "scse"})


def unet(
    *,
    encoder_depth: int = 5,
    decoder_use_norm: Any = "batchnorm",
    decoder_channels: Sequence[int] = (256, 128, 64, 32, 16),
    decoder_attention_type: str | None = None,
    decoder_interpolation: str = "nearest",
) -> Design:
    """smp.Unet. The attention before the last block's convolutions has weights and is not applied."""
    decoder = decoders.UNet(
        widths=tuple(decoder_channels),
        skip="concat",
        upsampling=_interpolation(decoder_interpolation),
        norm=_norm(decoder_use_norm),
        attention=_attention(decoder_attention_type),
    )
    unused = (f"blocks.{encoder_depth - 1}.attention1.*",)
    return Design(decoder=decoder, head=_Head(kernel_size=3), depth=encoder_depth, unused=unused)


def unet_plus_plus(
    *,
    encoder_depth: int = 5,
    decoder_use_norm: Any = "batchnorm",
    decoder_channels: Sequence[int] = (256, 128, 64, 32, 16),
    decoder_attention_type: str | None = None,
    decoder_interpolation: str = "nearest",
) -> Design:
    """smp.UnetPlusPlus. The attention before the last block's convolutions has weights and is not applied."""
    decoder = decoders.UNetPlusPlus(
        widths=tuple(decoder_channels),
        upsampling=_interpolation(decoder_interpolation),
        norm=_norm(decoder_use_norm),
        attention=_attention(decoder_attention_type),
    )
    unused = (f"blocks.x_0_{encoder_depth - 1}.attention1.*",)
    return Design(decoder=decoder, head=_Head(kernel_size=3), depth=encoder_depth, unused=unused)


def manet(
    *,
    encoder_depth: int = 5,
    decoder_use_norm: Any = "batchnorm",
    decoder_channels: Sequence[int] = (256, 128, 64, 32, 16),
    decoder_pab_channels: int = 64,
    decoder_interpolation: str = "nearest",
) -> Design:
    """smp.MAnet."""
    decoder = decoders.MANet(
        widths=tuple(decoder_channels),
        attention_width=decoder_pab_channels,
        attention="joint",
        min_channels=1,
        upsampling=_interpolation(decoder_interpolation),
        norm=_norm(decoder_use_norm),
    )
    return Design(decoder=decoder, head=_Head(kernel_size=3), depth=encoder_depth)


def linknet(*, encoder_depth: int = 5, decoder_use_norm: Any = "batchnorm") -> Design:
    """smp.Linknet."""
    return Design(decoder=decoders.LinkNet(norm=_norm(decoder_use_norm)), head=_Head(), depth=encoder_depth)


def fpn(
    *,
    encoder_depth: int = 5,
    decoder_pyramid_channels: int = 256,
    decoder_segmentation_channels: int = 128,
    decoder_merge_policy: str = "add",
    decoder_dropout: float = 0.2,
    decoder_interpolation: str = "nearest",
    upsampling: int = 4,
) -> Design:
    """smp.FPN, over the four coarsest levels; with a depth of 3 the image is one of them, which ours cannot do."""
    if encoder_depth < 4:
        raise ValueError(f"encoder_depth={encoder_depth} cannot be converted for FPN, only 4 and 5 can.")
    decoder = decoders.SemanticFPN(
        pyramid_width=decoder_pyramid_channels,
        width=decoder_segmentation_channels,
        fuse=_choice("decoder_merge_policy", decoder_merge_policy, {"add": "sum", "cat": "concat"}),
        finest_stride=2 ** (encoder_depth - 3),
        interpolation=_interpolation(decoder_interpolation),
        smooth=False,
        align_corners=True,
        dropout=decoder_dropout,
    )
    return Design(decoder=decoder, head=_Head(upsampling=upsampling), depth=encoder_depth)


def pspnet(
    *,
    encoder_depth: int = 3,
    psp_out_channels: int = 512,
    decoder_use_norm: Any = "batchnorm",
    psp_dropout: float = 0.2,
    upsampling: int = 8,
) -> Design:
    """smp.PSPNet."""
    decoder = decoders.PSPNet(
        width=psp_out_channels,
        kernel_size=1,
        dropout=psp_dropout,
        inputs_first=False,
        norm=_norm(decoder_use_norm),
        normalize_global=False,
        align_corners=True,
    )
    return Design(decoder=decoder, head=_Head(kernel_size=3, upsampling=upsampling), depth=encoder_depth)


def pan(
    *,
    encoder_depth: int = 5,
    encoder_output_stride: int = 16,
    decoder_channels: int = 32,
    decoder_interpolation: str = "bilinear",
    upsampling: int = 4,
) -> Design:
    """smp.PAN."""
    decoder = decoders.PyramidAttention(
        width=decoder_channels, interpolation=_interpolation(decoder_interpolation), align_corners=True, use_bias=True
    )
    return Design(
        decoder=decoder,
        head=_Head(kernel_size=3, upsampling=upsampling),
        depth=encoder_depth,
        output_stride=encoder_output_stride,
    )


def deeplab_v3(
    *,
    encoder_depth: int = 5,
    encoder_output_stride: int = 8,
    decoder_channels: int = 256,
    decoder_atrous_rates: Sequence[int] = (12, 24, 36),
    decoder_aspp_separable: bool = False,
    decoder_aspp_dropout: float = 0.5,
    upsampling: int | None = None,
) -> Design:
    """smp.DeepLabV3."""
    decoder = decoders.DeepLabV3(
        width=decoder_channels,
        rates=tuple(decoder_atrous_rates),
        separable=decoder_aspp_separable,
        dropout=decoder_aspp_dropout,
        convolutions=1,
    )
    stride = 2**encoder_depth if encoder_depth <= 3 else encoder_output_stride
    return Design(
        decoder=decoder,
        head=_Head(upsampling=stride if upsampling is None else upsampling),
        depth=encoder_depth,
        output_stride=encoder_output_stride,
    )


def deeplab_v3_plus(
    *,
    encoder_depth: int = 5,
    encoder_output_stride: int = 16,
    decoder_channels: int = 256,
    decoder_atrous_rates: Sequence[int] = (12, 24, 36),
    decoder_aspp_separable: bool = True,
    decoder_aspp_dropout: float = 0.5,
    upsampling: int = 4,
) -> Design:
    """smp.DeepLabV3Plus."""
    decoder = decoders.DeepLabV3Plus(
        width=decoder_channels,
        rates=tuple(decoder_atrous_rates),
        context_convolutions=1,
        convolutions=1,
        separable_aspp=decoder_aspp_separable,
        separable=True,
        dropout=decoder_aspp_dropout,
        align_corners=True,
    )
    return Design(
        decoder=decoder, head=_Head(upsampling=upsampling), depth=encoder_depth, output_stride=encoder_output_stride
    )


def upernet(
    *, encoder_depth: int = 5, decoder_channels: int = 256, decoder_use_norm: Any = "batchnorm", upsampling: int = 4
) -> Design:
    """smp.UPerNet."""
    decoder = decoders.UPerNet(width=decoder_channels, layer_norm=True, norm=_norm(decoder_use_norm))
    return Design(decoder=decoder, head=_Head(upsampling=upsampling), depth=encoder_depth)


def segformer(*, encoder_depth: int = 5, decoder_segmentation_channels: int = 256, upsampling: int = 4) -> Design:
    """smp.Segformer."""
    decoder = decoders.SegFormer(width=decoder_segmentation_channels, finest_stride=2, dropout=0.0)
    return Design(decoder=decoder, head=_Head(upsampling=upsampling), depth=encoder_depth)


DESIGNS: dict[str, Callable[..., Design]] = {
    "DeepLabV3": deeplab_v3,
    "DeepLabV3Plus": deeplab_v3_plus,
    "FPN": fpn,
    "Linknet": linknet,
    "MAnet": manet,
    "PAN": pan,
    "PSPNet": pspnet,
    "Segformer": segformer,
    "UPerNet": upernet,
    "Unet": unet,
    "UnetPlusPlus": unet_plus_plus,
}
