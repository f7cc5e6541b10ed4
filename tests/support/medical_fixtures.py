"""DICOM and NIfTI files written by pydicom and nibabel, with patients whose fields must not show up anywhere."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from kerazoo.data.formats.rle import encode_runs
from support.data_fixtures import figure

SECRETS = {
    "PatientName": "Mustermann^Erika",
    "PatientID": "PID-4711-0815",
    "PatientBirthDate": "19631224",
    "StudyDate": "20190817",
    "StudyTime": "235958",
    "AccessionNumber": "ACC99887766",
    "InstitutionName": "Sankt Nirgendwo Hospital",
    "ReferringPhysicianName": "Doktorowa^Olga",
    "PatientAddress": "Geheimgasse 13",
}
"""What a file says of a patient: no word of it may be in a name, an error, a warning or a file of ours."""


FIGURE = figure(40, 56)
HALVES = (FIGURE & (np.arange(56) < 14), FIGURE & (np.arange(56) >= 14))


def leaked(text):
    """The words of `SECRETS` in a text."""
    words = {word for value in SECRETS.values() for word in value.replace("^", " ").split() if len(word) > 3}
    return sorted(word for word in words if word.lower() in text.lower())


def write_dicom(
    path, pixels, *, photometric="MONOCHROME2", bits=8, signed=False, jpeg=None, rle=False, implicit=False, **elements
):
    """Save `(H, W)` or `(H, W, 3)` stored values as DICOM, with patient; `elements` are set last, None removes one.

    Args:
        jpeg: "baseline" or "2000": compressed by Pillow.
        rle: Compressed by pydicom.
        implicit: Implicit VR, as old devices write.
    """
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import (
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        JPEG2000Lossless,
        JPEGBaseline8Bit,
        RLELossless,
        SecondaryCaptureImageStorage,
        generate_uid,
    )

    pixels = np.asarray(pixels)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    compressed = {"baseline": JPEGBaseline8Bit, "2000": JPEG2000Lossless, None: None}[jpeg]
    meta.TransferSyntaxUID = compressed or (ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian)
    data = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    for name, value in SECRETS.items():
        setattr(data, name, value)
    data.Rows, data.Columns = pixels.shape[:2]
    data.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    if pixels.ndim == 3:
        data.PlanarConfiguration = 0
    data.PhotometricInterpretation = photometric
    data.BitsAllocated, data.BitsStored, data.HighBit = 8 if bits <= 8 else 16, bits, bits - 1
    data.PixelRepresentation = int(signed)
    if jpeg:
        buffer = io.BytesIO()
        options = {"format": "JPEG", "quality": 98} if jpeg == "baseline" else {"format": "JPEG2000"}
        Image.fromarray(pixels).save(buffer, **options)
        data.PixelData = encapsulate([buffer.getvalue()])
        data["PixelData"].VR = "OB"
    else:
        kind = f"{'i' if signed else 'u'}{1 if bits <= 8 else 2}"
        data.PixelData = pixels.astype(f"<{kind}").tobytes()
        data["PixelData"].VR = "OB" if bits <= 8 else "OW"
    if rle:
        data.compress(RLELossless, generate_instance_uid=False)
    for name, value in elements.items():
        if value is None:
            delattr(data, name)
        else:
            setattr(data, name, value)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path


def uid(number):
    """An id as the pneumothorax archive has them."""
    return f"1.2.276.0.7230010.3.1.4.8323329.{300 + number}.1517875{160 + 7 * number}"


def archive(root, *, rows=None, images=8, **fields):
    """The pneumothorax archive, small: its directory of images, and its CSV.

    Images lie in directories of study and series; every fourth, from the second on, shows the figure, in two rows of
    the CSV; every third is MONOCHROME1; two in turn are of one patient. `rows` replaces the CSV's pairs of id and runs.
    """
    for number in range(images):
        study = f"dicom-images-train/{uid(90 + number)}/{uid(80 + number)}"
        shown = np.where(FIGURE & (number % 4 == 1), 220, 30).astype("u1")
        inverted = number % 3 == 2
        write_dicom(
            root / study / f"{uid(number)}.dcm",
            255 - shown if inverted else shown,
            photometric="MONOCHROME1" if inverted else "MONOCHROME2",
            **{"PatientID": f"PID-4711-{number // 2:04d}", **fields},
        )
    if rows is None:
        masks = [[encode_runs(half) for half in HALVES] if n % 4 == 1 else ["-1"] for n in range(images)]
        rows = [(uid(n), runs) for n in reversed(range(images)) for runs in masks[n]]
    text = "".join(f"{id}, {runs}\n" for id, runs in rows)
    (root / "train-rle.csv").write_text(f"ImageId, EncodedPixels\n{text}")
    return root / "dicom-images-train", root / "train-rle.csv"


def write_nifti(path, values, affine, *, dtype=np.int16, codes=(1, 1), **header):
    """Save `(X, Y, Z)` values as NIfTI, with the texts of its header full of secrets.

    Args:
        codes: qform_code and sform_code.
        header: More fields.
    """
    import nibabel

    image = nibabel.Nifti1Image(np.asarray(values).astype(dtype), affine)
    image.header.set_data_dtype(dtype)
    image.set_qform(affine, code=codes[0])
    image.set_sform(affine, code=codes[1])
    image.header["descrip"] = SECRETS["PatientName"].encode()
    image.header["db_name"] = SECRETS["PatientID"].encode()
    image.header["aux_file"] = SECRETS["AccessionNumber"].encode()
    comment = " ".join(SECRETS.values()).encode()
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", comment))
    for name, value in header.items():
        image.header[name] = value
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)
    return path


def stored_as(axes, volume, spacing=(2.5, 0.7, 0.8)):
    """A volume (D, H, W) as this package turns it, in another order of storage: values and affine.

    Args:
        axes: Where the stored axes shall lead, "RAS", "LPS", "PIR".
        volume: Slices from the feet, rows from the front, columns from the patient's right.
        spacing: Millimeters between slices, rows and columns.
    """
    import nibabel

    lps = np.transpose(volume, (2, 1, 0))  # columns lead to the left, rows to the back, slices to the head
    depth, height, width = spacing
    affine = np.diag([-width, -height, depth, 1.0])
    affine[:3, 3] = (40.0, 55.0, -120.0)
    image = nibabel.Nifti1Image(lps.astype(np.float32), affine)
    change = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(affine), nibabel.orientations.axcodes2ornt(axes)
    )
    turned = image.as_reoriented(change)
    return np.asarray(turned.dataobj), turned.affine
