"""Which images an epoch shows: the natural mix, or as many foreground as empty images.

An order is a pure function of the seed and the epoch, in NumPy, so that an interrupted training goes on with the same
data, in the middle of an epoch too.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from kerazoo.data.source import Source

SAMPLERS = ("natural", "under", "over")

__all__ = ["SAMPLERS", "Audit", "Draw", "Order", "audit", "audit_order"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Order:
    """Epoch → indices of the samples it shows, `(len(order),)` int64.

    Args:
        size: Number of samples in the source.
        foreground: `(size,)` bool, which samples have foreground; "natural" does without.
        sampler: "natural": every sample once. "under": every sample of the smaller side (foreground or empty) and as
            many of the larger, drawn without replacement. "over": every sample of the larger side and as many of the
            smaller, drawn with replacement.
        balanced: Batch size if every batch is to have as many foreground as empty images, else None.
        shuffle: Draw the order anew each epoch; without it "natural" keeps the source's order.
        seed: Of the draws.

    Raises:
        ValueError: `sampler` is unknown, one side is empty, or the options contradict each other.
    """

    size: int
    foreground: np.ndarray | None = None
    sampler: str = "natural"
    balanced: int | None = None
    shuffle: bool = True
    seed: int = 0

    def __post_init__(self):
        if self.sampler not in SAMPLERS:
            raise ValueError(f"`sampler` must be one of {SAMPLERS}, received sampler={self.sampler!r}.")
        if self.sampler == "natural":
            if self.balanced is not None:
                raise ValueError('balanced_batches=True needs sampler="under" or "over", received sampler="natural".')
            return
        if not self.shuffle:
            raise ValueError(f'sampler="{self.sampler}" draws at random; leave out shuffle=False, or take "natural".')
        if self.balanced is not None and self.balanced % 2:
            raise ValueError(f"balanced_batches=True needs an even `batch_size`, received {self.balanced}.")
        for side, count in zip(("with foreground", "empty"), self._counts, strict=True):
            if count == 0:
                raise ValueError(
                    f'sampler="{self.sampler}" balances foreground and empty images, and none of the {self.size} '
                    f'images is {side}. Take sampler="natural", or split again, stratified.'
                )

    def __len__(self) -> int:
        if self.sampler == "natural":
            return self.size
        return 2 * (min if self.sampler == "under" else max)(self._counts)

    def __call__(self, epoch: int) -> np.ndarray:
        """The samples of `epoch`, in the order in which they are shown."""
        if self.sampler == "natural":
            return self._rng(epoch).permutation(self.size) if self.shuffle else np.arange(self.size)
        rng, half = self._rng(epoch), len(self) // 2
        sides = []
        for members in (np.flatnonzero(self._positive), np.flatnonzero(~self._positive)):
            repeats = len(members) < half  # the smaller side of over-sampling
            sides.append(rng.choice(members, half, replace=True) if repeats else rng.permutation(members)[:half])
        if self.balanced is None:
            return rng.permutation(np.concatenate(sides))
        pairs = np.stack(sides, axis=1)  # any run of whole pairs is balanced
        step = self.balanced // 2
        return np.concatenate([rng.permutation(pairs[i : i + step].ravel()) for i in range(0, half, step)])

    def seeds(self, epoch: int) -> np.ndarray:
        """One seed for each place in `epoch`, `(len(order),)` int64 ≥ 0, for what is random besides the order."""
        return np.random.default_rng([self.seed, epoch, 2]).integers(0, 2**62, len(self))

    @property
    def _counts(self) -> tuple[int, int]:
        positives = int(self._positive.sum())
        return positives, self.size - positives

    @property
    def _positive(self) -> np.ndarray:
        if self.foreground is None:
            raise ValueError("`foreground` is needed to tell foreground from empty images, received None.")
        return np.asarray(self.foreground, bool)

    def _rng(self, epoch: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, epoch, 1])


class Draw:
    """Gives the order of one epoch after the other, or of the epoch to which it is pinned.

    Backends differ in how many iterators `fit` opens; `PinEpoch` says which epoch it is.

    Args:
        order: Epoch to what is drawn.
        skip: Samples to leave out at the start of every epoch.
    """

    def __init__(self, order: Order, *, skip: int = 0):
        self.order, self.skip = order, skip
        self.next = 0
        self.pinned: int | None = None

    def __len__(self) -> int:
        return len(self.order) - self.skip

    def __call__(self) -> tuple[np.ndarray, np.ndarray]:
        """Indices and seeds of the epoch, each `(len(draw),)` int64."""
        epoch = self.next if self.pinned is None else self.pinned
        self.next += 1
        return self.order(epoch)[self.skip :].astype(np.int64), self.order.seeds(epoch)[self.skip :]


class Audit(NamedTuple):
    """What a sampler does to a source.

    Attributes:
        sampler: Its name.
        seed: Of the draws.
        images: Samples in the source.
        foreground: Of these with foreground.
        epoch_images: Samples in an epoch, repeats counted.
        epoch_foreground: Of these with foreground.
        unique: Different samples in the epoch that was looked at.
        repeats: `epoch_images` - `unique`.
        most: How often the most frequent sample is drawn in that epoch.
    """

    sampler: str
    seed: int
    images: int
    foreground: int
    epoch_images: int
    epoch_foreground: int
    unique: int
    repeats: int
    most: int

    def __str__(self) -> str:
        empty, half = self.images - self.foreground, self.epoch_images // 2
        shares = (
            f"({_percent(self.epoch_foreground / self.epoch_images)} foreground; "
            f"natural {_percent(self.foreground / self.images)})"
        )
        if self.sampler == "natural":
            line = f"natural sampling: {self.foreground} foreground + {empty} empty images per epoch {shares}"
        else:
            sides = [_side(half, count, name) for count, name in ((self.foreground, "foreground"), (empty, "empty"))]
            line = f"{self.sampler}-sampling: {' + '.join(sides)} images per epoch {shares}, drawn anew each epoch"
        repeated = f"the most frequent image {self.most} times" if self.repeats else "every image at most once"
        return f"{line}, seed {self.seed}\n{self.unique} unique images per epoch, {self.repeats} repeats: {repeated}"


def audit(source: Source, *, sampler: str = "natural", seed: int = 0, epoch: int = 0) -> Audit:
    """Count what an epoch of `sampler` shows.

    Args:
        source: Where samples are drawn from.
        sampler: "natural", "under" or "over", see `Order`.
        seed: Of the draws.
        epoch: Which epoch is drawn; only the repeats of "over" differ between epochs.

    Returns: The counts; `str()` of them is what the pipeline prints.

    Raises:
        ValueError: `sampler` is unknown, or the source has no foreground or no empty image to balance.
    """
    return audit_order(Order(size=len(source), foreground=source.foreground, sampler=sampler, seed=seed), epoch=epoch)


def audit_order(order: Order, *, epoch: int = 0) -> Audit:
    """`audit` of `epoch` of an `order` that knows which samples have foreground."""
    foreground, drawn = np.asarray(order.foreground, bool), order(epoch)
    times = np.bincount(drawn, minlength=order.size)
    return Audit(
        sampler=order.sampler,
        seed=order.seed,
        images=order.size,
        foreground=int(foreground.sum()),
        epoch_images=len(drawn),
        epoch_foreground=int(foreground[drawn].sum()),
        unique=int((times > 0).sum()),
        repeats=int(len(drawn) - (times > 0).sum()),
        most=int(times.max()),
    )


def _side(half: int, count: int, name: str) -> str:
    if half == count:
        return f"{count} {name}"
    return f"{half} of {count} {name}" if half < count else f"{half} draws of {count} {name}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %".replace(".0 %", " %")
