"""What an epoch shows: exact counts, every sample's turn, and the audit in words."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.data_fixtures import labeled

from kerazoo.data import sampling
from kerazoo.data.batches.sampling import EpochSampler, Order

mixes = st.tuples(st.integers(1, 30), st.integers(1, 30)).map(lambda t: np.repeat([True, False], t))


def order(foreground, **options):
    return Order(size=len(foreground), strata=np.asarray(foreground), **options)


@settings(max_examples=60, deadline=None)
@given(foreground=mixes, seed=st.integers(0, 99), epoch=st.integers(0, 5))
def test_under_shows_all_of_the_smaller_side_and_no_sample_twice(foreground, seed, epoch):
    under = order(foreground, sampler="under", seed=seed)
    drawn = under(epoch)
    smaller = min(foreground.sum(), (~foreground).sum())
    assert len(drawn) == len(under) == 2 * smaller
    assert len(set(drawn.tolist())) == len(drawn)
    assert foreground[drawn].sum() == smaller


@settings(max_examples=60, deadline=None)
@given(foreground=mixes, seed=st.integers(0, 99), epoch=st.integers(0, 5))
def test_over_shows_all_of_the_larger_side_once_and_as_many_of_the_smaller(foreground, seed, epoch):
    over = order(foreground, sampler="over", seed=seed)
    drawn = over(epoch)
    larger = foreground if foreground.sum() >= (~foreground).sum() else ~foreground
    assert len(drawn) == len(over) == 2 * larger.sum()
    assert sorted(drawn[larger[drawn]].tolist()) == np.flatnonzero(larger).tolist()


def test_over_draws_with_replacement():
    times = np.bincount(order([True] * 10 + [False] * 100, sampler="over")(0), minlength=110)[:10]
    assert times.sum() == 100
    assert times.min() != times.max(), "an equal number of each is no draw with replacement"


@settings(max_examples=40, deadline=None)
@given(foreground=mixes, half=st.integers(1, 5), sampler=st.sampled_from(["under", "over"]), epoch=st.integers(0, 3))
def test_balanced_batches_are_half_and_half_to_the_last(foreground, half, sampler, epoch):
    balanced = order(foreground, sampler=sampler, balanced=2 * half)
    drawn = balanced(epoch)
    assert len(drawn) == len(balanced)
    for start in range(0, len(drawn), 2 * half):
        batch = foreground[drawn[start : start + 2 * half]]
        assert 2 * batch.sum() == len(batch)


def test_balanced_batches_are_shuffled_inside():
    foreground = np.repeat([True, False], 32)
    drawn = order(foreground, sampler="under", balanced=64)(0)
    assert 0 < foreground[drawn[:32]].sum() < 32
    assert foreground[drawn].tolist() != [True, False] * 32


@pytest.mark.parametrize("sampler", sampling.SAMPLERS)
def test_epochs_differ_and_the_seed_repeats_them(sampler):
    foreground = np.repeat([True, False], (10, 40))
    first, again, other = (order(foreground, sampler=sampler, seed=seed) for seed in (0, 0, 1))
    assert first(3).tolist() == again(3).tolist(), "an order depends on more than seed and epoch"
    assert first(3).tolist() != first(4).tolist()
    assert first(3).tolist() != other(3).tolist()
    assert first.seeds(3).tolist() == again.seeds(3).tolist() != first.seeds(4).tolist()
    assert len(set(first.seeds(3).tolist())) == len(first)


def test_under_uses_the_whole_larger_side_over_epochs():
    under = order(np.repeat([True, False], (20, 60)), sampler="under")
    seen = [set(under(epoch)[under(epoch) >= 20].tolist()) for epoch in range(25)]
    assert set.union(*seen) == set(range(20, 80))
    assert seen[0] != seen[1]


KINDS = np.repeat([0, 1, 2, 3], (40, 12, 5, 1))
NAMES = ("empty", "crack", "hole", "fray")


@pytest.mark.parametrize(("sampler", "each"), [("under", 1), ("over", 40)])
def test_classes_are_shown_equally_often(sampler, each):
    by_class = order(KINDS, names=NAMES, sampler=sampler)
    for epoch in range(3):
        drawn = by_class(epoch)
        assert np.bincount(KINDS[drawn]).tolist() == [each] * 4
        assert len(drawn) == len(by_class)
    assert sorted(drawn[KINDS[drawn] == 0].tolist()) == list(range(40)) or sampler == "under"
    assert by_class(0).tolist() != by_class(1).tolist()
    assert by_class(1).tolist() == order(KINDS, names=NAMES, sampler=sampler)(1).tolist()


def test_batches_hold_every_class_equally_often():
    by_class = order(KINDS, names=NAMES, sampler="over", balanced=8)
    drawn = KINDS[by_class(0)].reshape(-1, 8)
    assert (np.sort(drawn, axis=1) == [0, 0, 1, 1, 2, 2, 3, 3]).all()
    assert len({tuple(batch) for batch in drawn.tolist()}) > 1, "a batch always has the same order of classes"
    with pytest.raises(ValueError, match="needs a `batch_size` that is a multiple of 4, received 6"):
        order(KINDS, names=NAMES, sampler="over", balanced=6)


def test_strata_of_a_source():
    source = labeled([0, 1, 2, 2, 1, 0])
    assert [part.tolist() if part is not None else None for part in sampling.strata(source)[:1]] == [[0, 1, 1, 1, 1, 0]]
    kinds, names = sampling.strata(source, balance="classes")
    assert (kinds.tolist(), names) == ([0, 1, 2, 2, 1, 0], ("empty", "class_1", "class_2"))
    with pytest.raises(ValueError, match="none of the 2 images shows 'class_1'. Take balance=\"foreground\""):
        sampling.strata(source.subset([0, 2]), balance="classes")
    with pytest.raises(ValueError, match="`balance` must be one of"):
        sampling.strata(source, balance="class")
    alike = labeled([2, 2, 2]).subset([0, 1])
    with pytest.raises(ValueError, match="balances classes, and all 2 images count for 'class_2'"):
        order(alike.strata, names=("empty", "class_1", "class_2"), sampler="over")
    full = sampling.audit(labeled([1, 1, 1, 2]), sampler="over", balance="classes")  # no empty image, none is shown
    assert full.strata == (("class_1", 3, 3), ("class_2", 1, 3))


def test_audit_by_class_in_words():
    source = labeled([0] * 40 + [1] * 12 + [2] * 5)
    assert str(sampling.audit(source, sampler="under", balance="classes")).splitlines()[0] == (
        "under-sampling by class: 5 of 12 class_1 + 5 class_2 + 5 of 40 empty images per epoch "
        "(66.7 % foreground; natural 29.8 %), drawn anew each epoch, seed 0"
    )


def test_natural_shows_every_sample_once():
    natural = Order(size=7)
    assert sorted(natural(0).tolist()) == list(range(7))
    assert natural(0).tolist() != natural(1).tolist()
    assert Order(size=7, shuffle=False)(3).tolist() == list(range(7))


def test_draw_advances_until_it_is_pinned():
    natural = Order(size=9)
    draw = EpochSampler(natural)
    assert [draw()[0].tolist() for _ in range(2)] == [natural(0).tolist(), natural(1).tolist()]
    draw.pinned = 7
    assert [draw()[0].tolist() for _ in range(2)] == [natural(7).tolist()] * 2
    assert [part.tolist() for part in EpochSampler(natural, skip=4)()] == [
        natural(0)[4:].tolist(),
        natural.seeds(0)[4:].tolist(),
    ]
    assert len(EpochSampler(natural, skip=4)) == 5


def test_audit_in_words():
    source = labeled([1] * 278 + [0] * 685)
    assert str(sampling.audit(source, sampler="under")).splitlines() == [
        "under-sampling: 278 foreground + 278 of 685 empty images per epoch (50 % foreground; natural 28.9 %), "
        "drawn anew each epoch, seed 0",
        "556 unique images per epoch, 0 repeats: every image at most once",
    ]
    over = sampling.audit(source, sampler="over", seed=3)
    assert str(over).splitlines()[0] == (
        "over-sampling: 685 draws of 278 foreground + 685 empty images per epoch (50 % foreground; natural 28.9 %), "
        "drawn anew each epoch, seed 3"
    )
    drawn = order(source.foreground, sampler="over", seed=3)(0)
    assert (over.unique, over.repeats) == (len(set(drawn.tolist())), 1370 - len(set(drawn.tolist())))
    assert over.most == np.bincount(drawn).max() > 3
    assert str(sampling.audit(labeled([1] * 9 + [0] * 4), sampler="under")).startswith(
        "under-sampling: 4 of 9 foreground + 4 empty images per epoch (50 % foreground; natural 69.2 %)"
    )
    natural = sampling.audit(source)
    assert (natural.epoch_images, natural.epoch_foreground, natural.unique) == (963, 278, 963)
    assert str(natural).startswith("natural sampling: 278 foreground + 685 empty images per epoch (28.9 % foreground;")


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ([0, 0, 0], {"sampler": "under"}, 'none of the 3 images is with foreground. Take sampler="natural"'),
        ([1, 1], {"sampler": "over"}, "none of the 2 images is empty"),
        ([0, 1], {"sampler": "up"}, r"`sampler` must be one of \('natural', 'under', 'over'\), received sampler='up'"),
        ([0, 1], {"balanced": 4}, 'needs sampler="under" or "over", received sampler="natural"'),
        ([0, 1], {"sampler": "under", "balanced": 5}, "needs an even `batch_size`, received 5"),
        ([0, 1], {"sampler": "under", "shuffle": False}, "draws at random; leave out shuffle=False"),
    ],
)
def test_refuses(labels, options, message):
    with pytest.raises(ValueError, match=message):
        order(np.asarray(labels, bool), **options)


def test_balancing_needs_to_know_the_foreground():
    with pytest.raises(ValueError, match="`strata` are needed to tell foreground from empty images"):
        Order(size=3, sampler="under")
