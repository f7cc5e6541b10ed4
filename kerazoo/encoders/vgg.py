"""VGG encoders with batch norm (and the small ones without), module by module those of torchvision.

Simonyan and Zisserman, 2015, https://arxiv.org/abs/1409.1556; `features.3` of torchvision is `features_3` here.
`vgg16_bn` is the encoder of SegNet and DeconvNet. `vgg16` and `vgg19` without batch norm are those of
`keras.applications`.
"""

from dataclasses import dataclass

from keras import layers

from kerazoo.arguments import check_wholes
from kerazoo.encoders.switches import check_undilated
from kerazoo.encoders.tops import pooled_dense
from kerazoo.encoders.weights import StateDictEncoder
from kerazoo.layers import MaxPoolWithIndices, SpreadPool
from kerazoo.layers.blocks import conv, norm
from kerazoo.types import Features, Level, Tensor

TOP_WIDTH = 4096

TIMM_TOP = {"pre_logits.fc1": "classifier.0", "pre_logits.fc2": "classifier.3", "head.fc": "classifier.6"}
"""timm's modules of the top by torchvision's."""


@dataclass(frozen=True, kw_only=True)
class VGG(StateDictEncoder):
    """Stages of 3x3 convolutions with ReLU, a 2x2 max pooling after each.

    Args:
        arch: Name in the catalog of pretrained weights, None for an encoder of your own making.
        depths: Convolutions of each stage.
        widths: Channels of each stage.
        batchnorm: Whether each convolution is followed by batch norm.

    Call: `image` `(B, H, W, C)`, normalized as `preprocess` does; `output_stride` 32, 16 or 8, where poolings beyond it
        keep the resolution and later convolutions are dilated; `depth`, the number of levels to return, None for all.
    Returns: levels at strides 1, 2, 4, …, before each pooling, and the last pooling's; each with ceil(H / stride) rows
        for every H.
    Raises: ValueError if an argument is not one of those.
    """

    arch: str | None = None
    depths: tuple[int, ...]
    widths: tuple[int, ...] = (64, 128, 256, 512, 512)
    batchnorm: bool = True

    output_strides = (32, 16, 8)

    def __post_init__(self):
        for name in ("depths", "widths"):
            object.__setattr__(self, name, check_wholes("VGG", name, getattr(self, name)))
        if len(self.depths) != len(self.widths):
            raise ValueError(f"VGG needs one depth per width, received {self.depths} and {self.widths}.")

    @property
    def pad_multiple(self) -> int:
        """Stride of the last pooling."""
        return 2 ** len(self.widths)

    def state_dict_name(self, path: str) -> str:
        return path.replace("_", ".")

    def state_dict_beyond(self, depth: int) -> tuple[str, ...]:
        per_convolution = 3 if self.batchnorm else 2
        modules = [per_convolution * convolutions + 1 for convolutions in self.depths]  # the pooling counts too
        return tuple(f"features.{i}" for i in range(sum(modules[:depth]), sum(modules)))

    def state_dict_alias(self, tensor: str) -> str:
        module, dot, name = tensor.rpartition(".")
        return f"{TIMM_TOP.get(module, module)}{dot}{name}"

    def top(self, features: Tensor, *, num_classes: int) -> Tensor:
        """Class logits of images, `(B, num_classes)` float32, from the coarsest level: a mean over windows of 7x7.

        At the 224 pixels of training there is one window. Smaller images have none.
        """
        x = layers.Conv2D(TOP_WIDTH, 7, activation="relu", name="classifier_0")(features)
        x = layers.Conv2D(TOP_WIDTH, 1, activation="relu", name="classifier_3")(x)
        return pooled_dense(x, num_classes=num_classes, name="classifier_6")

    def __call__(self, image: Tensor, *, output_stride: int = 32, depth: int | None = None) -> Features:
        if output_stride not in self.output_strides:
            raise ValueError(f"A VGG's `output_stride` is one of {self.output_strides}, received {output_stride}.")

        def pool(x: Tensor, stride: int, name: str) -> Tensor:
            if stride <= output_stride:
                return layers.MaxPooling2D(2, padding="same", name=name)(x)
            return SpreadPool("max", size=2, dilation=stride // 2 // output_stride, name=name)(x)

        return self._levels(image, pool, output_stride=output_stride, depth=depth)

    def with_switches(
        self, image: Tensor, *, output_stride: int = 32, depth: int | None = None
    ) -> tuple[Features, dict[int, Tensor]]:
        check_undilated("VGG", output_stride)
        switches = {}

        def pool(x: Tensor, stride: int, name: str) -> Tensor:
            x, switches[stride] = MaxPoolWithIndices(name=name)(x)
            return x

        return self._levels(image, pool, output_stride=output_stride, depth=depth), switches

    def _levels(self, image: Tensor, pool, *, output_stride: int, depth: int | None) -> Features:
        most = 1 + len(self.depths)
        if depth is not None and not 1 <= depth <= most:
            raise ValueError(f"This VGG has 1 to {most} levels, received depth={depth}.")
        x, stride, module = image, 1, 0
        levels = []
        for convolutions, width in zip(self.depths, self.widths, strict=True):
            for _ in range(convolutions):
                dilation = max(1, stride // output_stride)
                x = conv(x, width, 3, dilation=dilation, use_bias=True, name=f"features_{module}")
                if self.batchnorm:
                    module += 1
                    x = norm(x, name=f"features_{module}")
                x = layers.ReLU(name=f"features_{module + 1}")(x)
                module += 2
            levels.append(Level(min(stride, output_stride), x))
            if len(levels) == depth:
                return tuple(levels)
            stride *= 2
            x = pool(x, stride, f"features_{module}")
            module += 1
        return (*levels, Level(min(stride, output_stride), x))


VARIANTS = {
    str(part.arch): part
    for part in (
        VGG(arch="vgg11", depths=(1, 1, 2, 2, 2), batchnorm=False),
        VGG(arch="vgg11_bn", depths=(1, 1, 2, 2, 2)),
        VGG(arch="vgg13", depths=(2, 2, 2, 2, 2), batchnorm=False),
        VGG(arch="vgg13_bn", depths=(2, 2, 2, 2, 2)),
        VGG(arch="vgg16_bn", depths=(2, 2, 3, 3, 3)),
        VGG(arch="vgg19_bn", depths=(2, 2, 4, 4, 4)),
    )
}
