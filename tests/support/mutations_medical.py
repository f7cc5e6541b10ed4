"""Read damaged medical files with little memory, as mutations.py: `mutations_medical.py KIND COUNT SEED DIRECTORY`.

KIND is dicom, jpeg, rle, jls, nii or gz. What is read without an error must be what pydicom or nibabel read in the same
bytes; an error must name the file; and nothing of the patient may be said, in errors or in warnings.
"""

import faulthandler
import io
import json
import logging
import resource
import sys
import warnings
from collections import Counter
from pathlib import Path

import nibabel
import numpy as np
import pydicom
from pydicom.pixels import apply_modality_lut
from pydicom.pixels.utils import pixel_array
from pydicom.uid import JPEGBaseline8Bit

from kerazoo.data.formats.dicom import read_dicom, read_dicom_header, read_person
from kerazoo.data.formats.nifti import read_volume
from support.data_fixtures import figure
from support.medical_fixtures import SECRETS, leaked, stored_as, write_dicom, write_nifti
from support.mutations import MEMORY, mutated

FIGURE = figure(24, 40)
SECONDS = 5  # for one file


def read_image(path):
    image = read_dicom(path, window="full", bits=16)
    assert image.shape == read_dicom_header(path).shape
    read_person(path)
    return image


def check_image(path, image):
    """Levels rise with the values that pydicom reads and rescales: no window but the full one was asked for."""
    data = pydicom.dcmread(io.BytesIO(path.read_bytes()))
    if image.shape[2] == 3:
        return
    jpeg = data.file_meta.TransferSyntaxUID == JPEGBaseline8Bit  # damaged, it looks another way to each decoder
    stored = pixel_array(data, decoding_plugin="pillow" if jpeg else "").astype(np.int64)
    unused = 64 - data.BitsStored
    stored = stored << unused >> unused if data.PixelRepresentation else stored & ((1 << data.BitsStored) - 1)
    values = np.asarray(apply_modality_lut(stored, data), np.float64)
    values = -values if data.PhotometricInterpretation == "MONOCHROME1" else values
    order = np.argsort(values, axis=None, kind="stable")
    assert (np.diff(image.ravel()[order].astype(int)) >= 0).all(), "wrong pixels"
    assert len(np.unique(image)) >= min(len(np.unique(values)), 2), "a flat image"


def read_slices(path):
    volume = read_volume(path)
    return volume, {index: volume.plane(index) for index in (0, volume.shape[0] // 2, volume.shape[0] - 1)}


def check_slices(path, found):
    """Slices are those of nibabel."""
    volume, planes = found
    kind = nibabel.Nifti1Header if head(path)[344:347] == b"n+1" else nibabel.Nifti2Header
    header = kind(head(path)[: kind.sizeof_hdr], check=False)
    values = np.asarray(nibabel.arrayproxy.ArrayProxy(path, header)).reshape(volume.stored)
    affine = np.vstack([volume.affine, [0, 0, 0, 1]])
    canonical = nibabel.as_closest_canonical(nibabel.Nifti1Image(values, affine, dtype="f8"))
    expected = np.asarray(canonical.dataobj).transpose(2, 1, 0)[:, ::-1, ::-1]
    for index, plane in planes.items():
        np.testing.assert_array_equal(plane, expected[index])


def head(path):
    with nibabel.openers.ImageOpener(path) as file:
        return file.read(540)


def make(kind, root):
    """The file that is damaged, and what reads it."""
    gray = np.where(FIGURE, 220, 30).astype("u1")
    if kind in ("nii", "gz"):
        values = np.stack([np.where(FIGURE, 10 * k, -k) for k in range(6)])
        return (
            write_nifti(root / f"volume.nii{'.gz' * (kind == 'gz')}", *stored_as("PIR", values)),
            read_slices,
            check_slices,
        )
    path = root / "image.dcm"
    if kind == "jls":
        source = Path(pydicom.__file__).parent / "data" / "test_files" / "MR_small_jpeg_ls_lossless.dcm"
        data = pydicom.dcmread(source)
        for name, value in SECRETS.items():
            setattr(data, name, value)
        data.save_as(path)
    elif kind == "dicom":
        fields = {"bits": 12, "photometric": "MONOCHROME1", "WindowCenter": 900, "WindowWidth": 2000}
        write_dicom(path, gray.astype(int) * 9, **fields, RescaleSlope=2, RescaleIntercept=-1000)
    else:
        write_dicom(path, gray, **({"rle": True} if kind == "rle" else {"jpeg": "baseline"}))
    return path, read_image, check_image


class Messages(logging.Handler):
    """Keeps what is logged."""

    def __init__(self):
        super().__init__()
        self.texts = []

    def emit(self, record):
        self.texts.append(record.getMessage())


def main(kind, count, seed, root):
    faulthandler.enable()
    path, read, check = make(kind, Path(root))
    original = path.read_bytes()
    check(path, read(path))  # before memory is limited, because this imports what is imported lazily
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, hard))
    ends, rng, messages = Counter(), np.random.default_rng(int(seed)), Messages()
    logging.getLogger().addHandler(messages)
    for number in range(int(count)):
        path.write_bytes(mutated(original, rng))
        messages.texts.clear()
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                try:
                    found, error = read(path), None
                except ValueError as raised:
                    found, error = None, str(raised)
            said = [*messages.texts, *(str(each.message) for each in caught), error or ""]
            assert not leaked("\n".join(said)), said
            if error is None:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    check(path, found)
                ends["right"] += 1
            else:
                ends["error" if str(path) in error else f"unnamed: {error}"] += 1
        except BaseException as error:
            (path.parent / "guilty").write_bytes(path.read_bytes())
            raise AssertionError(f"mutation {number}, kept in {path.parent / 'guilty'}: {error!r}") from error
        faulthandler.cancel_dump_traceback_later()
    print(json.dumps(ends))


if __name__ == "__main__":
    main(*sys.argv[1:])
