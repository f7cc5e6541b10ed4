"""What every source can do: describe itself, split, select, count."""

import pickle
import subprocess
import sys
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import coco_fixtures, source_tree
from support.data_fixtures import Arrays, arrays, figure, labeled, write_pair

import kerazoo as kz
from kerazoo.data.reader import Facts
from kerazoo.data.splitting import split_groups, split_images
from kerazoo.data.threads import in_threads


def test_sources_need_neither_tensorflow_nor_keras():
    code = (
        "import sys, kerazoo as kz; source = kz.data.sources.synthetic(4); source.split(fractions=(0.5, 0.5));"
        "source[0]; kz.data.sampling.audit(source, sampler='over');"
        "print(sorted({'tensorflow', 'keras', 'jax', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


NETWORK = ("ftplib", "http", "huggingface_hub", "requests", "socket", "urllib")


def test_nothing_is_downloaded():
    """No module of the data knows the network, but the one that connects to an input worker."""
    found = {
        (path, name.partition(".")[0])
        for path, tree in source_tree.modules(source_tree.PACKAGE / "data")
        for _, name in source_tree.imports(tree)
    }
    assert {(path, name) for path, name in found if name in NETWORK} == {("batches/service.py", "socket")}


def test_sources_can_be_sent_to_other_processes(tmp_path):
    """Also after their labels, sizes and warnings are known."""
    write_pair(tmp_path / "tiles", "a", figure(), scale=1)
    outline = coco_fixtures.annotation(1, 99, 2, [coco_fixtures.box(0, 0, 20, 10)])
    folder = kz.data.sources.folder(tmp_path / "tiles")
    sources = [
        folder,
        kz.data.concat(arrays(3).subset([0]), arrays(3).subset([2])),
        kz.data.sources.synthetic(3),
        kz.data.sources.coco(*coco_fixtures.save(tmp_path / "coco", coco_fixtures.content(outline))),
        kz.data.prepare(folder, tmp_path / "cache", workers=1),
    ]
    for source in sources:
        _ = source.labels, source.shapes, source.warnings
        copy = pickle.loads(pickle.dumps(source))
        assert (copy.ids, copy.labels.tolist()) == (source.ids, source.labels.tolist())
        assert (copy[0].image == source[0].image).all()
        assert (copy[0].mask == source[0].mask).all()


def test_describes_itself():
    assert str(arrays(12, positives=3, size=(16, 20))) == (
        "Source: 12 images, 3 with foreground (25.0 %), sizes 16-20 px, grey"
    )
    assert str(arrays(4, positives=4, channels=3, num_classes=2)) == (
        "Source: 4 images, 4 with foreground (100.0 %), size 16 px, RGB, 2 classes"
    )


def test_indexes_like_a_sequence():
    source = arrays(5)
    assert [sample.image[0, 0, 0] for sample in source] == [0, 1, 2, 3, 4]
    assert source[-1].id == source.ids[4] == "sample-004"
    with pytest.raises(IndexError, match="index 5 is not in a source of 5 samples"):
        source[5]


def test_subset_selects_in_order_and_stays_labeled():
    source = arrays(6, positives=2).subset([5, 1, -6])
    assert source.ids == ["sample-005", "sample-001", "sample-000"]
    assert source.foreground.tolist() == [False, True, True]
    assert source.subset([2]).ids == ["sample-000"]
    assert source.subset(source.foreground).ids == ["sample-001", "sample-000"]
    for nothing in ([], [False] * 3):
        with pytest.raises(ValueError, match="a source cannot be empty"):
            source.subset(nothing)
    with pytest.raises(ValueError, match="are 2 bools for 3 samples"):
        source.subset(np.array([True, False]))
    with pytest.raises(IndexError, match="index -4 is not in a source of 3 samples"):
        source.subset([0, -4])


def test_labels_say_empty_in_column_0_of_several_classes():
    source = labeled([0, 1, 2, 2])
    assert source.labels.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]]
    assert source.foreground.tolist() == [False, True, True, True]
    assert labeled([0, 1]).labels.tolist() == [[False], [True]]


def test_class_frequencies_count_pixels_and_skip_ignored():
    masks = np.zeros((2, 4, 5), np.uint8)
    masks[0, 0], masks[1, :, 0] = 1, 255
    source = kz.data.Source(Arrays(images=masks[..., np.newaxis], masks=masks, ignore_class=255))
    assert source.class_frequencies() == pytest.approx([31 / 36, 5 / 36])


def test_counting_classes_streams():
    """Few masks are held at a time, and each is read once."""
    alive = 0

    class Counting(np.ndarray):
        def __del__(self):
            nonlocal alive
            alive -= 1

    def mask(index):
        nonlocal alive, most
        alive += 1
        most = max(most, alive)
        return np.zeros((2, 2), np.uint8).view(Counting)

    most = 0
    assert sum(1 for _ in in_threads(mask, range(2000))) == 2000
    assert most < 200


def test_an_index_of_many_records_is_small_and_its_sampler_starts_at_once():
    """A tenth of what `benchmarks/data_index.py` measures: 10⁶ records below 500 MB, started within 2 s."""
    n = 100_000
    tracemalloc.start()
    kinds = np.random.default_rng(0).integers(0, 4, n)
    reader = Arrays(images=np.broadcast_to(np.zeros(1, np.uint8), (n, 1, 1, 1)), masks=np.zeros((n, 1, 1), np.uint8))
    labels = kinds[:, np.newaxis] == 1
    names = tuple(f"patient-{i // 7:07d}/slice-{i:07d}" for i in range(n))

    class Known(Arrays):
        ids, facts = names, Facts(labels, np.ones((n, 3), np.int32))

    source = kz.data.Source(Known(**reader.__dict__))
    start = time.perf_counter()
    part = source.subset(range(0, n, 2))
    drawn = kz.data.sampling.audit(part, sampler="under")
    assert time.perf_counter() - start < 1
    assert drawn.epoch_images == 2 * part.foreground.sum()
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()


# --- split ---


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(0, 40), min_size=1, max_size=5),
    weights=st.lists(st.integers(1, 9), min_size=2, max_size=4),
    seed=st.integers(0, 99),
)
def test_stratified_parts_have_their_share_of_every_stratum(counts, weights, seed):
    strata = np.repeat(np.arange(len(counts)), counts)
    shares = np.asarray(weights) / sum(weights)
    if len(strata) < 40:
        return
    parts = split_images(strata, shares, seed)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(strata)))
    for stratum, count in enumerate(counts):
        held = np.asarray([(strata[part] == stratum).sum() for part in parts])
        assert (np.abs(held - count * shares) <= len(counts)).all()
        assert count < len(shares) or (held > 0).all(), "a stratum with enough images is missing in a part"
    assert np.abs([len(p) for p in parts] - len(strata) * shares).max() <= len(counts)


def test_split_keeps_the_share_of_foreground_and_depends_on_the_seed_alone():
    source = labeled([1] * 30 + [0] * 70)
    train, val, test = source.split(fractions=(0.7, 0.15, 0.15), seed=3)
    assert [len(part) for part in (train, val, test)] == [70, 15, 15]
    assert [int(part.foreground.sum()) for part in (train, val, test)] in ([21, 5, 4], [21, 4, 5])
    assert source.split(fractions=(0.7, 0.15, 0.15), seed=3)[0].ids == train.ids
    assert source.split(fractions=(0.7, 0.15, 0.15), seed=4)[0].ids != train.ids


def test_split_gives_a_rare_class_to_every_part():
    train, val, test = labeled([0] * 50 + [1] * 40 + [2] * 3).split(fractions=(0.8, 0.1, 0.1))
    assert [int(part.labels[:, 2].sum()) for part in (train, val, test)] == [1, 1, 1]


@settings(max_examples=40, deadline=None)
@given(sizes=st.lists(st.integers(1, 12), min_size=3, max_size=30), seed=st.integers(0, 99))
def test_groups_are_never_divided(sizes, seed):
    groups = np.repeat([f"g{i}" for i in range(len(sizes))], sizes)
    strata = np.random.default_rng(seed).integers(0, 2, len(groups))
    parts = split_groups(groups.tolist(), strata, (0.6, 0.2, 0.2), seed)
    held = [set(groups[part]) for part in parts]
    assert all(held)
    assert sum(map(len, held)) == len(set(groups)), "a group is in two parts"
    assert sum(map(len, parts)) == len(groups)


def test_groups_come_close_to_the_fractions_and_stay_stratified():
    rng = np.random.default_rng(0)
    groups = [f"patient{i // 4}" for i in range(400)]
    source = labeled(rng.random(400) < 0.3, groups=tuple(groups))
    train, val = source.split(fractions=(0.75, 0.25), seed=1)
    assert not set(train.groups) & set(val.groups)
    assert abs(len(train) - 300) <= 4
    assert abs(train.foreground.mean() - val.foreground.mean()) < 0.03
    by_image, _ = source.split(by="image", fractions=(0.75, 0.25), seed=1)
    assert len(set(by_image.groups)) > 75, "a split by image divides groups"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fractions": (0.7, 0.2)}, r"sum to 1, received \(0.7, 0.2\), which sum to 0.9"),
        ({"fractions": (1.2, -0.2)}, "positive numbers that sum to 1"),
        ({"by": "patient", "fractions": (0.5, 0.5)}, 'must be "image" or "group", received by=\'patient\''),
        ({"by": "group", "fractions": (0.5, 0.5)}, "pass `groups` when the source is made"),
    ],
)
def test_split_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        labeled([0] * 20).split(**arguments)
    with pytest.raises(ValueError, match=r"Part 2 of fractions=\(0.4, 0.3, 0.3\) would be empty: there are 2 images"):
        labeled([0, 0]).split(fractions=(0.4, 0.3, 0.3))
    with pytest.raises(ValueError, match="there are 2 groups to divide"):
        labeled([0] * 20, groups=("a", "b") * 10).split(fractions=(0.4, 0.3, 0.3))


def test_a_split_survives_as_csv(tmp_path):
    source = labeled([0, 1] * 10, groups=tuple(f"p{i // 2}" for i in range(20)))
    train, val = source.split(fractions=(0.7, 0.3))
    kz.data.save_split({"train": train, "val": val}, tmp_path / "split.csv")
    assert (tmp_path / "split.csv").read_text().splitlines()[:1] == ["id,split,group"]
    loaded = source.load_split(tmp_path / "split.csv")
    assert {name: part.ids for name, part in loaded.items()} == {"train": train.ids, "val": val.ids}


def test_a_split_that_leaks_is_not_saved(tmp_path):
    source = labeled([0, 1] * 4, groups=("a", "b") * 4)
    with pytest.raises(ValueError, match="Sample 'sample-001' is in the parts 'train' and 'val'"):
        kz.data.save_split({"train": source.subset([0, 1]), "val": source.subset([1])}, tmp_path / "split.csv")
    with pytest.raises(ValueError, match="Group 'a' is in the parts 'train' and 'val', which leaks"):
        kz.data.save_split({"train": source.subset([0]), "val": source.subset([2])}, tmp_path / "split.csv")


def test_a_split_of_another_data_set_is_refused(tmp_path):
    (tmp_path / "split.csv").write_text("id,split\nelsewhere,train\n")
    with pytest.raises(ValueError, match="names the id 'elsewhere', which the source lacks"):
        labeled([0, 1]).load_split(tmp_path / "split.csv")
    (tmp_path / "split.csv").write_text("id,split\nsample-000,train\nsample-000,val\n")
    with pytest.raises(ValueError, match="names the id 'sample-000' twice"):
        labeled([0, 1]).load_split(tmp_path / "split.csv")
    (tmp_path / "split.csv").write_text("id,split,group\nsample-000,train,a\nsample-001,val,b\n")
    with pytest.raises(ValueError, match="has the group 'a' in the parts 'train' and 'val', which leaks"):
        labeled([0, 1], groups=("a", "a")).load_split(tmp_path / "split.csv")
    (tmp_path / "split.csv").write_text("name,part\n")
    with pytest.raises(ValueError, match="must have the columns id and split, received"):
        labeled([0, 1]).load_split(tmp_path / "split.csv")


# --- concat ---


def test_concat_reads_every_source():
    first, second = kz.data.sources.synthetic(3, empty_fraction=0), arrays(5, names=("nodule",)).subset([4, 1])
    both = kz.data.concat(first, second)
    assert both.ids == [*first.ids, "sample-004", "sample-001"]
    assert both.foreground.tolist() == [True, True, True, False, True]
    assert both.shapes.tolist() == [[128, 128, 1]] * 3 + [[16, 16, 1]] * 2
    assert (both[2].image == first[2].image).all()
    assert [int(both[i].image[0, 0, 0]) for i in (3, -1)] == [4, 1]
    assert both.fingerprint != kz.data.concat(second, first).fingerprint


def test_concat_refuses_what_does_not_fit():
    source = arrays(3)
    with pytest.raises(ValueError, match="3 ids are in two sources. The first is 'sample-000'"):
        kz.data.concat(source, source)
    with pytest.raises(ValueError, match="Sources differ in num_classes: 1 and 2"):
        kz.data.concat(source, arrays(3, num_classes=2))
    with pytest.raises(ValueError, match="at least one source"):
        kz.data.concat()
