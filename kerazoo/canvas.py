"""What an encoder is shown of an image, and the way back from its maps to the image."""

from dataclasses import dataclass, field

from keras import layers

from kerazoo.layers import CropLike, MirrorPad, PadToMultiple, Resize
from kerazoo.types import Level, Tensor


@dataclass(frozen=True)
class Canvas:
    """An image with the pixels around it that the parts of a segmenter need; all of it is float32.

    Args:
        image: `(B, H, W, C)`, as the model takes it: what comes out has its size.
        normalized: The same, as the encoder wants its values.
        multiple: Height and width become a multiple of so many pixels, by zeros below and to the right; 1 adds none.
        margin: Pixels that are mirrored on each side, beyond that.
        crop: Whether what is added for `multiple` is cut off again. False resizes logits to the image at every stride,
            as torchvision does.

    Attributes:
        tensor: What the encoder sees.
    """

    image: Tensor
    normalized: Tensor
    multiple: int
    margin: int
    crop: bool
    padded: Tensor = field(init=False)
    tensor: Tensor = field(init=False)

    def __post_init__(self):
        padded = shown = self.normalized
        if self.multiple > 1:
            padded = shown = PadToMultiple(self.multiple, dtype="float32", name="pad")(self.normalized)
        if self.margin:
            mirror = MirrorPad(self.margin, multiple=self.multiple, dtype="float32", name="mirror")
            shown = mirror(self.normalized)
        object.__setattr__(self, "padded", padded)
        object.__setattr__(self, "tensor", shown)

    def to_image(self, logits: Level, prefix: str = "") -> Tensor:
        """Logits at the size of the image, float32: `(B, H, W, num_classes)`."""
        x = layers.Activation("linear", dtype="float32", name=f"{prefix}to_float32")(logits.tensor)
        if logits.stride > 1 or not self.crop:
            x = Resize(dtype="float32", name=f"{prefix}to_image_size")(x, like=self.padded)
        if self.multiple > 1:
            x = CropLike(dtype="float32", name=f"{prefix}crop")(x, self.image)
        return x
