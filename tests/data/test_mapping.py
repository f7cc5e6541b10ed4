"""Classes merged, dropped and ignored: masks and labels follow each other, and labels open no mask."""

import numpy as np
import pytest
from support.coco_fixtures import annotation, box, content, save
from support.data_fixtures import Arrays, arrays, labeled

import kerazoo as kz

NAMES = ("background", "liver", "lesion", "spleen")


def organs(**fields):
    masks = np.zeros((5, 4, 4), np.uint8)
    for k in range(1, 4):
        masks[k, k] = k
    masks[4] = np.arange(16).reshape(4, 4) % 4
    return kz.data.Source(Arrays(images=masks[..., np.newaxis], masks=masks, num_classes=4, names=NAMES, **fields))


def consistent(source):
    """Labels are what the masks show, and masks hold nothing but classes."""
    for index, label in enumerate(source.labels):
        ids = set(np.unique(source.mask(index)).tolist()) - {source.ignore_class}
        assert ids <= set(range(max(source.num_classes, 2)))
        shown = np.array([k in ids for k in range(max(source.num_classes, 2))])
        shown[0] = not shown[1:].any()
        np.testing.assert_array_equal(label, shown[1:] if source.num_classes == 1 else shown)


def test_merging_keeps_the_order_of_ids():
    source = organs().map_classes({"lesion": "liver"})
    assert source.class_names == ("background", "liver", "spleen")
    assert source.num_classes == 3
    assert [int(source.mask(k).max()) for k in range(4)] == [0, 1, 1, 2]
    np.testing.assert_array_equal(source.mask(4), np.tile([0, 1, 1, 2], (4, 1)))
    consistent(source)


def test_dropping_and_ignoring():
    source = organs().map_classes({"lesion": "background", 3: "ignore"})
    assert source.class_names == ("liver",)
    assert (source.num_classes, source.ignore_class) == (1, 255)
    np.testing.assert_array_equal(source.mask(4), np.tile([0, 1, 0, 255], (4, 1)))
    assert source.foreground.tolist() == [False, True, False, False, True]
    consistent(source)


def test_ignored_pixels_do_not_count():
    source = organs().map_classes({"spleen": "ignore"})
    counts = np.bincount(np.concatenate([source.mask(k).ravel() for k in range(5)]), minlength=256)
    assert source.class_frequencies() == pytest.approx(counts[:3] / counts[:3].sum())
    assert counts[255] == 4 + 4


def test_an_ignore_class_of_its_own_stays():
    masks = np.array([[[0, 1], [2, 200]]], np.uint8)
    source = kz.data.Source(
        Arrays(images=masks[..., None], masks=masks, num_classes=3, names=NAMES[:3], ignore_class=200)
    )
    mapped = source.map_classes({"lesion": "ignore"})
    assert mapped.ignore_class == 200
    assert mapped.mask(0).tolist() == [[0, 1], [200, 200]]


def test_everything_into_one_class_and_two_outputs_for_it():
    source = organs().map_classes({"liver": "organ", "lesion": "organ", "spleen": "organ"}, num_classes=2)
    assert source.class_names == ("background", "organ")
    assert source.labels.tolist() == [[1, 0], *[[0, 1]] * 4]
    consistent(source)


def test_a_binary_source_is_renamed():
    source = arrays(3, positives=1).map_classes({"class_0": "defect"})
    assert source.class_names == ("defect",)
    assert source.labels.tolist() == [[True], [False], [False]]
    two = arrays(3, positives=1).map_classes({1: "defect"}, num_classes=2)
    assert two.labels.tolist() == [[False, True], [True, False], [True, False]]


def test_the_selection_stays_and_images_too():
    source = organs().subset([4, 2, 0]).map_classes({"lesion": "background"})
    assert source.ids == ["sample-004", "sample-002", "sample-000"]
    assert source.foreground.tolist() == [True, False, False]
    assert source[0].image.max() == 3
    assert source.split(fractions=(0.5, 0.5), seed=1)[0].class_names == ("background", "liver", "spleen")


def test_twice_and_joined():
    first, second = labeled([0, 1, 2]), organs().map_classes({"lesion": "spleen"})
    twice = second.map_classes({"spleen": "liver"})
    assert twice.num_classes == 1
    consistent(twice)
    with pytest.raises(ValueError, match=r"Sources differ in class_names"):
        kz.data.concat(first, second)


def test_labels_open_no_mask(tmp_path):
    data = content(annotation(1, 100, 2, [box(4, 4, 9, 9)]), annotation(2, 99, 17, [box(4, 4, 9, 9)]))
    images, path = save(tmp_path, data)
    source = kz.data.sources.coco(images, path).map_classes({"cat": "background", "bicycle": "car"})
    (images / "0.png").unlink()
    assert source.foreground.tolist() == [True, False]
    assert source.class_names == ("car",)
    reads = {"image": 0, "mask": 0}
    assert organs(reads=reads).map_classes({"lesion": "liver"}).foreground.any()
    assert reads == {"image": 0, "mask": 0}


def test_fingerprint_follows_the_classes():
    prints = {
        organs().map_classes({"lesion": name}).fingerprint for name in ("liver", "spleen", "background", "ignore")
    }
    assert len(prints | {organs().fingerprint}) == 5


def test_the_pipeline_gives_the_new_ids():
    source = organs().map_classes({"lesion": "liver"})
    batches = kz.data.pipeline(source, image_size=(4, 4), batch_size=5, shuffle=False)
    _, masks = next(iter(batches))
    np.testing.assert_array_equal(np.asarray(masks)[4].reshape(4, 4), np.tile([0, 1, 1, 2], (4, 1)))


@pytest.mark.parametrize(
    ("mapping", "options", "message"),
    [
        ({"leison": "liver"}, {}, r"the class 'leison', .* Did you mean 'lesion' or 'spleen'\? They are \{1: 'liver'"),
        ({4: "liver"}, {}, r"names the class 4"),
        ({0: "liver"}, {}, r"names the class 0, which is no foreground class"),
        ({"lesion": None}, {}, r"gives 'lesion' the new name None; it must be a name, 'background' or 'ignore'"),
        (dict.fromkeys(NAMES[1:], "background"), {}, r"leaves no foreground class"),
        ({}, {"num_classes": 1}, r"num_classes=1 does not go with the 3 foreground classes"),
    ],
)
def test_bad_mapping(mapping, options, message):
    with pytest.raises(ValueError, match=message):
        organs().map_classes(mapping, **options)
