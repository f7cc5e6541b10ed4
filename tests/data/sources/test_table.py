"""Tables of paths: masks, labels, or both; and labels alone, which never touch a mask."""

import sys

import numpy as np
import pytest
from support.data_fixtures import figure, write_pair

import kerazoo as kz

table = kz.data.sources.table
FIGURE = figure()
EMPTY = np.zeros_like(FIGURE)


@pytest.fixture
def files(tmp_path):
    for name, mask in (("a", FIGURE), ("sub/b", EMPTY), ("c", FIGURE)):
        write_pair(tmp_path, name, mask, scale=1)

    def save(text, name="table.csv"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return save


def test_masks(files):
    path = files("image,mask,patient\nc.jpg,c.png,1\na.jpg,a.png,2\nsub/b.jpg,,1\n")
    source = table(path, mask="mask", group="patient")
    assert source.ids == ["c", "a", "sub/b"], "in the order of the rows"
    assert source.groups == ["1", "2", "1"]
    assert source.foreground.tolist() == [True, True, False]
    np.testing.assert_array_equal(source[0].mask, FIGURE)
    assert not source[2].mask.any()
    assert source.has_masks


def test_labels_never_touch_a_mask(files, tmp_path):
    path = files("image,kind\na.jpg,crack|hole\nsub/b.jpg,normal\nc.jpg, hole \n")
    for mask in tmp_path.rglob("*.png"):
        mask.unlink()
    source = table(path, label="kind")
    assert source.class_names == ("background", "crack", "hole")
    assert source.labels.tolist() == [[0, 1, 1], [1, 0, 0], [0, 0, 1]]
    assert source.image(1).shape == (32, 48, 1)
    assert source.shapes.tolist() == [[32, 48, 1]] * 3
    assert not source.has_masks
    for look in (lambda: source.mask(0), lambda: source[0]):
        with pytest.raises(ValueError, match=r"'a' has an image label and no mask.*outputs=\"label\""):
            look()
    batches = kz.data.pipeline(source, image_size=(8, 8), batch_size=3, outputs="label", shuffle=False)
    images, labels = next(iter(batches))
    with pytest.raises(ValueError, match=r"labels of images and no masks. Pass outputs=\"label\""):
        kz.data.pipeline(source, image_size=(8, 8), batch_size=3)
    assert images.shape == (3, 8, 8, 1)
    np.testing.assert_array_equal(np.asarray(labels), source.labels)
    train, rest = source.split(fractions=(0.5, 0.5), stratify=False)
    assert len(train) + len(rest) == 3
    assert source.map_classes({"hole": "background"}).labels.tolist() == [[True], [False], [False]]
    assert kz.data.concat(source.subset([0]), source.subset([1])).has_masks is False
    assert kz.data.verify(source, ignore=["duplicate", "constant"]).clean


def test_columns_of_flags(files):
    path = files("image,hole,crack\na.jpg,1,0\nsub/b.jpg,0,0\nc.jpg,true,1.0\n")
    source = table(path, label=["hole", "crack"])
    assert source.class_names == ("background", "hole", "crack")
    assert source.labels.tolist() == [[0, 1, 0], [1, 0, 0], [0, 1, 1]]
    turned = table(path, label=["hole", "crack"], classes=["crack", "hole"])
    assert turned.labels.tolist() == [[0, 0, 1], [1, 0, 0], [0, 1, 1]]
    one = table(path, label="crack")
    assert (one.num_classes, one.class_names) == (1, ("crack",))
    assert one.labels.tolist() == [[False], [False], [True]]


def test_labels_beside_masks_are_believed_and_verified(files):
    path = files("image,mask,defect\na.jpg,a.png,1\nsub/b.jpg,sub/b.png,1\nc.jpg,c.png,1\n")
    source = table(path, mask="mask", label="defect")
    assert source.foreground.all()
    np.testing.assert_array_equal(source[0].mask, FIGURE)
    report = kz.data.verify(source, ignore=["duplicate", "constant"])
    assert [(finding.kind, finding.id) for finding in report.findings] == [("label", "sub/b")]
    assert report.findings[0].problem == "The label of sub/b says ['defect'], and its mask shows nothing."


def test_parquet_and_tsv(files, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = {"image": ["a.jpg", "sub/b.jpg"], "mask": ["a.png", None], "n": [1, 0]}
    parquet.write_table(pyarrow.table(rows), tmp_path / "table.parquet")
    source = table(tmp_path / "table.parquet", mask="mask", label="n")
    assert source.foreground.tolist() == [True, False]
    assert not source.mask(1).any()
    assert table(files("image\tlabel\na.jpg\tx, y\n", "table.tsv"), label="label").class_names == ("x, y",)
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(ValueError, match=r"bad\.parquet is no Parquet file"):
        table(tmp_path / "bad.parquet", mask="mask")


def test_parquet_without_pyarrow_names_the_extra(files, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    (tmp_path / "t.parquet").write_bytes(b"")
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'kerazoo\[parquet\]'"):
        table(tmp_path / "t.parquet", mask="mask")


def test_paths_below_another_root_and_ids_of_a_column(files, tmp_path):
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/x.csv").write_text("image,name,mask\na.jpg,first,a.png\na.jpg,second,a.png\n")
    source = table(tmp_path / "lists/x.csv", root=tmp_path, id="name", mask="mask")
    assert source.ids == ["first", "second"]
    assert source[1].mask.any()


def test_missing_files_and_excluded_rows(files):
    path = files("image,mask\na.jpg,a.png\ngone.jpg,a.png\nc.jpg,gone.png\n")
    with pytest.raises(FileNotFoundError, match=r"2 files .*table\.csv names are missing under .*gone\.jpg is missing"):
        table(path, mask="mask")
    assert table(path, mask="mask", exclude=["gone", "c"]).ids == ["a"]
    report = kz.data.verify(table, path=path, mask="mask")
    assert [(finding.kind, finding.id) for finding in report.findings] == [("missing", "gone"), ("missing", "c")]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("image,mask\na.jpg,a.png\n", {}, r"pass `mask` or `label`"),
        ("image,mask\na.jpg,a.png\n", {"mask": "masks"}, r"no column 'masks'; it has \['image', 'mask'\]. .*`mask`"),
        ("file,mask\na.jpg,a.png\n", {"mask": "mask"}, r"no column 'image'.*Correct `image`"),
        ("image,mask\na.jpg\n", {"mask": "mask"}, r"Row 1 after the header of .* has 1 fields, and the header 2"),
        ("image,image\na.jpg,b\n", {"label": "x"}, r"needs a header with a name for each column"),
        ("", {"label": "x"}, r"needs a header"),
        ("image,mask\n", {"mask": "mask"}, r"has no row\."),
        ("image,mask\n,a.png\n", {"mask": "mask"}, r"names no image in 1 rows. The first is row 1"),
        ("image,mask\na.jpg,a.png\na.jpg,a.png\n", {"mask": "mask"}, r"two rows with the id 'a'"),
        ("image,k\na.jpg,x\n", {"label": "k", "classes": ["y"]}, r"names the class 'x', which is none of \['y'\]"),
        ("image,k\na.jpg,normal\n", {"label": "k"}, r"The column 'k' of .* names no class: all of its 1 rows"),
        ("image,p,q\na.jpg,1,2\n", {"label": ["p", "q"]}, r"The column 'q' .* must hold 0 or 1, received '2'"),
        ("image,p,q\na.jpg,1,1\n", {"label": ["p", "q"], "classes": ["p"]}, r"must name the columns \['p', 'q'\]"),
    ],
)
def test_bad_tables(files, text, options, message):
    with pytest.raises(ValueError, match=message):
        table(files(text), **options)


def test_a_path_that_names_no_file_is_a_missing_image(files):
    with pytest.raises(FileNotFoundError, match=r"The image / is missing, which .*csv names"):
        table(files("image,mask\n/,a.png\n"), mask="mask")


def test_no_table_and_no_text(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no table"):
        table(tmp_path / "t.csv", mask="mask")
    (tmp_path / "t.csv").write_bytes(b"image,mask\n\xff\xfe,1\n")
    with pytest.raises(ValueError, match=r"t\.csv is no CSV file in UTF-8"):
        table(tmp_path / "t.csv", mask="mask")
