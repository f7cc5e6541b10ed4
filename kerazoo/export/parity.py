"""Numerical comparison of an exported model with the original."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

TOLERANCE = 1e-4
MASK_TOLERANCE = 1e-4
"""Share of pixels that may change class, because their probability lies at the threshold."""

SIZES = ((96, 96), (67, 95), (128, 41), (33, 160))
"""Sizes, in pixels, of the images that are compared: square, and odd in both directions."""

Outputs = Mapping[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Case:
    """Differences on one batch.

    Attributes:
        shape: Of the batch of images.
        probability: Largest absolute difference of all probabilities and scores.
        mask_pixels: Number of pixels whose class differs.
    """

    shape: tuple[int, ...]
    probability: float
    mask_pixels: int


@dataclass(frozen=True, kw_only=True)
class Parity:
    """Result of a comparison.

    Attributes:
        cases: One per batch.
        tolerance: Largest difference that is allowed.
    """

    cases: tuple[Case, ...]
    tolerance: float = TOLERANCE

    @property
    def difference(self) -> float:
        """Largest absolute difference of any probability or score."""
        return max(case.probability for case in self.cases)

    @property
    def holds(self) -> bool:
        """Whether every difference is within the tolerance; NaN is not."""
        pixels = sum(int(np.prod(case.shape[:3])) for case in self.cases)
        return self.difference <= self.tolerance and self.mask_pixels <= MASK_TOLERANCE * pixels

    @property
    def mask_pixels(self) -> int:
        """Number of pixels whose class differs."""
        return sum(case.mask_pixels for case in self.cases)

    def to_dict(self) -> dict:
        """Content of parity.json."""
        cases = [asdict(case) for case in self.cases]
        return {"max_abs_difference": self.difference, "tolerance": self.tolerance, "cases": cases}

    def __str__(self) -> str:
        text = f"max |exported − model| = {self.difference:.1e}"
        return f"{text}, {self.mask_pixels} pixels of another class" if self.mask_pixels else text


def compare(
    exported: Callable[[np.ndarray], Outputs],
    model: Callable[[np.ndarray], Outputs],
    batches: Sequence[np.ndarray],
    *,
    tolerance: float = TOLERANCE,
) -> Parity:
    """Run both models on the same batches and compare their outputs.

    Args:
        exported: From images `(B, H, W, C)` to `mask`, `probability`, `score` (and `label`).
        model: The same of the model.
        batches: Images, at least one batch.
        tolerance: Largest absolute difference that is allowed.

    Raises:
        ValueError: there is no batch, or outputs differ in name or shape.
    """
    if not batches:
        raise ValueError("`batches` must hold at least one batch of images.")
    return Parity(
        cases=tuple(_case(exported(batch), model(batch), batch.shape) for batch in batches), tolerance=tolerance
    )


def allowed_difference(largest_logit: float) -> float:
    """Largest difference of probabilities that float32 rounding explains.

    TensorFlow fuses the layers of a graph, so that even `model.predict(x)` and `model(x)` differ by a relative 1e-5 in
    the logits of a deep network. A probability changes by at most a quarter of what its logit does: at a logit of 40
    that is `TOLERANCE`. Beyond, as models have it after few steps of training, more is allowed.

    Args:
        largest_logit: Largest absolute logit of the model on the compared images.

    Returns: the largest absolute difference to allow, at least `TOLERANCE`.
    """
    return max(TOLERANCE, 1e-5 * largest_logit / 4)


def example_batches(
    channels: int, dtype: str, sizes: Sequence[tuple[int, int]] = SIZES, *, values: tuple[float, float] | None = None
) -> list[np.ndarray]:
    """Batches of smooth and noisy images, the same in every call.

    Args:
        channels: Of the images.
        dtype: "uint8", "uint16" or "float32".
        sizes: Height and width of each batch; they hold 1, 2, 1, 2, … images.
        values: Lowest and highest value; None is the whole range of an integer dtype, and 0 to 255 for float32.
    """
    rng = np.random.default_rng(0)
    most = 65535 if dtype == "uint16" else 255
    low, high = (0, most) if values is None else values
    if dtype != "float32":
        low, high = max(low, 0), min(high, most)
    batches = []
    for position, (height, width) in enumerate(sizes):
        rows, columns = np.mgrid[:height, :width] / max(height, width)
        images = []
        for _ in range(1 + position % 2):
            phase = rng.uniform(0, 6.3, (channels, 2))
            waves = [np.sin(9 * rows + a) + np.sin(7 * columns + b) for a, b in phase]
            image = np.stack(waves, axis=-1) / 4 + 0.5 + 0.15 * rng.standard_normal((height, width, channels))
            images.append(low + np.clip(image, 0, 1) * (high - low))
        batches.append(np.stack(images).astype(dtype))
    return batches


def _case(exported: Outputs, model: Outputs, shape: tuple[int, ...]) -> Case:
    if exported.keys() != model.keys():
        raise ValueError(f"Outputs differ: exported {sorted(exported)}, model {sorted(model)}.")
    for name in model:
        if exported[name].shape != model[name].shape:
            raise ValueError(
                f"Output {name!r} is {exported[name].shape} exported and {model[name].shape} of the model."
            )
    numbers = [name for name in model if name != "mask"]
    difference = float(np.max([np.max(np.abs(exported[name] - model[name])) for name in numbers]))
    mask_pixels = int(np.count_nonzero(exported["mask"] != model["mask"]))
    return Case(shape=tuple(shape), probability=difference, mask_pixels=mask_pixels)
