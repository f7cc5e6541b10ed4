"""Images and masks as files: every layout, every fault."""

import numpy as np
import pytest
from PIL import Image
from support.data_fixtures import figure, write, write_pair

import kerazoo as kz

folder = kz.data.sources.folder
FIGURE = figure()
EMPTY = np.zeros_like(FIGURE)
DEEP = Image.fromarray((np.arange(32 * 48).reshape(32, 48) * 40).astype(np.uint16))


def right_pixels(sample):
    """The bright pixels of the image are the mask's; JPEG smears a little."""
    return sample.mask.dtype == np.uint8 and ((sample.image[..., 0] > 125) == (sample.mask > 0)).mean() > 0.99


# --- layouts ---


def test_masks_beside_images(tmp_path):
    write_pair(tmp_path, "b", FIGURE)
    write_pair(tmp_path, "deep/er/a", EMPTY)
    write(tmp_path / ".hidden.jpg", np.zeros((8, 8), np.uint8))
    (tmp_path / "notes.txt").write_text("no image")
    source = folder(tmp_path, mask_threshold=127)
    assert source.ids == ["b", "deep/er/a"]
    assert source.foreground.tolist() == [True, False]
    assert right_pixels(source[0])
    assert source[0].mask.sum() == FIGURE.sum()
    assert str(source) == "Source: 2 images, 1 with foreground (50.0 %), sizes 32-48 px, grey"
    assert folder(tmp_path, mask_threshold=127, recursive=False).ids == ["b"]


def test_masks_with_a_longer_suffix(tmp_path):
    write(tmp_path / "A.PNG", np.where(FIGURE, 220, 30).astype(np.uint8))
    write(tmp_path / "A_mask.png", FIGURE.astype(np.uint8))
    source = folder(tmp_path, mask_suffix="_mask.png")
    assert source.ids == ["A"]
    assert right_pixels(source[0])


def test_masks_in_a_folder_of_their_own(tmp_path):
    write(tmp_path / "images/x/1.png", np.where(FIGURE, 220, 30).astype(np.uint8))
    write(tmp_path / "masks/x/1_gt.tif", FIGURE.astype(np.uint8))
    source = folder(tmp_path / "images", masks=tmp_path / "masks", mask_suffix="_gt.tif")
    assert source.ids == ["x/1"]
    assert right_pixels(source[0])


def test_masks_in_a_folder_inside_the_images(tmp_path):
    write(tmp_path / "1.png", np.where(FIGURE, 220, 30).astype(np.uint8))
    write(tmp_path / "masks/1.png", FIGURE.astype(np.uint8))
    assert folder(tmp_path, masks=tmp_path / "masks").ids == ["1"]


def test_image_suffix_is_cut_from_the_id(tmp_path):
    write(tmp_path / "1_image.png", np.where(FIGURE, 220, 30).astype(np.uint8))
    write(tmp_path / "1_mask.png", FIGURE.astype(np.uint8))
    write(tmp_path / "1_preview.png", np.zeros((4, 4), np.uint8))
    assert folder(tmp_path, image_suffix="_image.png", mask_suffix="_mask.png").ids == ["1"]


def test_links_to_a_parent_end(tmp_path):
    write_pair(tmp_path, "a/1", FIGURE)
    (tmp_path / "a/loop").symlink_to(tmp_path)
    assert folder(tmp_path, mask_threshold=127).ids == ["a/1"]


# --- classes ---


def test_mask_values_become_ids(tmp_path):
    mask = np.zeros((8, 8), np.uint8)
    mask[0], mask[1], mask[2] = 10, 20, 255
    write(tmp_path / "1.jpg", mask)
    write(tmp_path / "1.png", mask)
    source = folder(tmp_path, mask_values={0: 0, 10: 2, 20: 1, 255: 9}, ignore_class=9)
    assert source.num_classes == 3
    assert source[0].mask[:4, 0].tolist() == [2, 1, 9, 0]
    assert source.labels.tolist() == [[False, True, True]]
    assert source.class_names == ("background", "class_1", "class_2")


def test_ids_as_they_are(tmp_path):
    mask = np.zeros((8, 8), np.uint8)
    mask[0], mask[1] = 2, 255
    write(tmp_path / "1.jpg", mask)
    write(tmp_path / "1.png", mask)
    source = folder(tmp_path, classes=["car", "road"], ignore_class=255)
    assert (source.num_classes, source.class_names) == (3, ("background", "car", "road"))
    assert source[0].mask[:3, 0].tolist() == [2, 255, 0]
    assert source.labels.tolist() == [[False, False, True]]


def test_foreground_is_greater_than_the_threshold(tmp_path):
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    write(tmp_path / "1.jpg", ramp)
    write(tmp_path / "1.png", ramp)
    assert folder(tmp_path, mask_threshold=127)[0].mask.ravel().tolist() == [0] * 128 + [1] * 128


def test_colors_and_palettes(tmp_path):
    mask = np.zeros((8, 8, 3), np.uint8)
    mask[0], mask[1] = (255, 0, 0), (0, 128, 0)
    write(tmp_path / "1.jpg", mask[..., 0])
    write(tmp_path / "1.png", mask)
    values = {(0, 0, 0): 0, (255, 0, 0): 1, (0, 128, 0): 2}
    assert folder(tmp_path, mask_values=values)[0].mask[:3, 0].tolist() == [1, 2, 0]
    with pytest.raises(ValueError, match=r"1 values that `mask_values` does not name: \(0, 128, 0\)"):
        folder(tmp_path, mask_values={(0, 0, 0): 0, (255, 0, 0): 1})[0]
    with pytest.raises(ValueError, match=r"1\.png is in color. Pass the class of each color"):
        folder(tmp_path)[0]
    indexed = Image.fromarray((mask[..., 0] > 0).astype(np.uint8))
    indexed.putpalette([0, 0, 0, 9, 200, 9])
    write(tmp_path / "1.png", indexed.convert("P"))
    assert folder(tmp_path)[0].mask[:2, 0].tolist() == [1, 0]


def test_one_bit_masks(tmp_path):
    write(tmp_path / "1.jpg", np.where(FIGURE, 220, 30).astype(np.uint8))
    write(tmp_path / "1.png", Image.fromarray(FIGURE))
    for options in ({}, {"mask_threshold": 127}, {"mask_values": {0: 0, 255: 1}}, {"mask_values": {0: 0, 1: 1}}):
        assert (folder(tmp_path, **options)[0].mask == FIGURE).all(), options
    assert folder(tmp_path, mask_threshold=127).foreground.all()


def test_class_from_directory(tmp_path):
    write_pair(tmp_path, "crack/Imgs/1", FIGURE)
    write_pair(tmp_path, "crack/Imgs/2", EMPTY)
    write_pair(tmp_path, "break/Imgs/3", FIGURE)
    write_pair(tmp_path, "free/Imgs/4", EMPTY)
    options = {"mask_threshold": 127, "class_from": "directory"}
    found = folder(tmp_path, **options)
    assert found.class_names == ("background", "break", "crack")
    assert [set(np.unique(sample.mask)) for sample in found] == [{0, 1}, {0, 2}, {0}, {0}]
    assert found.labels.tolist() == [[0, 1, 0], [0, 0, 1], [1, 0, 0], [1, 0, 0]]
    assert found.warnings == [
        "crack/Imgs/2: its mask is empty, though 1 of the 2 images in crack/Imgs have foreground."
    ]
    named = folder(tmp_path, classes=["crack", "break"], **options)
    assert [int(sample.mask.max()) for sample in named] == [2, 1, 0, 0]
    with pytest.raises(ValueError, match=r"No image under .* lies in a directory named 'crak'; the directories are"):
        folder(tmp_path, classes=["crak"], **options)
    partial = folder(tmp_path, classes=["crack"], **options)
    for look in (lambda: partial[0], lambda: partial.foreground):
        with pytest.raises(ValueError, match="has foreground, but no directory in its path is one of the classes"):
            look()
    with pytest.raises(ValueError, match=r"with foreground in a mask are \['break', 'crack'\], and num_classes=4"):
        _ = folder(tmp_path, num_classes=4, **options).labels
    with pytest.raises(ValueError, match="lies under two directories that are `classes`"):
        folder(tmp_path, classes=["crack", "Imgs"], **options)


def test_groups(tmp_path):
    for name in ("p1_a", "p1_b", "p2_a"):
        write_pair(tmp_path, name, FIGURE)
    assert folder(tmp_path, mask_threshold=127, groups=r"(p\d)_").groups == ["p1", "p1", "p2"]
    assert folder(tmp_path, mask_threshold=127, groups=lambda id: id[-1]).groups == ["a", "b", "a"]
    with pytest.raises(ValueError, match=r"groups='q\(.\)' is not found in the id 'p1_a'"):
        folder(tmp_path, mask_threshold=127, groups="q(.)")


# --- images ---


@pytest.mark.parametrize(
    ("name", "pixels", "shape", "dtype", "corner"),
    [
        ("gray.png", np.full((8, 9), 7, np.uint8), (8, 9, 1), np.uint8, [7]),
        ("rgb.png", np.full((8, 9, 3), (1, 2, 3), np.uint8), (8, 9, 3), np.uint8, [1, 2, 3]),
        ("deep.png", DEEP, (32, 48, 1), np.uint16, [0]),
        ("float.tif", np.full((8, 9), 0.5, np.float32), (8, 9, 1), np.float32, [0.5]),
        ("alpha.png", np.full((8, 9, 4), (1, 2, 3, 9), np.uint8), (8, 9, 3), np.uint8, [1, 2, 3]),
        ("grayalpha.png", np.full((8, 9, 2), (5, 9), np.uint8), (8, 9, 1), np.uint8, [5]),
        ("cmyk.jpg", Image.new("CMYK", (9, 8)), (8, 9, 3), np.uint8, [255, 255, 255]),
        ("bit.png", Image.new("1", (9, 8), 1), (8, 9, 1), np.uint8, [255]),
        ("palette.png", Image.new("RGB", (9, 8), (4, 5, 6)).quantize(4), (8, 9, 3), np.uint8, [4, 5, 6]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_image_modes(tmp_path, name, pixels, shape, dtype, corner):
    write(tmp_path / name, pixels)
    write(tmp_path / "masks" / f"{name.partition('.')[0]}.png", np.zeros(shape[:2], np.uint8))
    source = folder(tmp_path, masks=tmp_path / "masks")
    image = source[0].image
    assert (image.shape, image.dtype) == (shape, dtype)
    assert image[0, 0].tolist() == corner
    assert source.shapes.tolist() == [list(shape)]
    expected = {
        "alpha.png": "1 images have an alpha channel, which is dropped. The first is alpha.",
        "grayalpha.png": "1 images have an alpha channel, which is dropped. The first is grayalpha.",
        "float.tif": "Images are floating point with values up to 0.5, where 0-255 is expected. If they are in 0-1, "
        "pass intensity_range=(0, 1).",
    }
    assert source.warnings == ([expected[name]] if name in expected else [])


@pytest.mark.parametrize(
    ("peaks", "options", "warned"),
    [
        ((0.3, 1.0), {}, True),
        ((0.3, 1.0), {"intensity_range": (0, 1)}, False),
        ((0.3, 200.0), {}, False),
        ((0.0, 0.0), {}, False),
    ],
)
def test_floats_in_0_to_1_are_warned_of(tmp_path, peaks, options, warned):
    for index, peak in enumerate(peaks):
        write(tmp_path / f"{index}.TIF", np.linspace(0, peak, 64, dtype=np.float32).reshape(8, 8))
        write(tmp_path / f"{index}.png", np.zeros((8, 8), np.uint8))
    warnings = folder(tmp_path, **options).warnings
    assert warnings == (
        [
            "Images are floating point with values up to 1, where 0-255 is expected. If they are in 0-1, pass "
            "intensity_range=(0, 1)."
        ]
        if warned
        else []
    )


def test_sixteen_bits_are_kept_or_mapped(tmp_path):
    write(tmp_path / "1.tif", DEEP)
    write(tmp_path / "1.png", np.zeros((32, 48), np.uint8))
    assert (folder(tmp_path)[0].image[..., 0] == np.asarray(DEEP)).all()
    image = folder(tmp_path, intensity_range=(0, 40 * 1000))[0].image
    assert image.dtype == np.float32
    assert image.ravel()[[0, 500, 1000, 1500]].tolist() == [0, 127.5, 255, 255]
    with pytest.raises(ValueError, match=r"`intensity_range` must be \(low, high\) with low < high, received \(5, 5\)"):
        folder(tmp_path, intensity_range=(5, 5))


def test_exif_turns_the_image_to_its_mask(tmp_path):
    turned = Image.fromarray(np.where(FIGURE, 220, 30).astype(np.uint8)).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned clockwise, so as it was before
    write(tmp_path / "1.jpg", turned, exif=exif, quality=95)
    write(tmp_path / "1.png", FIGURE.astype(np.uint8))
    source = folder(tmp_path)
    assert right_pixels(source[0])
    assert source.foreground.all()
    assert "1 images are turned by their EXIF orientation, as `exif_orientation` says" in source.warnings[0]
    with pytest.raises(ValueError, match="differ in size: image 48x32, mask 32x48"):
        folder(tmp_path, exif_orientation=False)[0]


# --- faults ---


def test_missing_directories_and_images(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"`root` must be a directory: .*nowhere does not exist"):
        folder(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"`masks` must be a directory: .*nowhere does not exist"):
        folder(tmp_path, masks=tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"No image in .*: its 0 files have the suffixes no;"):
        folder(tmp_path)
    write(tmp_path / "1.png", EMPTY)
    with pytest.raises(ValueError, match=r"suffixes .png; .* and files that end in mask_suffix='.png' are masks"):
        folder(tmp_path)


def test_missing_masks(tmp_path):
    write_pair(tmp_path, "a", FIGURE)
    write(tmp_path / "b.jpg", np.zeros((10, 20), np.uint8))
    with pytest.raises(
        FileNotFoundError, match=r"1 of 2 images have no mask. The first is .*b\.jpg, .* would be .*b\.png"
    ):
        folder(tmp_path, mask_threshold=127)
    source = folder(tmp_path, mask_threshold=127, missing_mask="empty")
    assert source.foreground.tolist() == [True, False]
    assert source[1].mask.shape == (10, 20)
    assert not source[1].mask.any()


def test_masks_without_image_are_warned_of(tmp_path):
    write_pair(tmp_path, "a", FIGURE)
    write(tmp_path / "c.png", EMPTY)
    assert folder(tmp_path, mask_threshold=127).warnings == [
        "1 files or records belong to no sample. The first: c.png is a mask of no image."
    ]


def test_two_images_with_one_mask(tmp_path):
    write_pair(tmp_path, "a", FIGURE)
    write(tmp_path / "a.bmp", np.zeros((32, 48), np.uint8))
    with pytest.raises(ValueError, match=r"a\.bmp and a\.jpg in .* are two images with one id and one mask"):
        folder(tmp_path)


def test_sizes_that_differ(tmp_path):
    write(tmp_path / "a.jpg", np.zeros((10, 20), np.uint8))
    write(tmp_path / "a.png", np.zeros((10, 21), np.uint8))
    source = folder(tmp_path)
    with pytest.raises(ValueError, match=r"Image and mask of 'a' differ in size: image 10x20, mask 10x21"):
        source[0]
    with pytest.raises(
        ValueError, match=r"a\.jpg and mask .*a\.png differ in size: 10x20 and 10x21 \(height x width\)"
    ):
        _ = source.foreground


@pytest.mark.parametrize(
    ("options", "values", "message"),
    [
        ({}, [255], r"a\.png has 1 values outside the classes 0..1: 255. If 255 is foreground, pass mask_values="),
        ({}, [1, 3], r"1 values outside the classes 0..1: 3. Pass `num_classes`, `mask_values` or `ignore_class`"),
        ({}, range(1, 64), r"anti-aliased or compressed with loss: pass mask_threshold=127"),
        ({"mask_values": {0: 0, 255: 1}}, [255, 254], r"1 values that `mask_values` does not name: 254. Add them"),
        ({"num_classes": 3}, [3], r"1 values outside the classes 0..2: 3"),
        (
            {"mask_threshold": 127},
            [1],
            r"mask_threshold=127 leaves no foreground in any mask .*: the greatest value is 1",
        ),
    ],
)
def test_mask_values_that_are_no_classes(tmp_path, options, values, message):
    mask = np.zeros((8, 8), np.uint8)
    mask.flat[: len(values)] = values
    write(tmp_path / "a.jpg", mask)
    write(tmp_path / "a.png", mask)
    with pytest.raises(ValueError, match=message):
        _ = folder(tmp_path, **options).foreground
    if "threshold" not in message.partition(":")[0]:
        with pytest.raises(ValueError, match=message):
            folder(tmp_path, **options)[0]


def test_jpeg_masks_need_a_threshold(tmp_path):
    write(tmp_path / "a.png", np.where(FIGURE, 220, 30).astype(np.uint8))
    write(tmp_path / "masks/a.jpg", np.where(FIGURE, 255, 0).astype(np.uint8), quality=60)
    layout = {"masks": tmp_path / "masks", "mask_suffix": ".jpg"}
    with pytest.raises(ValueError, match="compressed with loss"):
        folder(tmp_path, **layout)[0]
    assert (folder(tmp_path, mask_threshold=127, **layout)[0].mask == FIGURE).all()


@pytest.mark.parametrize(("suffix", "keep"), [(".jpg", 0.6), (".png", 0.5), (".jpg", 0.02), (".png", 0.0)])
def test_truncated_files_are_named(tmp_path, suffix, keep):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
    write(tmp_path / "images/a.jpg", noise)
    write(tmp_path / "masks/a.png", noise // 128)
    path = tmp_path / ("images/a.jpg" if suffix == ".jpg" else "masks/a.png")
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(ValueError, match=rf"Cannot read .*a\{suffix}: .* corrupt, truncated or no image"):
        folder(tmp_path / "images", masks=tmp_path / "masks")[0]


def test_all_faults_are_listed_together(tmp_path):
    for name in "abcdefg":
        write_pair(tmp_path, name, FIGURE)
    (tmp_path / "b.jpg").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"7 of 7 samples under .* are faulty. The first:\n- .*a\.png.*\n- .*b\.jpg"):
        _ = folder(tmp_path).labels


def test_other_files_that_would_be_misread(tmp_path):
    write(tmp_path / "a.tif", np.full((8, 8), np.nan, np.float32))
    write(tmp_path / "masks/a.png", np.zeros((8, 8), np.uint8))
    with pytest.raises(ValueError, match=r"a\.tif holds NaN or infinity"):
        folder(tmp_path, masks=tmp_path / "masks")[0]
    frames = [Image.new("L", (8, 8), value) for value in (0, 9)]
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])
    with pytest.raises(ValueError, match=r"a\.tif has 2 frames, and one image is expected"):
        folder(tmp_path, masks=tmp_path / "masks")[0]
    write(tmp_path / "a.tif", np.zeros((8, 8), np.uint8))
    write(tmp_path / "masks/a.png", np.full((8, 8, 2), (1, 100), np.uint8))
    with pytest.raises(ValueError, match=r"a\.png has transparent pixels: their class is unknown"):
        folder(tmp_path, masks=tmp_path / "masks")[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_from": "name"}, r"folder's `class_from` must be one of \('pixel', 'directory'\), received 'name'"),
        ({"missing_mask": "skip"}, r"folder's `missing_mask` must be one of \('error', 'empty'\), received 'skip'"),
        ({"num_classes": 0}, "`num_classes` must be 1, or 2 or more with the background, received 0"),
        ({"num_classes": 2, "classes": ["a", "b"]}, "num_classes=2 has 1 foreground classes, and `classes` names 2"),
        ({"classes": ["a", "a"]}, "must name each foreground class once"),
        ({"mask_threshold": 9, "mask_values": {0: 0}}, "leave out `mask_values` and `ignore_class`"),
        ({"mask_threshold": 9, "num_classes": 3}, "tells two classes apart, and there are 3"),
        ({"mask_values": {0: 0, 9: 5}, "num_classes": 3}, r"leads to the ids \[5\], outside the classes 0..2"),
        ({"ignore_class": 1}, r"`ignore_class` must lie beside the class ids 0..1 and be at most 255"),
        ({"num_classes": 300}, "There must be 2 to 256 class ids"),
    ],
)
def test_arguments_that_contradict(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        folder(tmp_path, **options)


def test_an_empty_mask_among_full_ones_is_warned_of(tmp_path):
    for i in range(19):
        write_pair(tmp_path, f"defect/{i:02d}", FIGURE)
    write_pair(tmp_path, "defect/19", EMPTY)
    for i in range(3):
        write_pair(tmp_path, f"free/{i}", EMPTY)
    assert folder(tmp_path / "defect", mask_threshold=127).warnings == [], "one directory says nothing of its images"
    source = folder(tmp_path, mask_threshold=127)
    assert source.warnings == ["defect/19: its mask is empty, though 19 of the 20 images in defect have foreground."]
    assert source.subset([0, 1]).warnings == []
    assert str(source).endswith("grey; 1 warning: source.warnings")


def test_warnings_do_not_say_where_the_data_lie(tmp_path):
    """A run's audit.json keeps them, and runs are passed on."""
    for i in range(19):
        write_pair(tmp_path, f"{i:02d}", FIGURE)
    write_pair(tmp_path, "19", EMPTY)
    write_pair(tmp_path, "free/20", EMPTY)
    write(tmp_path / "21.png", EMPTY)
    assert folder(tmp_path, mask_threshold=127).warnings == [
        "19: its mask is empty, though 19 of the 20 images in the root have foreground.",
        "1 files or records belong to no sample. The first: 21.png is a mask of no image.",
    ]


def test_fingerprint_follows_files_and_interpretation(tmp_path):
    write_pair(tmp_path, "a", FIGURE)
    write_pair(tmp_path, "b", FIGURE)
    first = folder(tmp_path, mask_threshold=127)
    assert folder(tmp_path, mask_threshold=127).fingerprint == first.fingerprint
    assert folder(tmp_path, mask_threshold=128).fingerprint != first.fingerprint
    assert first.subset([1, 0]).fingerprint != first.fingerprint
    before = first.fingerprint
    write(tmp_path / "b.png", np.zeros((32, 48), np.uint8))
    assert folder(tmp_path, mask_threshold=127).fingerprint != before


# --- lists of ids ---


def test_include_and_exclude(tmp_path):
    for name in ("a", "b", "deep/c"):
        write_pair(tmp_path, name, FIGURE)
    write(tmp_path / "d.jpg", EMPTY.astype(np.uint8))
    (tmp_path / "train.txt").write_text("b\ndeep/c\n\n")
    write(tmp_path / "b.jpg", np.zeros((8, 8), np.uint8))
    (tmp_path / "faults.csv").write_text('kind,id,problem\nsize,b,"image, and mask"\nmissing,d,\n')
    options = {"mask_threshold": 127}
    assert folder(tmp_path, include=tmp_path / "train.txt", **options).ids == ["b", "deep/c"]
    left = folder(tmp_path, exclude=tmp_path / "faults.csv", **options)
    assert left.foreground.tolist() == [True, True], "what is left out is not looked at"
    assert (left.ids, left.warnings) == (["a", "deep/c"], []), "the mask of what is left out is no orphan"
    assert folder(tmp_path, include=["a", "b"], exclude=["b"], **options).ids == ["a"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"include": ["z", "a"]}, r"`include` names 1 ids that are not among the 1 images under .* The first is 'z'"),
        ({"exclude": ["a"]}, r"`include` and `exclude` leave none of the 1 images"),
        ({"exclude": "nowhere.txt"}, r"there is no file nowhere\.txt"),
    ],
)
def test_bad_lists(tmp_path, options, message):
    write_pair(tmp_path, "a", FIGURE)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        folder(tmp_path, **options)


def test_a_list_that_lacks_its_column_or_is_no_text(tmp_path):
    write_pair(tmp_path, "a", FIGURE)
    (tmp_path / "short.csv").write_text("kind,id\nsize\n")
    with pytest.raises(ValueError, match=r"line 2 of .*short\.csv has no id, its column 2"):
        folder(tmp_path, exclude=tmp_path / "short.csv")
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"bytes\.csv is no text in UTF-8"):
        folder(tmp_path, exclude=tmp_path / "bytes.csv")


# --- damage ---


def test_a_changed_byte_in_the_pixels_of_a_png_is_an_error(tmp_path):
    """Pillow decodes such a file, to other pixels."""
    path = write(tmp_path / "a.png", np.arange(64, dtype=np.uint8).reshape(8, 8), compress_level=0)
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") + 20] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"Cannot read .*a\.png: its chunk IDAT does not have the checksum"):
        kz.data.read_image(path)


def test_colors_and_indices_of_one_table(tmp_path):
    """Some files of a data set have a palette, others its colors; a mask of gray colors alone is found by color."""
    table = {0: 0, 1: 1, 2: 2, (0, 0, 0): 0, (255, 0, 0): 1, (128, 128, 128): 2}
    gray, indices = FIGURE.astype(np.uint8) * 128, FIGURE.astype(np.uint8)
    for name, mask in (("red", np.stack([indices * 255, EMPTY, EMPTY], 2)), ("gray", gray), ("index", indices)):
        write(tmp_path / f"{name}.jpg", gray)
        write(tmp_path / f"{name}.png", mask.astype(np.uint8))
    source = folder(tmp_path, mask_values=table, num_classes=3)
    assert [int(source.mask(source.ids.index(name)).max()) for name in ("red", "gray", "index")] == [1, 2, 1]
    write(tmp_path / "gray.png", FIGURE.astype(np.uint8) * 7)
    with pytest.raises(ValueError, match=r"gray\.png has 1 values .*\(7, 7, 7\)"):
        source.mask(source.ids.index("gray"))
