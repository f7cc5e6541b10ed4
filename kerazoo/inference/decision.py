"""From logits to probabilities, and from probabilities to a mask and a score."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from keras import ops

from kerazoo.types import Tensor


def mask_logits(outputs: Any) -> Tensor:
    """The logits `(B, H, W, num_classes)` among the outputs of a segmenter: a tensor, or a mapping with `"mask"`."""
    return outputs["mask"] if isinstance(outputs, Mapping) else outputs


def probabilities(logits: Tensor) -> Tensor:
    """Probability of each class in each pixel.

    Args:
        logits: `(B, H, W, C)` floating point; one channel is a sigmoid logit, more are softmax logits.

    Returns: `(B, H, W, C)` float32 in [0, 1]; with one channel that of the foreground.
    """
    logits = ops.cast(logits, "float32")
    return ops.sigmoid(logits) if logits.shape[-1] == 1 else ops.softmax(logits, axis=-1)


@dataclass(frozen=True, kw_only=True)
class DecisionRule:
    """What counts as found: thresholds of a pixel and of an image, and a smallest area.

    A pixel is foreground if its likeliest foreground class has more than `pixel_threshold` of the probability that this
    class and the background share. So with one class the threshold is that of its probability, and with several classes
    0.5 is the plain argmax.

    Args:
        pixel_threshold: In [0, 1].
        image_threshold: An image whose score, the largest foreground probability of its pixels, is not above it is
            empty. None asks for no score.
        min_area: A class with fewer foreground pixels in the image, at the resolution of the model, is not there.

    Raises:
        ValueError: a threshold is outside [0, 1], or `min_area` is negative.
    """

    pixel_threshold: float = 0.5
    image_threshold: float | None = None
    min_area: int = 0

    def __post_init__(self):
        for name in ("pixel_threshold", "image_threshold"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"`{name}` is a probability and must be in [0, 1], received {value!r}.")
        if self.min_area < 0 or self.min_area != int(self.min_area):
            raise ValueError(f"`min_area` is a number of pixels and must not be negative, received {self.min_area!r}.")

    def __call__(self, probability: Tensor, full_size: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Decide.

        Args:
            probability: `(B, h, w, C)` from `probabilities`, at the resolution of the model: score and area count here.
            full_size: The same resized to `(B, H, W, C)`, where the mask is wanted; None wants it at `(h, w)`.

        Returns: masks `(B, H, W)` uint8 of class ids, and scores `(B,)` float32 in [0, 1].
        """
        foreground = probability if probability.shape[-1] == 1 else probability[..., 1:]
        score: Tensor = ops.max(foreground, axis=(1, 2, 3))
        mask = self._classes(probability if full_size is None else full_size)
        if self.image_threshold is not None:
            found: Tensor = ops.cast(score > self.image_threshold, "int32")
            mask = mask * found[:, None, None]
        if self.min_area > 0:
            small = mask if full_size is None else self._classes(probability)
            for class_id in range(1, foreground.shape[-1] + 1):
                area: Tensor = ops.sum(ops.cast(small == class_id, "int32"), axis=(1, 2))
                absent: Tensor = ops.cast(area < self.min_area, "int32")
                absent = absent[:, None, None]
                mask = mask * (1 - absent * ops.cast(mask == class_id, "int32"))
        return ops.cast(mask, "uint8"), score

    def _classes(self, probability: Tensor) -> Tensor:
        """`(B, H, W)` int32 class ids by the pixel threshold alone."""
        if probability.shape[-1] == 1:
            return ops.cast(probability[..., 0] > self.pixel_threshold, "int32")
        best: Tensor = ops.max(probability[..., 1:], axis=-1)
        found = best * (1 - self.pixel_threshold) > probability[..., 0] * self.pixel_threshold
        return ops.cast(found, "int32") * (1 + ops.cast(ops.argmax(probability[..., 1:], axis=-1), "int32"))
