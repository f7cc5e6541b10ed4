"""COCO's instances: the right pixels, the stated order, and every fault by name."""

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coder
from pycocotools.coco import COCO
from support.coco_fixtures import CATEGORIES, FIGURE, HEIGHT, WIDTH, annotation, box, boxes, content, runs, save
from support.data_fixtures import write
from support.source_tree import REPOSITORY

import kerazoo as kz

coco = kz.data.sources.coco

BIG, SMALL = box(4, 4, 24, 24), box(10, 8, 16, 30)  # they overlap in x 10 to 15, y 8 to 23


def painted(*parts):
    """A mask from (polygon, id), one over the other."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    for (left, top, _, _, right, bottom, *_), label in parts:
        mask[int(top) : int(bottom), int(left) : int(right)] = label
    return mask


# --- pixels ---


@pytest.mark.parametrize(
    "segmentation",
    [boxes(), runs(FIGURE, compressed=True), runs(FIGURE, compressed=False)],
    ids=["polygons", "compressed", "numbers"],
)
def test_a_figure_lands_on_the_right_pixels(tmp_path, segmentation):
    source = coco(*save(tmp_path, content(annotation(1, 100, 2, segmentation))), classes=["bicycle"])
    assert source.ids == ["0", "1"]
    assert source[0].mask.dtype == np.uint8
    np.testing.assert_array_equal(source[0].mask, FIGURE)
    np.testing.assert_array_equal(source[0].image[..., 0] > 125, source[0].mask > 0)
    assert not source[1].mask.any()
    assert source.foreground.tolist() == [True, False]


def test_free_polygons_are_drawn_as_pycocotools_draws_them(tmp_path):
    rng = np.random.default_rng(0)
    polygons = [(rng.uniform(0, 1, (7, 2)) * (WIDTH, HEIGHT)).ravel().round(2).tolist() for _ in range(6)]
    paths = save(tmp_path, content(*(annotation(k, 100 - k, 3, [p]) for k, p in enumerate(polygons)), images=6))
    source, reference = coco(*paths, classes=["car"]), COCO(str(paths[1]))
    for index in range(6):
        (found,) = reference.imgToAnns[100 - index]
        np.testing.assert_array_equal(source.mask(index), reference.annToMask(found))


def test_compressed_runs_of_noise_survive(tmp_path):
    """Noise has runs that grow and shrink, and so differences of both signs."""
    noise = np.random.default_rng(1).random((HEIGHT, WIDTH)) < np.linspace(0, 0.6, WIDTH)
    source = coco(*save(tmp_path, content(annotation(1, 100, 2, runs(noise, compressed=True)))))
    np.testing.assert_array_equal(source.mask(0) > 0, noise)


def test_images_differ_in_size_and_labels_open_no_image(tmp_path):
    data = content(annotation(1, 99, 2, [box(0, 0, 70, 10)]), images=2)
    data["images"][1].update(height=20, width=70, file_name="deep/er/x.jpg")
    write(tmp_path / "images/deep/er/x.jpg", np.zeros((20, 70, 3), np.uint8))
    paths = save(tmp_path, data)
    (paths[0] / "0.png").write_bytes(b"no image")
    source = coco(*paths)
    assert source.ids == ["0", "deep/er/x"]
    assert source.labels.tolist() == [[1, 0, 0, 0], [0, 1, 0, 0]]
    assert source[1].mask.sum() == 700
    assert source[1].image.shape == (20, 70, 3)
    assert source.subset([1]).foreground.tolist() == [True]
    with pytest.raises(ValueError, match=r"Cannot read .*0\.png"):
        _ = source.shapes
    write(paths[0] / "0.png", FIGURE.astype(np.uint8))
    assert coco(*paths).shapes.tolist() == [[HEIGHT, WIDTH, 1], [20, 70, 3]]


# --- classes, order, crowds ---


def test_other_classes_are_background_and_ids_follow_the_request(tmp_path):
    paths = save(
        tmp_path, content(annotation(1, 100, 17, [BIG]), annotation(2, 100, 3, [SMALL]), annotation(3, 99, 2, [BIG]))
    )
    source = coco(*paths, classes=["car", "bicycle"])
    assert source.class_names == ("background", "car", "bicycle")
    np.testing.assert_array_equal(source.mask(0), painted((SMALL, 1)))
    np.testing.assert_array_equal(source.mask(1), painted((BIG, 2)))
    assert source.labels.tolist() == [[0, 1, 0], [0, 0, 1]]
    everything = coco(*paths)
    assert everything.class_names == ("background", "bicycle", "car", "cat"), "by the ids of the file"
    assert coco(*paths, classes=["cat"]).num_classes == 1


@pytest.mark.parametrize(
    ("overlap", "expected"),
    [
        ("smaller", painted((BIG, 1), (SMALL, 2))),
        ("last", painted((SMALL, 2), (BIG, 1))),
        ("ignore", painted((SMALL, 2), (BIG, 1), (box(10, 8, 16, 24), 255))),
    ],
)
def test_overlap(tmp_path, overlap, expected):
    paths = save(tmp_path, content(annotation(1, 100, 3, [SMALL]), annotation(2, 100, 2, [BIG])))
    source = coco(*paths, classes=["bicycle", "car"], overlap=overlap)
    np.testing.assert_array_equal(source.mask(0), expected)
    assert source.ignore_class == (255 if overlap == "ignore" else None)


def test_overlap_of_one_class_is_not_ignored(tmp_path):
    paths = save(tmp_path, content(annotation(1, 100, 2, [SMALL]), annotation(2, 100, 2, [BIG])))
    np.testing.assert_array_equal(coco(*paths, overlap="ignore").mask(0), painted((SMALL, 1), (BIG, 1)))


@pytest.mark.parametrize(
    ("crowd", "label", "shown"), [("class", 1, True), ("ignore", 255, False), ("background", 0, False)]
)
def test_crowds_lie_below_instances(tmp_path, crowd, label, shown):
    region = runs(painted((SMALL, 1)) > 0, compressed=False)
    paths = save(
        tmp_path,
        content(
            annotation(1, 100, 3, [BIG]),
            annotation(2, 100, 2, region, iscrowd=1),
            annotation(3, 99, 2, region, iscrowd=1),
        ),
    )
    source = coco(*paths, classes=["bicycle", "car"], crowd=crowd)
    np.testing.assert_array_equal(source.mask(0), painted((SMALL, label), (BIG, 2)))
    assert source.labels.tolist() == [[0, shown, 1], [not shown, shown, 0]]
    assert source.ignore_class == (255 if crowd == "ignore" else None)


def test_a_polygon_too_thin_for_a_pixel_is_no_foreground(tmp_path):
    paths = save(tmp_path, content(annotation(1, 100, 2, [[5.1, 5.1, 5.2, 5.1, 5.2, 5.2]])))
    source = coco(*paths)
    assert source.foreground.tolist() == [bool(source.mask(0).any()), False] == [False, False]


def test_fingerprint_follows_the_annotations(tmp_path):
    def fingerprint(*annotations, **options):
        return coco(*save(tmp_path, content(*annotations)), **options).fingerprint

    first = annotation(1, 100, 2, [BIG])
    same = fingerprint(first)
    assert fingerprint(first) == same == fingerprint(first, annotation(9, 7, 2, [BIG]))
    moved = {**first, "segmentation": [[*BIG[:-1], BIG[-1] + 1]]}
    assert (
        len({same, fingerprint(moved), fingerprint(first, crowd="ignore"), fingerprint({**first, "iscrowd": 1})}) == 4
    )


# --- faults ---

FAULTS = {
    "a box alone": ([], r"The segmentation of annotation 1 \(image 0\.png\) in .*instances\.json is a box alone"),
    "a box for a polygon": ([4, 4, 20, 20], r"annotation 1 .* is no list of polygons"),
    "two points": ([[1, 1, 5, 5]], r"A polygon of annotation 1 .* has 4 numbers; it needs x and y of at least three"),
    "odd": ([[*BIG, 3]], r"has 9 numbers"),
    "words": ([[*BIG[:-1], "3"]], r"a coordinate that is no number: must be real number, not str"),
    "not finite": ([[*BIG[:-1], float("nan")]], r"A polygon of annotation 1 .*no finite number"),
    "outside": ([box(50, 2, 60, 9)], r"lies outside the image: x 50 to 60, y 2 to 9, in an image of 32x48"),
    "other units": ([box(4, 4, 24, 900)], r"leaves the image by more than its size"),
    "endless": ([[0, 0, 48, 32, 0, 32, 48, 0] * 60], r"an outline longer than any figure of the image"),
    "runs too long": ({"size": [32, 48], "counts": [1000, 537]}, r"run outside the image: they cover 1537 .*32x48"),
    "runs too short": ({"size": [32, 48], "counts": [1000, 535]}, r"end before the image does"),
    "turned": ({"size": [48, 32], "counts": [1536]}, r"are of size \[48, 32\].*COCO has the height first"),
    "negative": ({"size": [32, 48], "counts": [1537, -1]}, r"whole numbers of at least 0, received -1"),
    "no counts": ({"size": [32, 48]}, r'must be \{"size": \[height, width\], "counts"'),
    "unknown category": (17.5, r"annotation 1 .* has category_id=99, which is none of the file's 3 categories"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_annotation(tmp_path, fault):
    segmentation, message = FAULTS[fault]
    record = annotation(1, 100, 2, segmentation)
    if fault == "unknown category":
        record.update(category_id=99, segmentation=[BIG])
    source = coco(*save(tmp_path, content(record, annotation(2, 99, 2, [BIG]))))
    assert source.mask(1).any(), "the fault is the other image's"
    for look in (lambda: source[0], lambda: source.labels):
        with pytest.raises(ValueError, match=message):
            look()
    rest = coco(tmp_path / "images", tmp_path / "instances.json", exclude=["0"])
    assert rest.ids == ["1"]
    assert rest.foreground.tolist() == [True]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("~~~", r"damaged at '~~~'"),
        ("0" * 3 + "Z", r"end in the middle of a number"),
        ("o" * 9, r"damaged at 'ooooooooo'"),
        ("O", r"the negative number -1"),
        ("5", r"end before the image does"),
        ("mXY1" * 5, r"run outside|negative"),
    ],
)
def test_damaged_compressed_runs(tmp_path, text, message):
    paths = save(tmp_path, content(annotation(1, 100, 2, {"size": [HEIGHT, WIDTH], "counts": text})))
    with pytest.raises(ValueError, match=rf"annotation 1 .*({message})"):
        coco(*paths).mask(0)


def test_a_polygon_that_leaves_a_little_is_cut_with_a_warning(tmp_path):
    paths = save(
        tmp_path, content(annotation(5, 100, 2, [box(40, 4, 53, 8)]), annotation(6, 99, 2, [box(40, 4, 48.5, 8)]))
    )
    source = coco(*paths)
    assert source.mask(0).sum() == 8 * 4
    (warning,) = source.warnings
    assert "annotation 5 (image 0.png)" in warning
    assert "leaves the image by 5 pixels" in warning


def test_many_faults_are_told_together(tmp_path):
    paths = save(tmp_path, content(annotation(1, 100, 2, []), annotation(2, 99, 2, []), annotation(3, 99, 2, [])))
    with pytest.raises(ValueError, match=r"2 of 2 samples .* are faulty\. The first:\n- .*\n- .*annotation 2.* 1 more"):
        _ = coco(*paths).foreground


def test_missing_images_and_unused_files(tmp_path):
    paths = save(tmp_path, content(annotation(7, 5, 2, [BIG])))
    write(paths[0] / "stray.png", FIGURE.astype(np.uint8))
    (paths[0] / "notes.txt").write_text("no image")
    source = coco(*paths)
    assert [text.partition(" of ")[0] for text in source.warnings] == [
        "2 files or records belong to no sample. The first: annotation 7"
    ]
    assert "image_id=5" in source._reader.orphans[0]
    assert "stray.png" in source._reader.orphans[1]
    (paths[0] / "1.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 2 images of .*instances\.json are missing .* is 1\.png"):
        coco(*paths)
    assert coco(*paths, exclude=["1"]).ids == ["0"]
    with pytest.raises(FileNotFoundError, match=r"`images` must be a directory"):
        coco(tmp_path / "nowhere", paths[1])
    with pytest.raises(FileNotFoundError, match=r"no file of annotations"):
        coco(paths[0], tmp_path / "nowhere.json")


def test_a_directory_in_front_of_the_names_is_hinted_at(tmp_path):
    data = content()
    paths = save(tmp_path, data)
    for record in data["images"]:
        record["file_name"] = f"images/{record['file_name']}"
    paths[1].write_text(json.dumps(data))
    with pytest.raises(FileNotFoundError, match=r"a directory in front that `images` ends with"):
        coco(*paths)


def test_size_in_the_file_differs_from_the_image(tmp_path):
    paths = save(tmp_path, content(annotation(1, 100, 2, [BIG])))
    write(paths[0] / "0.png", np.zeros((64, 96), np.uint8))
    for look in (lambda source: source[0], lambda source: source.shapes):
        with pytest.raises(ValueError, match=r"0\.png is 64x96, and its annotations are for 32x48"):
            look(coco(*paths))


def test_exif_turns_the_image_and_the_error_says_so(tmp_path):
    paths = save(tmp_path, content())
    exif = Image.Exif()
    exif[0x0112] = 6
    write(paths[0] / "0.png", Image.fromarray(FIGURE.astype(np.uint8)), exif=exif)
    with pytest.raises(ValueError, match=r"48x32, .* 32x48 .*`exif_orientation=False`"):
        coco(*paths).image(0)
    assert coco(*paths, exif_orientation=False).image(0).shape == (32, 48, 1)


def change(**fields):
    return lambda data: data.update(fields)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data.pop("annotations"), r"needs the lists .*'annotations' is NoneType"),
        (change(images={}), r"'images' is dict"),
        (change(images=[]), r"names no image"),
        (change(images=[3]), r"number 0 of 'images' is '3', not an object"),
        (change(annotations=[{"id": 1, "image_id": 100, "segments_info": []}]), r"give the file of instances"),
        (change(categories=[{"id": 1}]), r"each category needs an `id` of its own and a `name`"),
        (change(categories=[*CATEGORIES, CATEGORIES[0]]), r"each category needs an `id` of its own"),
        (lambda data: data["images"][1].update(id=100), r"each image needs an `id` of its own"),
        (lambda data: data["images"][1].update(file_name="0.png"), r"1 file names with two records"),
        (lambda data: data["images"][1].update(file_name="../0.png"), r"no path below the directory"),
        (lambda data: data["images"][1].update(file_name=None), r"no path below the directory"),
        (lambda data: data["images"][1].update(height=10**9), r"image 1\.png has height=1000000000"),
        (lambda data: data["images"][1].pop("width"), r"image 1\.png has height=32 and width=None"),
    ],
)  # fmt: skip
def test_damaged_file(tmp_path, damage, message):
    data = content()
    paths = save(tmp_path, data)
    damage(data)
    paths[1].write_text(json.dumps(data))
    with pytest.raises(ValueError, match=message):
        coco(*paths)


def test_records_of_images_without_size_can_be_excluded(tmp_path):
    data = content(annotation(1, 100, 2, boxes()), images=4)
    del data["images"][1]["height"]
    data["images"][2]["width"] = 1e300
    images, path = save(tmp_path, data)
    with pytest.raises(ValueError, match=r"image 1\.png has height=None .* 1 more images are so"):
        coco(images, path)
    report = kz.data.verify(coco, images=images, annotations=path, ignore=["duplicate", "orphan"])
    assert [(finding.kind, finding.id) for finding in report.findings] == [("annotation", "1"), ("annotation", "2")]
    assert coco(images, path, exclude=list(report.exclusions)).ids == ["0", "3"]


@pytest.mark.parametrize("text", ["{", "", "[1", "\x00", '{"images": [' + "[" * 100_000])
def test_not_json(tmp_path, text):
    paths = save(tmp_path, content())
    paths[1].write_text(text)
    with pytest.raises(ValueError, match=r"instances\.json is no JSON file: .* damaged or incomplete"):
        coco(*paths)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ["bycicle"]}, r"has no category 'bycicle'\. Did you mean 'bicycle'\?"),
        ({"classes": ["zebra"]}, r"There are bicycle, car, cat"),
        ({"classes": []}, r"`classes` must name"),
        ({"classes": "car"}, r"`classes` must name"),
        ({"crowd": "drop"}, r"`crowd` must be one of \('class', 'ignore', 'background'\), received 'drop'"),
        ({"overlap": "first"}, r"`overlap` must be one of"),
        ({"exclude": ["0", "1"]}, r"names no image, once those that are excluded"),
        ({"exclude": "nowhere.csv"}, r"`exclude` must be ids in a list, or a file"),
        ({"exclude": [3]}, r"`exclude` must hold ids, which are strings.* received 3"),
    ],
)
def test_bad_arguments(tmp_path, options, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        coco(*save(tmp_path, content()), **options)


def test_the_c_code_agrees_on_what_a_run_length_is():
    """`runs` of this suite, pycocotools, and the numbers of the format's own example."""
    example = np.array([[0, 0, 1, 1, 1, 0, 1]], bool)
    assert runs(example, compressed=False)["counts"] == [2, 3, 1, 1]
    assert (coder.decode(coder.frPyObjects(runs(example, compressed=False), 1, 7)) == example).all()


# --- recipes ---


@pytest.mark.parametrize("path", sorted((REPOSITORY / "recipes").glob("bikecar_*.yaml")), ids=lambda p: p.stem)
def test_recipes_open_the_archive_as_it_is_unpacked(tmp_path, path):
    from kerazoo.training.recipe import Recipe
    from kerazoo.training.run import open_source

    images, annotations = save(tmp_path, content(annotation(1, 100, 3, [BIG]), annotation(2, 99, 17, [BIG])))
    (tmp_path / "annotations").mkdir()
    images.rename(tmp_path / "train2017")
    annotations.rename(tmp_path / "annotations/instances_train2017.json")
    source = open_source(Recipe.load(path, ["model.weights=null"]), tmp_path)
    assert source.class_names == ("background", "bicycle", "car")
    np.testing.assert_array_equal(source[0].mask, painted((BIG, 2)))
    assert source.foreground.tolist() == [True, False], "every image stays, whatever it shows"
