"""DICOM images, written by pydicom: what is seen is what a viewer shows, and nothing of the patient comes out."""

import contextlib
import importlib.util
import struct
import tracemalloc
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut, pixel_array
from support.data_fixtures import figure
from support.medical_fixtures import SECRETS, leaked, write_dicom

from kerazoo.data.formats.dicom import read_dicom, read_dicom_header

EXAMPLES = Path(pydicom.__file__).parent / "data" / "test_files"
FIGURE = figure(40, 56)
RESCALED = {"RescaleSlope": 1, "RescaleIntercept": -1000}
RAMP = np.arange(40 * 56).reshape(40, 56)


def viewed(path):
    """0 to 1 as pydicom's own functions give it: rescaled, windowed over the range of stored values, inverted."""
    data = pydicom.dcmread(path)
    low, high = (-(2 ** (data.BitsStored - 1)), 2 ** (data.BitsStored - 1) - 1)
    if not data.PixelRepresentation:
        low, high = 0, 2**data.BitsStored - 1
    ends = apply_modality_lut(np.array([low, high]), data)
    seen = apply_voi_lut(apply_modality_lut(pixel_array(data), data), data).astype(float)
    if data.get("VOILUTSequence"):
        ends = np.array([0, 2 ** data.VOILUTSequence[0].LUTDescriptor[2] - 1])
    seen = (seen - ends.min()) / (ends.max() - ends.min())
    return 1 - seen if data.PhotometricInterpretation == "MONOCHROME1" else seen


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(
    ("fields", "elements"),
    [
        ({"bits": 8}, {}),
        ({"bits": 12}, {}),
        ({"bits": 16}, {}),
        ({"bits": 8, "signed": True}, {}),
        ({"bits": 12, "signed": True}, {"RescaleSlope": "0.5", "RescaleIntercept": "-1024"}),
        ({"bits": 12, "implicit": True}, {"RescaleSlope": 2, "RescaleIntercept": -1000}),
        ({"bits": 12}, {"WindowCenter": 1000, "WindowWidth": 400}),
        ({"bits": 12, **RESCALED}, {"WindowCenter": ["40", "9"], "WindowWidth": ["600", "9"]}),
        ({"bits": 16}, {"WindowCenter": 1000.5, "WindowWidth": 400, "VOILUTFunction": "LINEAR_EXACT"}),
        ({"bits": 12}, {"WindowCenter": 1000, "WindowWidth": 400, "VOILUTFunction": "SIGMOID"}),
        ({"bits": 8, "rle": True}, {"WindowCenter": 100, "WindowWidth": 1}),
        ({"bits": 8, "jpeg": "2000"}, {}),
        ({"bits": 8, "jpeg": "baseline"}, {}),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_seen_is_what_pydicom_shows(tmp_path, fields, elements, photometric):
    values = RAMP if fields["bits"] > 8 else RAMP % 64 * 2
    values = (values - 60 if fields.get("signed") else values).astype(
        "i1" if fields == {"bits": 8, "signed": True} else "u2"
    )
    if fields["bits"] == 8 and not fields.get("signed"):
        values = values.astype("u1")
    path = write_dicom(tmp_path / "a.dcm", values, photometric=photometric, **fields, **elements)
    image = read_dicom(path)
    header = read_dicom_header(path)
    assert image.dtype == (np.uint8 if fields["bits"] == 8 else np.uint16)
    assert image.shape == header.shape == (40, 56, 1)
    full = np.iinfo(image.dtype).max
    np.testing.assert_allclose(image[..., 0] / full, viewed(path), atol=0.6 / full)


def test_tables_of_the_header(tmp_path):
    table = Dataset()
    table.LUTDescriptor = [64, 10, 16]
    table.LUTData = [int(v) for v in np.linspace(100, 60000, 64) ** 0.9]
    table["LUTDescriptor"].VR = table["LUTData"].VR = "US"
    path = write_dicom(tmp_path / "a.dcm", RAMP % 256, VOILUTSequence=[table], WindowCenter=3, WindowWidth=9)
    np.testing.assert_allclose(read_dicom(path, bits=16)[..., 0] / 65535, viewed(path), atol=1e-5)
    table.ModalityLUTType = "US"
    path = write_dicom(tmp_path / "b.dcm", RAMP % 256, ModalityLUTSequence=[table])
    rescaled = apply_modality_lut(RAMP % 256, pydicom.dcmread(path)).astype(float)
    expected = (rescaled - rescaled.min()) / (rescaled.max() - rescaled.min())
    np.testing.assert_allclose(read_dicom(path, bits=16)[..., 0] / 65535, expected, atol=1e-5)


def test_windows(tmp_path):
    values = RAMP + 500
    path = write_dicom(
        tmp_path / "ct.dcm", values, bits=12, RescaleSlope=1, RescaleIntercept=-1024, WindowCenter=0, WindowWidth=9
    )
    hounsfield = values - 1024.0
    asked = {
        (-160, 240): (hounsfield + 160) / 400,
        "minmax": (hounsfield - hounsfield.min()) / np.ptp(hounsfield),
        "full": values / 4095,
    }
    for window, expected in asked.items():
        image = read_dicom(path, window=window)[..., 0]
        np.testing.assert_allclose(image / 65535, np.clip(expected, 0, 1), atol=1e-5)
        assert np.abs(read_dicom(path, window=window, bits=8)[..., 0] - np.clip(expected, 0, 1) * 255).max() <= 0.51
    assert (read_dicom(write_dicom(tmp_path / "flat.dcm", RAMP * 0 + 7), window="minmax") == 0).all()


def test_dark_is_dark_in_monochrome1(tmp_path):
    bright = np.where(FIGURE, 220, 30).astype("u1")
    path = write_dicom(tmp_path / "a.dcm", 255 - bright, photometric="MONOCHROME1")
    assert (read_dicom(path)[..., 0] == bright).all()


def test_bits_above_those_stored_are_not_pixels(tmp_path):
    """Old files keep overlays there."""
    overlaid = RAMP + (FIGURE * 0x8000)
    path = write_dicom(tmp_path / "a.dcm", overlaid, bits=12)
    assert (read_dicom(path)[..., 0] == np.rint(RAMP / 4095 * 65535)).all()


def test_color(tmp_path):
    colors = np.stack([RAMP % 256, RAMP // 9 % 256, np.where(FIGURE, 250, 3)], axis=-1).astype("u1")
    assert (read_dicom(write_dicom(tmp_path / "a.dcm", colors, photometric="RGB")) == colors).all()
    reference = pixel_array(pydicom.dcmread(EXAMPLES / "SC_rgb_jpeg_dcmtk.dcm"))
    assert (read_dicom(EXAMPLES / "SC_rgb_jpeg_dcmtk.dcm") == reference).all()


@pytest.mark.parametrize("kind", ["bigendian", "implicit", "RLE", "jp2klossless", "jpeg_ls_lossless", "padded"])
@pytest.mark.filterwarnings("ignore:The pixel data is")
def test_one_image_in_many_syntaxes(kind):
    """MR_small, as other programs wrote it; JPEG-LS needs GDCM."""
    if "jpeg_ls" in kind:
        pytest.importorskip("gdcm")
    assert (read_dicom(EXAMPLES / f"MR_small_{kind}.dcm") == read_dicom(EXAMPLES / "MR_small.dcm")).all()


def test_without_gdcm_its_extra_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"compressed as JPEG-LS Lossless .* Type: pip install 'kerazoo\[gdcm\]'"):
        read_dicom(EXAMPLES / "MR_small_jpeg_ls_lossless.dcm")


def test_the_largest_claims_allocate_nothing(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", RAMP, bits=16)
    data = path.read_bytes()
    rows = data.index(b"\x28\x00\x10\x00US")
    claims = {
        "rows": data[: rows + 8] + b"\xff\xff" + data[rows + 10 : rows + 18] + b"\xff\xff" + data[rows + 20 :],
        "length": data.replace(
            b"\xe0\x7f\x10\x00OW\0\0" + struct.pack("<I", 4480), b"\xe0\x7f\x10\x00OW\0\0\xfe\xff\xff\xff"
        ),
        "an element of 4 GB": data[:-4480] + b"\xe0\x7f\x11\x00OB\0\0\xf0\xff\xff\xff" + data[-4480:],
    }
    for name, damaged in claims.items():
        assert damaged != data, name
        path.write_bytes(damaged)
        tracemalloc.start()
        for read in (read_dicom, read_dicom_header):
            with contextlib.suppress(ValueError):
                read(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 8_000_000, name  # the tables of 16-bit values take some


JPEG = (np.where(FIGURE, 220, 30)).astype("u1")


@pytest.mark.parametrize(
    ("pixels", "fields", "message"),
    [
        (RAMP % 256, {"Rows": 0}, r"has no image: it says 0 rows and 56 columns"),
        (RAMP % 256, {"Rows": 41}, r"is truncated: 41x56 pixels are 2296 bytes, and it has 2240"),
        (RAMP % 256, {"Rows": 60000, "Columns": 60000}, r"60000 rows and 60000 columns; images of up to 134217728"),
        (RAMP % 256, {"PixelData": None}, r"has no pixel data"),
        (RAMP % 256, {"NumberOfFrames": 3}, r"has 3 frames, and one image is expected"),
        (RAMP % 256, {"PhotometricInterpretation": "PALETTE COLOR"}, r"interpretation PALETTE COLOR with 1 samples"),
        (RAMP % 256, {"PhotometricInterpretation": "ERIKA"}, r"interpretation unknown with 1 samples"),
        (RAMP % 256, {"BitsAllocated": 32}, r"stores 8 bits in 32"),
        (RAMP, {"bits": 12, "HighBit": 15}, r"the highest being bit 15"),
        (
            RAMP % 256,
            {"RescaleSlope": "1e400", "RescaleIntercept": 0},
            r"its rescaling or window is (not finite|damaged)",
        ),
        (RAMP % 256, {"WindowCenter": 3, "WindowWidth": 0}, r"its rescaling or window is damaged"),
        (
            RAMP % 256,
            {"WindowCenter": 3, "WindowWidth": 9, "VOILUTFunction": "CUBIC"},
            r"rescaling or window is damaged",
        ),
        (JPEG, {"jpeg": "baseline", "Rows": 80}, r"says 80x56 pixels, and its compressed image has 40x56"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_what_cannot_be_read(tmp_path, pixels, fields, message):
    path = write_dicom(tmp_path / "a.dcm", pixels, **fields)
    with pytest.raises(ValueError, match=message) as caught:
        read_dicom(path)
    assert str(path) in str(caught.value)
    assert not leaked(str(caught.value))


@pytest.mark.filterwarnings("ignore:End of file reached before delimiter")
def test_files_that_are_no_images(tmp_path):
    whole = write_dicom(tmp_path / "a.dcm", JPEG, jpeg="baseline").read_bytes()
    for name, content, message in (
        ("cut.dcm", whole[:-400], r"It is truncated, or a report"),  # pydicom gives up all of it
        ("empty.dcm", b"", r"is no DICOM file"),
        ("text.dcm", b"no image" * 99, r"is no DICOM file"),
        ("head.dcm", whole[:300], r"has no image|damaged"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=message) as caught:
            read_dicom(tmp_path / name)
        assert name in str(caught.value)
    for name, message in (
        ("rtplan.dcm", r"has no image"),
        ("image_dfl.dcm", r"is deflated as a whole.*dcmconv"),
        ("JPEG-lossy.dcm", r"JPEG Extended .* with 12 bits, which Pillow cannot decode\. Convert it: dcmdjpeg"),
    ):
        with pytest.raises(ValueError, match=message):
            read_dicom(EXAMPLES / name)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.dcm"):
        read_dicom(tmp_path / "nowhere.dcm")


def test_an_unknown_compression(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", RAMP % 256)
    path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.9\0", 1))
    with pytest.raises(ValueError, match=r"not read: transfer syntax unknown\. Convert it: gdcmconv --raw"):
        read_dicom(path)


@pytest.mark.parametrize(
    "arguments", [{"window": "lung"}, {"window": (3, 3)}, {"window": (0, float("nan"))}, {"bits": 12}]
)
def test_arguments(tmp_path, arguments):
    path = write_dicom(tmp_path / "a.dcm", RAMP % 256)
    (name,) = arguments
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        read_dicom(path, **arguments)


def test_nothing_of_the_patient_is_decoded(tmp_path):
    """Faulty dates and names would make pydicom warn, and quote them; they are not looked at."""
    path = write_dicom(tmp_path / "a.dcm", RAMP % 256)
    data = path.read_bytes()
    assert leaked(data.decode("latin-1")) == leaked(" ".join(SECRETS.values())), "the fixture is full of secrets"
    path.write_bytes(data.replace(SECRETS["PatientBirthDate"].encode(), b"birthday"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_dicom(path)
        read_dicom_header(path)


def test_the_setting_of_pydicom_is_put_back(tmp_path):
    """Also when many threads read at once, and some fail."""
    path = write_dicom(tmp_path / "a.dcm", RAMP % 256)
    (tmp_path / "b.dcm").write_bytes(path.read_bytes()[:600])

    def read(number):
        with contextlib.suppress(ValueError):
            read_dicom(tmp_path / ("a.dcm", "b.dcm")[number % 2])

    before = pydicom.config.settings.reading_validation_mode
    with ThreadPoolExecutor(8) as pool:
        assert len([*pool.map(read, range(200))]) == 200
    assert pydicom.config.settings.reading_validation_mode == before
