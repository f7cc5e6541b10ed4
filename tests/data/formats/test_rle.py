"""Run lengths: relative, down the columns, as the SIIM-ACR competition's own code writes and reads them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from support.data_fixtures import figure

from kerazoo.data.formats.rle import decode_runs, encode_runs
from kerazoo.data.sources._rle_table import read_table

MASKS = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=9))


def plain_decode(text, height, width):
    """Pixel by pixel: what the published `rle2mask` does, whose result people transpose."""
    mask = np.zeros((height, width), bool)
    if text == "-1":
        return mask
    numbers = [int(number) for number in text.split()]
    position = 0
    for start, length in zip(numbers[::2], numbers[1::2], strict=True):
        position += start
        for _ in range(length):
            mask[position % height, position // height] = True
            position += 1
    return mask


def published_encode(mask):
    """The published `mask2rle`, which walks down the columns but loses a run that ends with the last pixel."""
    runs, last, pixel, start, length = [], False, 0, -1, 0
    for x in range(mask.shape[1]):
        for y in range(mask.shape[0]):
            color = bool(mask[y, x])
            if color != last:
                if color:
                    start, length = pixel, 1
                else:
                    runs += [start, length]
                    start, length, pixel = -1, 0, 0
            elif start > -1:
                length += 1
            last = color
            pixel += 1
    return " ".join(map(str, runs)) or "-1"


@given(MASKS)
def test_round_trip(mask):
    text = encode_runs(mask)
    assert (decode_runs(text, mask.shape, "here") == mask).all()
    assert (plain_decode(text, *mask.shape) == mask).all()


@given(MASKS)
def test_agrees_with_the_published_encoder(mask):
    mask[-1, -1] = False  # which it cannot encode
    assert encode_runs(mask) == published_encode(mask)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 5)), min_size=1, max_size=6))
def test_agrees_with_the_published_decoder(pairs):
    """Also where a run follows the other without a gap, which no encoder writes."""
    size = sum(map(sum, pairs))
    text = " ".join(f"{start} {length}" for start, length in pairs)
    shape = (5, -(-size // 5))
    assert (decode_runs(text, shape, "here") == plain_decode(text, *shape)).all()


def test_a_figure_lands_on_its_pixels():
    """The F starts 8 rows down in column 6: pixel 6 * 50 + 8."""
    mask = figure(50, 48)
    assert encode_runs(mask).split()[0] == str(6 * 50 + 8)
    assert (decode_runs(encode_runs(mask), mask.shape, "here") == mask).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 13", r"lead to pixel 13 of an image of 3x4 = 12 pixels\. .*relative|offset from the end"),
        ("10 1 3 1", r"lead to pixel 15 of"),
        ("999999999999999999 1", r"lead to pixel 1000000000000000000 of"),
        ("1 2 3", r"are 3 numbers, where pairs"),
        ("1 0", r"run of length 0"),
        ("1.5 2", r"no list of whole numbers"),
        ("1 -2", r"no list of whole numbers"),
        ("", r"no list of whole numbers"),
        ("١ ٢", r"no list of whole numbers"),
        ("9" * 40 + " 1", r"no list of whole numbers"),
    ],
)
def test_faulty_runs(text, message):
    with pytest.raises(ValueError, match=message) as caught:
        decode_runs(text, (3, 4), "row 7 of x.csv")
    assert "row 7 of x.csv" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "ImageId, EncodedPixels\nb, 1 2\na, -1\nb, 6 1\n",
        "\ufeffImageId,EncodedPixels\r\nb,1 2\r\na,-1\r\nb,6 1\r\n\r\n",
        '"imageid" ,Other," EncodedPixels"\nb,x,"1 2"\na,,"-1"\nb,, 6 1',
    ],
    ids=["competition", "windows", "quoted"],
)
def test_tables(tmp_path, text):
    """Rows of one id are united wherever they are; blanks, quotes, other columns and ends of lines do not matter."""
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode())
    table = read_table(path)
    assert table.ids.tolist() == [b"a", b"b"]
    assert table.foreground.tolist() == [False, True]
    assert table.find(np.array([b"b", b"c", b"a"])).tolist() == [1, -1, 0]
    assert table.mask(1, (3, 4)).T.ravel().tolist() == [0, 1, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0]
    assert not table.mask(0, (3, 4)).any()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Id,Pixels\na,-1\n", r"must have the columns ImageId and EncodedPixels .* has 2 fields without"),
        ("ImageId,EncodedPixels\n", r"it has no rows"),
        ("", r"must have the columns"),
        ("ImageId,EncodedPixels\na,-1\nb,\n", r"EncodedPixels in row 3 are neither run lengths nor -1"),
        ("ImageId,EncodedPixels\na,Erika\n", r"EncodedPixels in row 2 are neither"),
        ("ImageId,EncodedPixels\na,1 2,3\n", r"row 2 has 3 fields, not 2"),
        ("ImageId,EncodedPixels\n ,1 2\n", r"row 2 has 2 fields, not 2, or no ImageId"),
        ("ImageId,EncodedPixels\na,1 2\nb,-1\na,-1\n", r"rows 2 and 4 say of one image that it has a mask and"),
    ],
)
def test_faulty_tables(tmp_path, text, message):
    path = tmp_path / "train.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        read_table(path)
    assert str(path) in str(caught.value)
    assert "Erika" not in str(caught.value), "a cell may hold anything, also a patient's name"


def test_a_table_that_changes_is_not_read_at_wrong_places(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text("ImageId,EncodedPixels\na,1 2\n")
    table = read_table(path)
    path.write_text("ImageId,EncodedPixels\n\na,1 2 \n")
    with pytest.raises(ValueError, match=r"train\.csv has changed since the source was made"):
        table.mask(0, (3, 4))
    with pytest.raises(FileNotFoundError, match=r"`csv` must be a file: .*nowhere\.csv does not exist"):
        read_table(tmp_path / "nowhere.csv")
