"""Pascal VOC's and Cityscapes' layouts: palettes, colors, split lists, and 255 for what counts nowhere."""

import numpy as np
import pytest
from PIL import Image
from support.data_fixtures import figure, write

import kerazoo as kz
from kerazoo.data.sources.voc import colors

FIGURE = figure()
voc, cityscapes = kz.data.sources.voc, kz.data.sources.cityscapes


def indexed(label):
    """A mask as VOC has it: a class inside a ring of void, indices with a palette."""
    mask = np.where(FIGURE, np.uint8(label), np.uint8(0))
    mask[:2] = 255
    image = Image.fromarray(mask)
    image.putpalette([part for color in colors() for part in color])
    return image


@pytest.fixture
def devkit(tmp_path):
    for name, label in (("2007_01", 15), ("2007_02", 7), ("2007_03", 20)):
        write(tmp_path / f"JPEGImages/{name}.jpg", np.where(FIGURE, 220, 30).astype(np.uint8))
        write(tmp_path / f"SegmentationClass/{name}.png", indexed(label))
    write(tmp_path / "JPEGImages/2007_99.jpg", FIGURE.astype(np.uint8))  # for detection alone
    lists = tmp_path / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("2007_01\n2007_02\n")
    (lists / "trainval.txt").write_text("2007_01\n2007_02\n2007_03\n")
    return tmp_path


def test_the_colors_are_vocs():
    """The devkit's color map begins so."""
    assert colors(8) == [
        (0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128), (128, 128, 128),
    ]  # fmt: skip
    assert colors()[8] == (64, 0, 0)
    assert colors()[15] == (192, 128, 128)
    assert colors()[255] == (224, 224, 192)


def test_voc(devkit):
    source = voc(devkit)
    assert source.ids == ["2007_01", "2007_02", "2007_03"]
    assert (source.num_classes, source.ignore_class) == (21, 255)
    assert source.class_names[15] == "person"
    expected = np.where(FIGURE, 15, 0)
    expected[:2] = 255
    np.testing.assert_array_equal(source[0].mask, expected)
    assert np.flatnonzero(source.labels[1]).tolist() == [7]
    assert voc(devkit, split="train").ids == ["2007_01", "2007_02"]
    assert voc(devkit, split=None, exclude=["2007_02"]).ids == ["2007_01", "2007_03"]


def test_what_a_list_names_and_is_not_there_can_be_excluded(devkit):
    (devkit / "ImageSets/Segmentation/train.txt").write_text("2007_01\n2007_98\n2007_99\n")
    report = kz.data.verify(voc, root=devkit, split="train", ignore=["orphan"])
    found = [(finding.kind, finding.id) for finding in report.findings]
    assert found == [("missing", "2007_98"), ("missing", "2007_99")]
    assert voc(devkit, split="train", exclude=[*report.exclusions]).ids == ["2007_01"]
    (devkit / "split.csv").write_text("id,split\n2007_01,train\n2007_01,test\n")
    report = kz.data.verify(voc, root=devkit, split=devkit / "split.csv", ignore=["orphan"])
    assert "leak" in report.counts, "the file of parts, for which VOC's own split stays as it is"


def test_some_classes_and_void_as_background(devkit):
    source = voc(devkit, classes=["tvmonitor", "person"], void="background")
    assert source.class_names == ("background", "tvmonitor", "person")
    assert source.ignore_class is None
    assert [int(source.mask(k).max()) for k in range(3)] == [2, 0, 1]
    assert voc(devkit, classes=["person"]).num_classes == 1


@pytest.mark.parametrize("name", ["2007_01", "2007_02"])
def test_masks_saved_in_color(devkit, name):
    """The bus of 2007_02 has a gray color, which read as an index would be no class."""
    expected = voc(devkit).mask(int(name[-1]) - 1)
    path = devkit / f"SegmentationClass/{name}.png"
    write(path, Image.open(path).convert("RGB"))
    np.testing.assert_array_equal(voc(devkit).mask(int(name[-1]) - 1), expected)


def test_a_label_map_beside_the_data(devkit):
    (devkit / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncrack:255,0,0::\nhole:0,9,0::\n"
    )
    for k, color in enumerate(((255, 0, 0), (0, 9, 0), (0, 0, 0)), start=1):
        write(devkit / f"SegmentationClass/2007_0{k}.png", (FIGURE[..., np.newaxis] * color).astype(np.uint8))
    source = voc(devkit)
    assert source.class_names == ("background", "crack", "hole")
    assert source.labels.tolist() == [[0, 1, 0], [0, 0, 1], [1, 0, 0]]
    np.testing.assert_array_equal(source.mask(1), FIGURE * 2)
    (devkit / "labelmap.txt").write_text("crack\n")
    with pytest.raises(ValueError, match=r"labelmap\.txt has the line 'crack'; a line is name:red,green,blue::"):
        voc(devkit)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"split": "test"},
            FileNotFoundError,
            r"no list .*test\.txt; `split` is None or one of \['train', ",
        ),
        ({"classes": ["persn"]}, ValueError, r"names 'persn', .* Did you mean 'person'\?"),
        ({"classes": []}, ValueError, r"`classes` must name at least one class"),
        ({"void": "drop"}, ValueError, r"`void` must be one of \('ignore', 'background'\), received 'drop'"),
        ({"mask_directory": "SegmentationObject"}, FileNotFoundError, r"SegmentationObject does not exist"),
    ],
)
def test_bad_arguments(devkit, options, error, message):
    with pytest.raises(error, match=message):
        voc(devkit, **options)


def test_a_list_that_names_no_image_and_a_value_that_is_no_class(devkit):
    (devkit / "ImageSets/Segmentation/train.txt").write_text("2007_01\n2007_55\n")
    with pytest.raises(ValueError, match=r"`include` names 1 ids .* The first is '2007_55'"):
        voc(devkit, split="train")
    write(devkit / "SegmentationClass/2007_01.png", np.where(FIGURE, 33, 0).astype(np.uint8))
    with pytest.raises(ValueError, match=r"2007_01\.png has 1 values"):
        voc(devkit)[0]


def test_cityscapes(tmp_path):
    for city, label in (("aachen", 26), ("bochum", 33)):
        mask = np.where(FIGURE, label, 7).astype(np.uint8)
        mask[:2] = 1  # ego vehicle
        write(tmp_path / f"leftImg8bit/train/{city}/{city}_000_019_leftImg8bit.png", FIGURE.astype(np.uint8) * 200)
        write(tmp_path / f"gtFine/train/{city}/{city}_000_019_gtFine_labelIds.png", mask)
        write(tmp_path / f"gtFine/train/{city}/{city}_000_019_gtFine_instanceIds.png", mask.astype(np.uint16))
    source = cityscapes(tmp_path)
    assert source.ids == ["aachen/aachen_000_019", "bochum/bochum_000_019"]
    assert source.groups == ["aachen", "bochum"]
    assert (source.num_classes, source.ignore_class) == (20, 255)
    expected = np.where(FIGURE, source.class_names.index("car"), source.class_names.index("road"))
    expected[:2] = 255
    np.testing.assert_array_equal(source[0].mask, expected)
    two = cityscapes(tmp_path, classes=["bicycle"], void="background")
    assert (two.num_classes, two.foreground.tolist()) == (1, [False, True])
    with pytest.raises(FileNotFoundError, match=r"`split` must be a directory: .*leftImg8bit/val does not exist"):
        cityscapes(tmp_path, split="val")
