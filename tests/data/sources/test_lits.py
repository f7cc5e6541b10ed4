"""Volumes as slices: the same figure whatever the order of storage, read in part, and never divided by a split."""

import gzip
import json
import os
import pickle
import subprocess
import sys
import tracemalloc
import warnings

import nibabel
import numpy as np
import pytest
from support.data_fixtures import figure
from support.medical_fixtures import SECRETS, leaked, stored_as, write_nifti

from kerazoo.data.faults import MissingError
from kerazoo.data.formats.nifti import Volume, read_volume
from kerazoo.data.sources.lits import lits
from kerazoo.data.verify import verify

FIGURE = figure(24, 40)
LIVER, BOTH = (2, 3, 6), (3,)
DEPTH = 9
MASK = np.zeros((DEPTH, 24, 40), np.uint8)
for k in LIVER:
    MASK[k][FIGURE] = 2 if k in BOTH else 1
MASK[3, :, :12] = np.minimum(MASK[3, :, :12], 1)
VOLUME = np.where(MASK > 0, 60.0, -100.0) + np.arange(DEPTH)[:, None, None] * 10
VOLUME[:, 0, 0], VOLUME[:, 0, 1] = -1000, 1000
STORED = [
    ("RAS", "RAS", ".nii", ".nii"),
    ("LPS", "RAI", ".nii.gz", ".nii"),
    ("PIR", "SLA", ".nii", ".nii.gz"),
    ("IAL", "PSR", ".nii.gz", ".nii.gz"),
]
SEEN = np.clip((VOLUME + 160) / 400, 0, 1) * 255
MERGED = {0: 0, 1: 1, 2: 1}


def archive(root, stored=STORED, volume=VOLUME, mask=MASK, **fields):
    for number, (axes, mask_axes, ending, mask_ending) in enumerate(stored):
        write_nifti(root / f"batch {number % 2}" / f"volume-{number}{ending}", *stored_as(axes, volume), **fields)
        write_nifti(root / f"segmentation-{number}{mask_ending}", *stored_as(mask_axes, mask), dtype=np.uint8)
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return archive(tmp_path_factory.mktemp("lits"))


@pytest.fixture(scope="module")
def source(root):
    return lits(root)


def test_slices_look_alike_however_they_are_stored(source):
    """The first row is anterior, the first column the patient's right, the first slice at the feet."""
    assert source.ids == [f"volume-{v}/{k:04d}" for v in range(4) for k in range(DEPTH)]
    for index in range(len(source)):
        image, mask, _ = source[index]
        assert (mask == MASK[index % DEPTH]).all()
        assert (image.dtype, image.shape, mask.dtype) == (np.float32, (24, 40, 1), np.uint8)
        np.testing.assert_allclose(image[..., 0], SEEN[index % DEPTH], atol=1e-3)


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIR", "IAL", "SRA"])
def test_slices_are_those_of_nibabel(tmp_path, axes):
    path = write_nifti(tmp_path / "v.nii", *stored_as(axes, VOLUME), scl_slope=2.0, scl_inter=-7.0)
    canonical = nibabel.as_closest_canonical(nibabel.load(path))
    expected = np.asarray(canonical.dataobj).transpose(2, 1, 0)[:, ::-1, ::-1]  # RAS to slices, rows, columns of LPS
    volume = read_volume(path)
    assert volume.shape == expected.shape
    assert volume.spacing_mm == pytest.approx((2.5, 0.7, 0.8))
    for k in range(DEPTH):
        np.testing.assert_array_equal(volume.plane(k), expected[k])


def test_kinds_of_files(tmp_path):
    """NIfTI-2, big-endian, float64, four axes of which one is 1, and an oblique affine."""
    values, affine = stored_as("RAS", VOLUME)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]]
    nibabel.save(nibabel.Nifti2Image(values.astype(np.float64), turn @ affine), tmp_path / "two.nii")
    image = nibabel.Nifti1Image(values[..., np.newaxis].astype(np.int16), affine, nibabel.Nifti1Header(endianness=">"))
    image.header.set_data_dtype(">i2")
    nibabel.save(image, tmp_path / "big.nii")
    for name in ("two.nii", "big.nii"):
        volume = read_volume(tmp_path / name)
        assert (volume.axes, volume.shape) == ("RAS", (DEPTH, 24, 40))
        np.testing.assert_array_equal(volume.plane(3), VOLUME[3])


def test_facts(source):
    assert source.class_names == ("background", "liver", "lesion")
    assert source.labels.tolist() == [[k not in LIVER, k in LIVER, k in BOTH] for k in range(DEPTH)] * 4
    assert source.shapes.tolist() == [[24, 40, 1]] * 36
    (warning,) = source.warnings
    assert "2 of 4 volumes are compressed" in warning


def test_lesions_are_merged_by_a_mapping(root):
    source = lits(root, mask_values=MERGED)
    assert (source.num_classes, source.class_names) == (1, ("liver",))
    assert (source.mask(3) == (MASK[3] > 0)).all()
    assert source.foreground.tolist() == [k in LIVER for k in range(DEPTH)] * 4
    lesions = lits(root, mask_values={0: 0, 1: 0, 2: 1}, classes=["lesion"])
    assert lesions.foreground.tolist() == [k in BOTH for k in range(DEPTH)] * 4
    ignored = lits(root, mask_values={0: 0, 1: 1, 2: 255}, ignore_class=255)
    assert set(np.unique(ignored.mask(3))) == {0, 1, 255}
    assert ignored.num_classes == 1


def test_draws(root):
    """As many slices with foreground as without, the same for a volume whatever else is there."""
    source = lits(root, slices_per_volume=3, mask_values=MERGED)
    assert source.foreground.reshape(4, 6).sum(axis=1).tolist() == [3] * 4
    assert source.ids == sorted(source.ids)
    assert lits(root, slices_per_volume=3, mask_values=MERGED).ids == source.ids
    assert lits(root, slices_per_volume=3, mask_values=MERGED, seed=1).ids != source.ids
    alone = lits(root, slices_per_volume=3, mask_values=MERGED, exclude=["volume-0", "volume-2"])
    assert alone.ids == [id for id in source.ids if id.startswith(("volume-1", "volume-3"))]
    few = lits(root, slices_per_volume=4, mask_values=MERGED)
    assert len(few) == 4 * 7
    assert "volume-0 has 3 slices with foreground, and 4 were asked for." in few.warnings
    assert lits(root, exclude=["volume-0/0004"]).ids[4] == "volume-0/0005"


def test_a_split_never_divides_a_volume(source):
    assert source.groups == [f"volume-{v}" for v in range(4) for _ in range(DEPTH)]
    parts = source.split(fractions=(0.5, 0.25, 0.25))
    volumes = [set(part.groups) for part in parts]
    assert [len(each) for each in volumes] == [2, 1, 1]
    assert len(set.union(*volumes)) == 4


def test_intensities(root):
    unit = lits(root, window="minmax", value_range=(-1, 1))
    image = unit.image(3)[..., 0]
    assert (image.min(), image.max(), image.dtype) == (-1, 1, np.float32)
    np.testing.assert_allclose(image, (VOLUME[3] + 1000) / 1000 - 1, atol=1e-6)
    np.testing.assert_allclose(
        lits(root, window=(0, 100)).image(3)[..., 0], np.clip(VOLUME[3], 0, 100) * 2.55, atol=1e-4
    )


def test_only_a_slice_is_read(tmp_path, monkeypatch):
    """Of a file without compression no more than the slice; of a compressed one no more is kept."""
    depth = 128
    volume = np.zeros((depth, 128, 128), np.int16)
    for ending in (".nii", ".nii.gz"):
        path = write_nifti(tmp_path / f"v{ending}", *stored_as("RAS", volume))
        header = read_volume(path)
        tracemalloc.start()
        header.plane(100)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < volume.nbytes / 4, ending
    mapped = read_volume(tmp_path / "v.nii")._map()
    assert isinstance(mapped, np.memmap)


def test_labels_and_images_open_no_mask(root, tmp_path, monkeypatch):
    """With an index the masks are not read again; and an image never needs one."""
    index = tmp_path / "index.json"
    first = lits(root, index=index)
    monkeypatch.setattr(Volume, "present", pytest.fail)
    again = lits(root, index=index)
    assert (again.labels == first.labels).all()
    opened = []
    monkeypatch.setattr(Volume, "_slabs", lambda self: opened.append(self.path.name) or iter(()))
    again.image(0)
    assert opened == []
    monkeypatch.undo()
    (root / "segmentation-0.nii").touch()
    assert (lits(root, index=index).labels == first.labels).all()
    index.write_text(json.dumps({"format": 0}))
    with pytest.raises(ValueError, match=r"`index`: .*index\.json is damaged, or no index"):
        lits(root, index=index)


def test_unpacked_copies(root, tmp_path):
    source = lits(root, unpack_to=tmp_path / "copies")
    assert source.warnings == []
    for index in range(DEPTH, 2 * DEPTH):
        np.testing.assert_allclose(source.image(index)[..., 0], SEEN[index % DEPTH], atol=1e-3)
    (copy,) = (tmp_path / "copies").iterdir()
    assert copy.name.startswith("volume-1-")
    assert lits(root).fingerprint == source.fingerprint


def test_pairs(tmp_path):
    """The Decathlon's layout; one side lacking; two files of one name; nothing."""
    for name in ("liver_1", "liver_2"):
        write_nifti(tmp_path / "imagesTr" / f"{name}.nii.gz", *stored_as("RAS", VOLUME))
        write_nifti(tmp_path / "labelsTr" / f"{name}.nii", *stored_as("RAS", MASK), dtype=np.uint8)
    plain = {"masks": tmp_path / "labelsTr", "volume_prefix": "", "mask_prefix": ""}
    assert lits(tmp_path / "imagesTr", **plain, slices_per_volume=1).groups == ["liver_1"] * 2 + ["liver_2"] * 2
    (tmp_path / "labelsTr" / "liver_2.nii").unlink()
    with pytest.raises(
        MissingError, match=r"1 volumes or masks lack the other.*liver_2\.nii\.gz has no mask"
    ) as caught:
        lits(tmp_path / "imagesTr", **plain)
    assert [id for id, _ in caught.value.missing] == ["liver_2"]
    assert len(lits(tmp_path / "imagesTr", **plain, missing="skip")) == DEPTH
    assert len(lits(tmp_path / "imagesTr", **plain, exclude=["liver_2"])) == DEPTH
    write_nifti(tmp_path / "imagesTr" / "more" / "liver_1.nii", *stored_as("RAS", VOLUME))
    with pytest.raises(ValueError, match=r"are two files with one name"):
        lits(tmp_path / "imagesTr", **plain)
    with pytest.raises(
        FileNotFoundError, match=r"No volume under .* has a mask: 0 files begin with volume_prefix='ct-'"
    ):
        lits(tmp_path / "imagesTr", volume_prefix="ct-")
    with pytest.raises(ValueError, match=r"does not tell volumes from masks"):
        lits(tmp_path / "imagesTr", volume_prefix="", mask_prefix="")


def test_grids_that_differ(tmp_path):
    root = archive(tmp_path, STORED[:1])
    write_nifti(root / "segmentation-0.nii", *stored_as("RAS", MASK[:-1]), dtype=np.uint8)
    with pytest.raises(ValueError, match=r"differ in size: \(9, 24, 40\) and \(8, 24, 40\) \(slices, rows, columns\)"):
        lits(root)
    values, affine = stored_as("RAS", MASK)
    flipped = np.diag([-1.0, 1, 1, 1]) @ affine
    write_nifti(root / "segmentation-0.nii", values, flipped, dtype=np.uint8)
    with pytest.raises(ValueError, match=r"their axes are stored as LAS and RAS: one of the two is not where it says"):
        lits(root)
    moved = affine.copy()
    moved[2, 3] += 30
    write_nifti(root / "segmentation-0.nii", values, moved, dtype=np.uint8)
    (warning,) = lits(root).warnings
    assert "lies 30 mm beside" in warning


def patched(path, offset, data):
    content = bytearray(path.read_bytes())
    content[offset : offset + len(data)] = data
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("offset", "data", "message"),
    [
        (0, b"\0\0", r"is no NIfTI file of one part"),
        (344, b"ni1\0", r"is no NIfTI file of one part"),
        (40, b"\x05\0", None),
        (40, b"\x02\0", r"must hold one volume of three axes"),
        (42, b"\xff\x7f\xff\x7f\xff\x7f", r"claims \(32767, 32767, 32767\) values|truncated"),
        (42, b"\0\x80", r"must hold one volume"),
        (46, b"\xff\x7f", r"is truncated, or its header is damaged: it claims"),
        (70, b"\x80\0", r"has values of type .*RGB|has values of type|KeyError|HeaderDataError"),
        (70, b"\x77\x77", r"Cannot read"),
        (108, b"\0\0\x80\xff", r"array begins at byte"),
        (252, b"\0\0\0\0", r"does not say how it is oriented"),
        (280, b"\0\0\xc0\x7f", r"no orientation|orientation is damaged"),
    ],
)
def test_damaged_headers(tmp_path, offset, data, message):
    path = write_nifti(tmp_path / "v.nii", *stored_as("RAS", VOLUME))
    patched(path, offset, data)
    if message is None:
        assert read_volume(path).shape == (DEPTH, 24, 40)
        return
    with pytest.raises(ValueError, match=message) as caught:
        read_volume(path)
    assert str(path) in str(caught.value)


def test_orientation_is_asked_for_not_guessed(tmp_path):
    values, affine = stored_as("LPS", VOLUME)
    path = write_nifti(tmp_path / "v.nii", values, affine, codes=(0, 0))
    with pytest.raises(ValueError, match=r"sform_code and qform_code are 0\)\. Pass `orientation`"):
        read_volume(path)
    volume = read_volume(path, orientation="LPS")
    np.testing.assert_array_equal(volume.plane(2), VOLUME[2])
    assert volume.spacing_mm == pytest.approx((2.5, 0.7, 0.8))
    assert read_volume(path, orientation="RAS").axes == "RAS"


def test_damaged_bodies(tmp_path):
    root = archive(tmp_path, STORED[1:2])
    path = next(root.rglob("volume-1.*"), None) or next(root.rglob("volume-0.*"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    with pytest.raises(ValueError, match=r"Cannot read .*volume-0\.nii\.gz"):
        lits(root).image(0)
    path.write_bytes(whole[:-8] + b"\1\2\3\4" + whole[-4:])
    with pytest.raises(ValueError, match=r"Cannot read .*CRC"):
        lits(root).image(0)
    with pytest.raises(ValueError, match=r"Cannot read .*CRC"):
        lits(root, unpack_to=tmp_path / "copies").image(0)
    assert not [*(tmp_path / "copies").iterdir()], "no half copy stays"
    bomb = gzip.compress(gzip.decompress(whole) + bytes(200 << 20), 9)
    path.write_bytes(bomb)
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"goes on after its \d+ bytes"):
        lits(root).image(0)
    assert tracemalloc.get_traced_memory()[1] < 30 << 20
    tracemalloc.stop()


def test_verification_names_every_faulty_volume(tmp_path):
    """A header, a body, a grid and values that are no classes: each is found, and the list leaves out the volume."""
    root = archive(tmp_path / "lits", [("RAS", "RAS", ".nii", ".nii")] * 6)
    paths = [next(root.rglob(f"volume-{n}.nii")) for n in range(6)]
    paths[0].write_bytes(paths[0].read_bytes()[:200])
    paths[1].write_bytes(paths[1].read_bytes()[:-99])
    write_nifti(root / "segmentation-2.nii", *stored_as("RAS", MASK[1:]), dtype=np.uint8)
    write_nifti(root / "segmentation-3.nii", *stored_as("RAS", np.where(MASK, 9, 0)), dtype=np.uint8)
    (root / "segmentation-4.nii").unlink()
    with pytest.raises(ValueError, match=r"3 of 5 samples under .*lits are faulty"):
        lits(root, exclude=["volume-4"])
    options = {"root": root, "slices_per_volume": 2}
    report = verify(lits, **options, ignore=["duplicate"])
    assert {finding.id: finding.kind for finding in report.findings} == {
        "volume-0": "unreadable", "volume-1": "unreadable", "volume-2": "size", "volume-3": "values",
        "volume-4": "missing",
    }  # fmt: skip
    assert "segmentation-3.nii" in next(f.problem for f in report.findings if f.id == "volume-3")
    report.save_exclusions(tmp_path / "exclude.csv")
    assert set(lits(**options, exclude=tmp_path / "exclude.csv").groups) == {"volume-5"}
    paths[5].write_bytes(b"")
    assert len(verify(lits, **options).findings) == 6, "all of them"


def test_values_that_are_none(tmp_path):
    holes = VOLUME.copy()
    holes[4, 5, 6] = np.nan
    root = archive(tmp_path, STORED[:1], volume=holes, dtype=np.float32)
    source = lits(root)
    assert source.image(3).any()
    with pytest.raises(ValueError, match=r"Slice 4 of .*volume-0\.nii holds NaN or infinity"):
        source.image(4)
    with pytest.raises(ValueError, match=r"1 values outside the classes 0\.\.1: 2"):
        lits(root, num_classes=1)
    write_nifti(root / "segmentation-0.nii", *stored_as("RAS", MASK * 0.5), dtype=np.float32)
    with pytest.raises(ValueError, match=r"Mask .*segmentation-0\.nii has values that are no whole numbers.*0\.5"):
        lits(root)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window": "lung"}, r"`window` must be"),
        ({"window": (3, 2)}, r"`window` must be"),
        ({"value_range": (1, -1)}, r"`value_range` must be"),
        ({"slices_per_volume": 0}, r"`slices_per_volume` must be a whole number of at least 1"),
        ({"orientation": "RAX"}, r"`orientation` must be three letters, .* received 'RAX'"),
        ({"exclude": [f"volume-{v}/{k:04d}" for v in range(4) for k in range(DEPTH)]}, r"`exclude` names every slice"),
        ({"missing": "empty"}, r"`missing` must be one of"),
        ({"mask_values": {0: 0, 1: 1}}, r"values that `mask_values` does not name: 2|does not name"),
    ],
)
def test_arguments(root, arguments, message):
    with pytest.raises(ValueError, match=message):
        lits(root, **arguments)


def test_patients_stay_in_the_files(root, tmp_path):
    said = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        source = lits(root, index=tmp_path / "index.json", unpack_to=tmp_path / "copies")
        said += [repr(source), str(source), str(source.ids), str(source.groups), str(source.warnings)]
        said += [str(source[index]) for index in (0, 12)]
        path = tmp_path / "volume-0.nii"
        content = (root / "batch 0" / "volume-0.nii").read_bytes()
        for damaged in (content[:-9], content[:340], content.replace(SECRETS["PatientName"].encode(), b"x" * 99)):
            path.write_bytes(damaged)
            try:
                said.append(str(read_volume(path).plane(1)))
            except ValueError as error:
                said.append(str(error))
    said += [str(each.message) for each in caught]
    written = [(path.name, path.read_bytes().decode("latin-1")) for path in tmp_path.rglob("*") if path.is_file()]
    said += [name + text for name, text in written if name != "volume-0.nii"]
    assert len(written) == 3
    assert leaked(content.decode("latin-1")), "the fixture is full of secrets"
    assert not leaked("\n".join(said))


def test_a_copy_in_another_process(source):
    copy = pickle.loads(pickle.dumps(source))
    assert (copy[3].image == source[3].image).all()


def test_tensorflow_is_not_imported(root):
    code = (
        "import sys, kerazoo as kz; s = kz.data.sources.lits(sys.argv[1], slices_per_volume=2); s[1]; str(s);"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, os.fspath(root)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
