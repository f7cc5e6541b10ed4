"""Invented images: what is promised of them, and that they can be learned."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kerazoo as kz

synthetic = kz.data.sources.synthetic


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(1, 12),
    empty_fraction=st.floats(0, 1),
    seed=st.integers(0, 999),
    size=st.tuples(st.integers(16, 70), st.integers(16, 70)),
    num_classes=st.integers(1, 6),
    channels=st.sampled_from([1, 3]),
)
def test_labels_are_what_the_masks_show(n, empty_fraction, seed, size, num_classes, channels):
    source = synthetic(
        n, empty_fraction=empty_fraction, seed=seed, image_size=size, num_classes=num_classes, channels=channels
    )
    assert (~source.foreground).sum() == round(n * empty_fraction)
    for sample, labels in zip(source, source.labels, strict=True):
        assert (sample.image.shape, sample.image.dtype) == ((*size, channels), np.uint8)
        assert (sample.mask.shape, sample.mask.dtype) == (size, np.uint8)
        shown = set(np.unique(sample.mask)) - {0}
        if num_classes == 1:
            assert shown == ({1} if labels[0] else set())
        else:
            assert labels[0] == (not shown)
            assert set(np.flatnonzero(labels[1:]) + 1) == shown


def test_sample_depends_on_seed_and_index_alone():
    first, again, other = synthetic(6), synthetic(6), synthetic(6, seed=1)
    backwards = [again[i] for i in (5, 4, 3, 2, 1, 0)][::-1]
    assert all((a.image == b.image).all() and (a.mask == b.mask).all() for a, b in zip(first, backwards, strict=True))
    assert all((a.image != b.image).any() for a, b in zip(first, other, strict=True))
    assert len({sample.image.tobytes() for sample in first}) == 6
    assert first.fingerprint == again.fingerprint != other.fingerprint


def test_lesions_vary_in_size_and_contrast_and_stand_out():
    contrasts, areas = [], []
    for sample in synthetic(60, empty_fraction=0):
        mask = sample.mask > 0
        ring = np.zeros_like(mask)
        for dy, dx in ((0, 5), (5, 0), (0, -5), (-5, 0)):
            ring |= np.roll(mask, (dy, dx), (0, 1))
        image = sample.image[..., 0].astype(float)
        contrasts.append(image[mask].mean() - image[ring & ~mask].mean())
        areas.append(mask.mean())
    assert 10 < np.median(contrasts) < 60
    assert np.quantile(areas, 0.9) > 5 * np.quantile(areas, 0.1)
    assert 0.002 < np.mean(areas) < 0.1


def test_brightness_alone_does_not_tell_empty_images():
    source = synthetic(120, empty_fraction=0.5)
    brightest = np.array([np.sort(sample.image, axis=None)[-20:].mean() for sample in source])
    threshold = np.quantile(brightest, 0.5)
    assert ((brightest > threshold) == source.foreground).mean() < 0.85


def test_classes_are_all_drawn():
    source = synthetic(60, empty_fraction=0, num_classes=6, image_size=(64, 64))
    assert source.class_names == ("background", "nodule", "streak", "ring", "cluster", "stripes")
    assert (source.labels[:, 1:].sum(axis=0) >= 5).all()
    assert not source.labels[:, 0].any()
    assert source.class_frequencies().min() > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "`n` must be a whole number of at least 1, received 0"),
        ({"n": 8.0}, "`n` must be a whole number of at least 1, received 8.0: write 8"),
        ({"empty_fraction": 1.5}, "between 0 and 1, received empty_fraction=1.5"),
        ({"image_size": (8, 64)}, r"at least 16x16, received image_size=\(8, 64\)"),
        ({"num_classes": 7}, r"2 to 6 \(the shapes .*\), received num_classes=7"),
        ({"channels": 2}, "must be 1 or 3, received channels=2"),
        ({"radius": (0.2, 0.1)}, r"`radius` must be \(low, high\) with 0 < low <= high <= 0.5"),
    ],
)
def test_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        synthetic(**{"n": 4, **options})


def test_sources_are_a_table():
    assert {"folder", "synthetic"} <= set(kz.data.sources.list())
    assert len(kz.data.sources.create("synthetic", n=3)) == 3
    with pytest.raises(ValueError, match="Did you mean 'synthetic'"):
        kz.data.sources.create("syntetic", n=3)
