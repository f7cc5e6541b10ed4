"""Which images an epoch shows: the natural mix, or as many foreground as empty images, or as many of each class.

An order is a pure function of the seed and the epoch, in NumPy, so that an interrupted training goes on with the same
data, in the middle of an epoch too.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from kerazoo.data.batches.epochs import EpochCounter
from kerazoo.data.source import Source

SAMPLERS = ("natural", "under", "over")
BALANCES = ("foreground", "classes")

__all__ = ["BALANCES", "SAMPLERS", "Audit", "EpochSampler", "Order", "audit", "audit_order", "strata"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Order:
    """Which samples an epoch shows, in which order; called with an epoch it returns their indices, int64.

    Args:
        size: Number of samples in the source.
        strata: `(size,)` bool or int: what is balanced against each other, 0 (False) being the empty images, as the
            function `strata` gives it; "natural" does without.
        names: What each stratum is called; the first is the empty images'.
        sampler: "natural": every sample once. "under": every sample of the smallest stratum and as many of each other,
            drawn without replacement. "over": every sample of the largest stratum and as many of each other, drawn with
            replacement.
        balanced: Batch size if every batch is to have as many samples of each stratum, else None.
        shuffle: Draw a new order each epoch; False keeps the source's order, which only "natural" can.
        seed: Of the draws.

    Raises:
        ValueError: `sampler` is unknown, there is nothing to balance, or the options contradict each other.
    """

    size: int
    strata: np.ndarray | None = None
    names: tuple[str, ...] = ("empty", "foreground")
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
        present = self.present
        if len(self.names) == 2 and len(present) == 1:
            side = "empty" if present[0] else "with foreground"
            raise ValueError(
                f'sampler="{self.sampler}" balances foreground and empty images, and none of the {self.size} '
                f'images is {side}. Take sampler="natural", or split again, stratified.'
            )
        if len(present) == 1:
            raise ValueError(
                f'sampler="{self.sampler}" balances classes, and all {self.size} images count for '
                f'{self.names[present[0]]!r}. Take sampler="natural".'
            )
        if self.balanced is not None and self.balanced % len(present):
            many = (
                "an even `batch_size`" if len(present) == 2 else f"a `batch_size` that is a multiple of {len(present)}"
            )
            raise ValueError(f"balanced_batches=True needs {many}, received {self.balanced}.")

    def __len__(self) -> int:
        return self.size if self.sampler == "natural" else len(self.present) * self._each

    def __call__(self, epoch: int) -> np.ndarray:
        """The samples of `epoch`, in the order in which they are shown."""
        if self.sampler == "natural":
            return self._rng(epoch).permutation(self.size) if self.shuffle else np.arange(self.size)
        rng, each = self._rng(epoch), self._each
        drawn = []
        for stratum in self.present:
            members = np.flatnonzero(self._strata == stratum)
            repeats = len(members) < each  # all but the largest of over-sampling
            drawn.append(rng.choice(members, each, replace=True) if repeats else rng.permutation(members)[:each])
        if self.balanced is None:
            return rng.permutation(np.concatenate(drawn))
        rounds = np.stack(drawn, axis=1)  # any run of whole rounds is balanced
        step = self.balanced // len(drawn)
        return np.concatenate([rng.permutation(rounds[i : i + step].ravel()) for i in range(0, each, step)])

    def seeds(self, epoch: int) -> np.ndarray:
        """One seed for each place in `epoch`, `(len(order),)` int64 ≥ 0, for what is random besides the order."""
        return np.random.default_rng([self.seed, epoch, 2]).integers(0, 2**62, len(self))

    @property
    def present(self) -> list[int]:
        """The strata that have samples: those with foreground, then the empty images."""
        counts = self.counts
        return [k for k in (*range(1, len(counts)), 0) if counts[k]]

    @property
    def counts(self) -> np.ndarray:
        """`(len(names),)` int64: samples in each stratum."""
        return np.bincount(self._strata, minlength=len(self.names))

    @property
    def _each(self) -> int:
        """Samples of each stratum in an epoch."""
        counts = self.counts[self.present]
        return int((min if self.sampler == "under" else max)(counts))

    @property
    def _strata(self) -> np.ndarray:
        if self.strata is None:
            raise ValueError("`strata` are needed to tell foreground from empty images, received None.")
        return np.asarray(self.strata, np.int64)

    def _rng(self, epoch: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, epoch, 1])


class EpochSampler(EpochCounter):
    """Gives the samples of one epoch after the other, or of the epoch to which it is pinned.

    Args:
        order: From an epoch to its samples.
        skip: Samples to leave out at the start of every epoch.
    """

    def __init__(self, order: Order, *, skip: int = 0):
        super().__init__()
        self.order, self.skip = order, skip

    def __len__(self) -> int:
        return len(self.order) - self.skip

    def __call__(self, epoch: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Indices and seeds of `epoch`, each `(len(sampler),)` int64; None advances to the next or the pinned epoch."""
        epoch = self.advance() if epoch is None else epoch
        return self.order(epoch)[self.skip :].astype(np.int64), self.order.seeds(epoch)[self.skip :]


def strata(source: Source, *, balance: str = "foreground") -> tuple[np.ndarray, tuple[str, ...]]:
    """What a sampler balances, as `Order` takes it.

    Args:
        source: Where samples are drawn from; its image-level labels are used, and no mask is decoded for them.
        balance: "foreground": images with foreground against empty images. "classes": the images of each class against
            each other and against the empty images, if there are any. An image with several classes counts for the one
            that is rarest in the source.

    Returns: `(n,)` int64, 0 for the empty images, and the name of each stratum.

    Raises:
        ValueError: `balance` is unknown, or a class is in no image.
    """
    if balance not in BALANCES:
        raise ValueError(f"`balance` must be one of {BALANCES}, received balance={balance!r}.")
    if balance == "foreground" or source.num_classes == 1:
        return source.foreground.astype(np.int64), ("empty", "foreground")
    absent = [source.class_names[k] for k in range(1, source.num_classes) if not source.labels[:, k].any()]
    if absent:
        raise ValueError(
            f'balance="classes" needs images of every class, and none of the {len(source)} images shows '
            f'{", ".join(map(repr, absent))}. Take balance="foreground", or split again, stratified.'
        )
    return source.strata, ("empty", *source.class_names[1:])


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
        strata: Name, samples in the source and samples in the epoch of each stratum that has any, empty images last.
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
    strata: tuple[tuple[str, int, int], ...]

    def __str__(self) -> str:
        kind = "natural" if self.sampler == "natural" else f"{self.sampler}-"
        by = " by class" if {name for name, _, _ in self.strata} - {"foreground", "empty"} else ""
        sides = " + ".join(_side(*stratum) for stratum in self.strata)
        shares = (
            f"({_percent(self.epoch_foreground / self.epoch_images)} foreground; "
            f"natural {_percent(self.foreground / self.images)})"
        )
        anew = "" if self.sampler == "natural" else ", drawn anew each epoch"
        repeated = f"the most frequent image {self.most} times" if self.repeats else "every image at most once"
        return (
            f"{kind}{' ' if kind == 'natural' else ''}sampling{by}: {sides} images per epoch {shares}{anew}, "
            f"seed {self.seed}\n{self.unique} unique images per epoch, {self.repeats} repeats: {repeated}"
        )


def audit(
    source: Source, *, sampler: str = "natural", balance: str = "foreground", seed: int = 0, epoch: int = 0
) -> Audit:
    """Count what an epoch of `sampler` shows.

    Args:
        source: Where samples are drawn from.
        sampler: "natural", "under" or "over".
        balance: What is balanced: "foreground" against empty images, or "classes" against each other.
        seed: Of the draws.
        epoch: Which epoch is drawn; only the repeats of "over" differ between epochs.

    Returns: The counts; `str()` of them is what the pipeline prints.

    Raises:
        ValueError: an argument is unknown, or the source has nothing to balance.
    """
    kinds, names = strata(source, balance=balance)
    return audit_order(Order(size=len(source), strata=kinds, names=names, sampler=sampler, seed=seed), epoch=epoch)


def audit_order(order: Order, *, epoch: int = 0) -> Audit:
    """`audit` of `epoch` of an `order` that knows its strata."""
    kinds, drawn = np.asarray(order.strata, np.int64), order(epoch)
    times = np.bincount(drawn, minlength=order.size)
    shown = np.bincount(kinds[drawn], minlength=len(order.names))
    return Audit(
        sampler=order.sampler,
        seed=order.seed,
        images=order.size,
        foreground=int((kinds > 0).sum()),
        epoch_images=len(drawn),
        epoch_foreground=int(shown[1:].sum()),
        unique=int((times > 0).sum()),
        repeats=int(len(drawn) - (times > 0).sum()),
        most=int(times.max()),
        strata=tuple((order.names[k], int(order.counts[k]), int(shown[k])) for k in order.present),
    )


def _side(name: str, count: int, shown: int) -> str:
    if shown == count:
        return f"{count} {name}"
    return f"{shown} of {count} {name}" if shown < count else f"{shown} draws of {count} {name}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %".replace(".0 %", " %")
