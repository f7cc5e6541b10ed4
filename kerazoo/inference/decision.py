"""Decision rules: from probabilities to a mask and a score."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from keras import ops

from kerazoo.arguments import check_whole, is_number
from kerazoo.layers import Resize
from kerazoo.layers.components import component_areas, largest_around
from kerazoo.types import Tensor

Score = Literal["pixel", "label"]


@dataclass(frozen=True, kw_only=True)
class DecisionRule:
    """What counts as foreground: thresholds of a pixel and of an image, and a smallest area.

    A pixel is foreground if its likeliest foreground class has more than `pixel_threshold` of the probability that this
    class and the background share. So with one class the threshold is that of its probability, and with several classes
    0.5 is the plain argmax.

    Args:
        pixel_threshold: In [0, 1].
        image_threshold: An image whose score is not above it is empty. None asks for no score.
        min_area: A class with fewer pixels in the image, at the resolution of the model, is dropped.
        per_component: Whether `min_area` is asked of each connected component (neighbors share a side or a corner)
            and not of all pixels of the class in the image. A mask of another resolution keeps the pixels that lie in
            a component that is large enough, or next to one.
        score: "pixel": the score of an image is its `rank`-th highest foreground probability of a pixel. "label": the
            highest foreground probability of the model's label head.
        rank: With score="pixel", which of the highest pixels, the lowest if there are fewer: from the tenth on a few
            bright pixels do not make an image positive.

    Raises:
        ValueError: a threshold is outside [0, 1], `min_area` is negative, `rank` less than 1, or `score` unknown.
    """

    pixel_threshold: float = 0.5
    image_threshold: float | None = None
    min_area: int = 0
    per_component: bool = False
    score: Score = "pixel"
    rank: int = 1

    def __post_init__(self):
        thresholds: dict[str, Any] = {"pixel_threshold": self.pixel_threshold}
        if self.image_threshold is not None:
            thresholds["image_threshold"] = self.image_threshold
        for name, value in thresholds.items():
            if not (is_number(value) and 0 <= value <= 1):
                raise ValueError(f"`{name}` is a probability and must be in [0, 1], received {value!r}.")
        check_whole("DecisionRule", "min_area", self.min_area, least=0)
        if self.score not in get_args(Score):
            raise ValueError(f"`score` must be one of {get_args(Score)}, received {self.score!r}.")
        check_whole("DecisionRule", "rank", self.rank)
        object.__setattr__(self, "min_area", int(self.min_area))  # JSON does not know NumPy's integers
        object.__setattr__(self, "rank", int(self.rank))

    def __call__(
        self, probability: Tensor, *, full_size: Tensor | None = None, label: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Apply the rule.

        Args:
            probability: `(B, h, w, C)` in [0, 1], at the resolution of the model: score and area count here. With one
                channel that of the foreground.
            full_size: The same resized to `(B, H, W, C)`, where the mask is wanted; None wants it at `(h, w)`.
            label: `(B, C)` probabilities of the label head, which score="label" needs.

        Returns: masks `(B, H, W)` uint8 of class ids, and scores `(B,)` float32 in [0, 1].

        Raises:
            ValueError: score="label" without `label`.
        """
        score = self.scores(probability, label=label)
        mask = self._classes(probability if full_size is None else full_size)
        if self.image_threshold is not None:
            positive: Tensor = ops.cast(score > self.image_threshold, "int32")
            mask = mask * positive[:, None, None]
        if self.min_area > 0:
            small = mask if full_size is None else self._classes(probability)
            for class_id in range(1, max(2, probability.shape[-1])):
                kept: Tensor = ops.cast(self.areas(small == class_id, full_size=full_size) >= self.min_area, "int32")
                mask = mask * ops.where(mask == class_id, kept, 1)
        return ops.cast(mask, "uint8"), score

    def scores(self, probability: Tensor, *, label: Tensor | None = None) -> Tensor:
        """Score images; `image_threshold` is compared with this.

        Args:
            probability: `(B, h, w, C)` in [0, 1].
            label: `(B, C)` probabilities of the label head, which score="label" needs.

        Returns: `(B,)` float32 in [0, 1].

        Raises:
            ValueError: score="label" without `label`.
        """
        if self.score == "label":
            if label is None:
                raise ValueError(
                    'DecisionRule(score="label") needs a model with a label head: segmenter(..., label_head=True).'
                )
            return ops.max(label if label.shape[-1] == 1 else label[:, 1:], axis=-1)
        foreground = probability if probability.shape[-1] == 1 else probability[..., 1:]
        if self.rank == 1:
            return ops.max(foreground, axis=(1, 2, 3))
        images, height, width = ops.shape(probability)[:3]
        pixels = ops.reshape(ops.max(foreground, axis=-1), (images, height * width))
        known = isinstance(height, int) and isinstance(width, int)
        rank = min(self.rank, height * width) if known else ops.minimum(self.rank, height * width)
        return ops.top_k(pixels, rank)[0][:, -1]

    def areas(self, there: Tensor, *, full_size: Tensor | None = None) -> Tensor:
        """Measure the areas that `min_area` is compared with.

        Args:
            there: `(B, h, w)` bool, pixels of one class at the resolution of the model.
            full_size: `(B, H, W, …)`, whose size the areas of components get; None leaves them at `(h, w)`.

        Returns: pixels, `(B, 1, 1)` int32 of the class, or `(B, H, W)` of the component that a pixel belongs to or
            (with `full_size`) lies next to, int32 or float32.
        """
        if not self.per_component:
            return ops.sum(ops.cast(there, "int32"), axis=(1, 2), keepdims=True)
        areas = component_areas(there)
        return areas if full_size is None else _at_size(areas, full_size)

    def _classes(self, probability: Tensor) -> Tensor:
        """`(B, H, W)` int32 class ids by the pixel threshold alone."""
        if probability.shape[-1] == 1:
            return ops.cast(probability[..., 0] > self.pixel_threshold, "int32")
        best: Tensor = ops.max(probability[..., 1:], axis=-1)
        foreground = best * (1 - self.pixel_threshold) > probability[..., 0] * self.pixel_threshold
        return ops.cast(foreground, "int32") * (1 + ops.cast(ops.argmax(probability[..., 1:], axis=-1), "int32"))

    def __str__(self) -> str:
        parts = [f"pixel threshold {self.pixel_threshold:g}"]
        if self.image_threshold is not None:
            of = "label head" if self.score == "label" else "highest pixel" if self.rank == 1 else f"pixel {self.rank}"
            parts.append(f"image threshold {self.image_threshold:g} ({of})")
        if self.min_area > 0:
            parts.append(f"at least {self.min_area} pixels{' per component' * self.per_component}")
        return ", ".join(parts)

    @classmethod
    def load(cls, path: str | Path) -> "DecisionRule":
        """Read the rule in a JSON file: of `save`, of `Tuning.save_rule`, or the parity.json of an export.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file does not hold a rule.
        """
        text = Path(path).read_text(encoding="utf-8")
        try:
            return cls(**json.loads(text)["rule"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} does not hold a decision rule: {error}. Tune or save it anew.") from error

    def save(self, path: str | Path, **facts: Any) -> None:
        """Write the rule as JSON.

        Args:
            path: File that `load` reads.
            **facts: What else is to be remembered with it, such as the split it was tuned on.
        """
        Path(path).write_text(json.dumps({"rule": asdict(self), **facts}, indent=2) + "\n", encoding="utf-8")


def _at_size(areas: Tensor, full_size: Tensor) -> Tensor:
    """Areas of components `(B, h, w)` int32 as `(B, H, W)` float32, the size of `full_size`.

    Resized probabilities reach up to a pixel beyond a component, so that a pixel next to one counts as part of it; of
    the largest, if there are several.
    """
    dilated = ops.where(areas > 0, areas, largest_around(areas))
    resize = Resize(interpolation="nearest", dtype="float32")
    return resize(ops.expand_dims(ops.cast(dilated, "float32"), -1), like=full_size)[..., 0]
