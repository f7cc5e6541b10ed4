"""The pneumothorax archive as a source: files and CSV in any order, with gaps on both sides, and no patient outside."""

import pickle
import shutil
import subprocess
import sys
import warnings

import numpy as np
import pytest
from support.medical_fixtures import FIGURE, archive, leaked, uid, write_dicom
from support.source_tree import REPOSITORY

import kerazoo as kz
from kerazoo.data.faults import MissingError
from kerazoo.data.formats import dicom
from kerazoo.data.formats.rle import encode_runs
from kerazoo.data.sources import _names as names
from kerazoo.data.sources import _rle_table as rle_table
from kerazoo.data.sources.siim import siim


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return archive(tmp_path_factory.mktemp("siim"))


@pytest.fixture(scope="module")
def source(place):
    return siim(*place)


def test_masks_land_on_their_pixels(source):
    assert source.ids == sorted(uid(n) for n in range(8))
    for index, id in enumerate(source.ids):
        image, mask, named = source[index]
        positive = id in (uid(1), uid(5))
        assert named == id
        assert (image.dtype, image.shape, mask.dtype) == (np.uint8, (40, 56, 1), np.uint8)
        assert (mask == (FIGURE & positive)).all(), "two rows are united, whatever their order"
        assert ((image[..., 0] == 220) == (FIGURE & positive)).all(), "MONOCHROME1 is inverted"


def test_facts(source):
    assert source.foreground.tolist() == [id in (uid(1), uid(5)) for id in source.ids]
    assert source.shapes.tolist() == [[40, 56, 1]] * 8
    assert source.warnings == []
    assert str(source) == "Source: 8 images, 2 with foreground (25.0 %), sizes 40-56 px, grey"
    assert (source.num_classes, source.class_names, source.groups) == (1, ("pneumothorax",), None)
    train, val = source.split(fractions=(0.5, 0.5))
    assert train.foreground.sum() == val.foreground.sum() == 1


def test_labels_open_no_image(place, monkeypatch):
    """Neither the index, nor foreground, nor a sampler reads pixels or headers; an image opens no mask."""
    source = siim(*place)
    monkeypatch.setattr(dicom, "_decode", pytest.fail)
    monkeypatch.setattr(dicom, "_header", pytest.fail)
    monkeypatch.setattr(rle_table, "decode_runs", pytest.fail)
    assert source.foreground.sum() == 2
    assert source.subset([1, 2]).labels.shape == (2, 1)
    monkeypatch.undo()
    monkeypatch.setattr(rle_table, "decode_runs", pytest.fail)
    assert source.image(0).any()


def test_patients_are_groups(place):
    source = siim(*place, by_patient=True)
    assert source.groups is not None
    by_id = dict(zip(source.ids, source.groups, strict=True))
    assert all((by_id[uid(a)] == by_id[uid(b)]) == (a // 2 == b // 2) for a in range(8) for b in range(a))
    assert sorted(set(source.groups)) == [f"patient-{n:06d}" for n in range(4)]
    parts = source.split(fractions=(0.5, 0.5))
    assert not set(parts[0].groups) & set(parts[1].groups)


def test_no_patient_no_group(tmp_path):
    source = siim(*archive(tmp_path, images=2, PatientID=""), by_patient=True)
    with pytest.raises(ValueError, match=r"by_patient=True needs a PatientID in every file, and 2 of 2 have none"):
        _ = source.groups


def test_what_is_missing_on_either_side(tmp_path):
    rows = [*((uid(n), "-1") for n in range(5)), (uid(40), "-1"), (uid(41), "0 3")]
    place = archive(tmp_path, rows=rows, images=7)
    with pytest.raises(
        MissingError, match=r"2 ids of .*train-rle\.csv have no image under .* and 2 images have no row"
    ) as e:
        siim(*place)
    lost = {uid(n) for n in (5, 6, 40, 41)}
    assert {id for id, _ in e.value.missing} == lost
    source = siim(*place, missing="skip")
    assert source.ids == sorted(uid(n) for n in range(5))
    assert {text.partition(":")[0] for text in source.warnings} == lost
    (tmp_path / "exclude.csv").write_text("id\n" + "\n".join(lost))
    assert siim(*place, exclude=tmp_path / "exclude.csv").ids == source.ids
    assert siim(*place, exclude=[*lost, uid(0)]).ids == source.ids[1:]


def test_faults_of_the_archive(tmp_path):
    root, csv = archive(tmp_path, images=2)
    with pytest.raises(FileNotFoundError, match=r"`root` must be a directory: .*nowhere does not exist"):
        siim(tmp_path / "nowhere", csv)
    with pytest.raises(FileNotFoundError, match=r"`csv` must be a file"):
        siim(root, tmp_path / "no.csv")
    with pytest.raises(FileNotFoundError, match=r"No file under .* ends in suffix='\.dicom'"):
        siim(root, csv, suffix=".dicom")
    with pytest.raises(ValueError, match=r"`missing` must be one of"):
        siim(root, csv, missing="ignore")
    other = tmp_path / "other.csv"
    other.write_text("ImageId,EncodedPixels\nx,-1\n")
    with pytest.raises(ValueError, match=r"No ImageId of .*other\.csv is the name of an image under .* not excluded"):
        siim(root, other, missing="skip")
    first = next(root.rglob("*.dcm"))
    shutil.copy(first, root / first.name.upper())
    (root / first.name.upper()).rename(root / first.name)
    with pytest.raises(ValueError, match=rf"1 ids are names of two images .*{first.stem}"):
        siim(root, csv)


def test_verification_names_ids_that_the_table_or_the_directory_confuses(tmp_path):
    """Rows that contradict each other or hold no run lengths, and files of one name; the list leaves them out."""
    root, csv = archive(tmp_path, images=5)
    csv.write_text(csv.read_text().replace(f"{uid(2)}, -1", f"{uid(2)}, Mustermann") + f"{uid(1)}, -1\n")
    copied = next(root.rglob(f"{uid(3)}.dcm"))
    (root / "again").mkdir()
    shutil.copy(copied, root / "again" / copied.name)
    with pytest.raises(ValueError, match=r"train-rle\.csv is faulty in 2 places") as caught:
        siim(root, csv)
    report = kz.data.verify(siim, root=root, csv=csv, ignore=["constant", "duplicate"])
    assert {(f.id, f.kind) for f in report.findings} == {(uid(1), "annotation"), (uid(2), "annotation")}
    report = kz.data.verify(siim, root=root, csv=csv, ignore=["constant"])
    assert (uid(3), "duplicate") in {(f.id, f.kind) for f in report.findings}
    assert not leaked(f"{caught.value} {report}")
    report.save_exclusions(tmp_path / "exclude.csv")
    assert not {uid(n) for n in (1, 2, 3)} & {*siim(root, csv, exclude=tmp_path / "exclude.csv").ids}


def test_run_lengths_of_another_image(tmp_path):
    source = siim(*archive(tmp_path, rows=[(uid(0), "2000 300"), (uid(1), "1 2 3")], images=2))
    assert source.foreground.all()
    for index, message in (
        (0, r"row 2 of .*train-rle\.csv lead to pixel 2300 of an image of 40x56"),
        (1, r"row 3 of .* 3 numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            source.mask(index)


def test_other_depths_and_endings(tmp_path):
    """12 bits in 16, upper-case suffixes, a flat directory, and files without suffix."""
    for name in ("a.DCM", "b.dcm"):
        write_dicom(tmp_path / name, np.where(FIGURE, 4000, 100), bits=12)
    (tmp_path / "t.csv").write_text(f"ImageId,EncodedPixels\nb,{encode_runs(FIGURE)}\na,-1\n")
    source = siim(tmp_path, tmp_path / "t.csv")
    assert source.ids == ["a", "b"]
    assert source.image(0).dtype == np.uint16
    assert (source.image(1)[..., 0].argmax(), source.mask(1).argmax()) == (FIGURE.argmax(), FIGURE.argmax())
    assert siim(tmp_path, tmp_path / "t.csv", bits=8, window=(100, 4000)).image(0).max() == 255
    plain = tmp_path / "plain"
    plain.mkdir()
    shutil.copy(tmp_path / "a.DCM", plain / "a")
    shutil.copy(tmp_path / "b.dcm", plain / "b")
    assert siim(plain, tmp_path / "t.csv", suffix="").ids == ["a", "b"]


def test_the_fingerprint_follows_the_files(tmp_path):
    root, csv = archive(tmp_path, images=3)
    before = siim(root, csv)
    assert siim(root, csv).fingerprint == before.fingerprint
    assert siim(root, csv, window=(0, 9)).fingerprint != before.fingerprint
    fingerprint = before.fingerprint
    csv.write_text(csv.read_text().replace("-1", "0 4"))
    assert before.fingerprint != fingerprint
    again = siim(root, csv).fingerprint
    path = next(root.rglob("*.dcm"))
    path.write_bytes(path.read_bytes() + b"\0\0")
    assert siim(root, csv).fingerprint != again


def test_patients_stay_in_the_files(place, tmp_path, source):
    """Nothing of `SECRETS` in what is printed, warned, raised or written, faulty files included."""
    root, csv = tmp_path / "images", tmp_path / "train.csv"
    shutil.copytree(place[0], root)
    shutil.copy(place[1], csv)
    files = sorted(root.rglob("*.dcm"))
    files[0].write_bytes(files[0].read_bytes()[:-700])
    files[1].write_bytes(files[1].read_bytes().replace(b"MONOCHROME", b"MUSTERMANN"))
    faulty = siim(root, csv, by_patient=True)
    said = [
        repr(faulty),
        repr(faulty._reader),
        str(faulty.ids),
        str(faulty.groups),
        str(faulty.warnings),
        faulty.fingerprint,
    ]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for ask in (lambda: faulty[0], lambda: faulty[1], lambda: faulty.shapes, lambda: str(faulty)):
            try:
                said.append(str(ask()))
            except ValueError as error:
                while error is not None:
                    said.append(str(error))
                    error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    said += [str(each.message) for each in caught]
    kz.data.save_split(
        dict(zip(("train", "val"), faulty.split(fractions=(0.5, 0.5)), strict=True)), tmp_path / "split.csv"
    )
    said.append((tmp_path / "split.csv").read_text())
    assert len(said) > 10
    assert not leaked("\n".join(said))


def test_names_of_files_that_tell_the_patient(tmp_path):
    """They are the user's, and appear in errors: the source says so, without repeating them."""
    write_dicom(tmp_path / "xray_mustermann.dcm", np.where(FIGURE, 220, 30).astype("u1"))
    (tmp_path / "t.csv").write_text("ImageId,EncodedPixels\nxray_mustermann,-1\n")
    (warning,) = siim(tmp_path, tmp_path / "t.csv").warnings
    assert "1 of the 1 files that were looked at hold the patient's name or id" in warning
    assert not leaked(warning)


def test_recipes_read_the_archive(place, source):
    """As it is when it is unpacked: the CSV beside the directory of images."""
    from kerazoo.training.recipe import Recipe
    from kerazoo.training.run import open_source

    recipes = sorted((REPOSITORY / "recipes").glob("siim_*.yaml"))
    assert len(recipes) > 10
    for path in recipes:
        assert open_source(Recipe.load(path), place[0]).fingerprint == source.fingerprint


def test_a_copy_in_another_process(source):
    """As a worker of `prepare` gets it."""
    copy = pickle.loads(pickle.dumps(source))
    assert (copy[1].image == source[1].image).all()
    assert (copy[1].mask == source[1].mask).all()


def test_tensorflow_is_not_imported(place):
    code = (
        "import sys, kerazoo as kz; s = kz.data.sources.siim(*sys.argv[1:]); s[1]; str(s); s.split();"
        "assert not {'tensorflow', 'keras', 'nibabel'} & set(sys.modules)"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, *map(str, place)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from /proc")
def test_an_index_of_a_million(tmp_path):
    """Under 500 MB with names and masks as long as the competition's, measured in a process of its own."""
    code = """
import sys, time
from pathlib import Path
import numpy as np
from kerazoo.data.batches.sampling import Order
n, csv = 1_000_000, Path(sys.argv[1])
uid = "1.2.276.0.7230010.3.1.4.8323329.{:05d}.15178752{:02d}.{:06d}".format
name = lambda i: uid(i // 100, i % 100, i)
runs = " ".join(f"{900 + k} {20 + k}" for k in range(40))
with csv.open("w") as file:
    file.write("ImageId, EncodedPixels\\n")
    for i in range(n):
        file.write(f"{name(n - 1 - i)}, {runs if i % 5 == 0 else -1}\\n")
files = ((name(i), f"{uid(i // 100, 1, i)}/{uid(i // 100, 2, i)}/\\0.dcm") for i in range(n))
import kerazoo.data.sources.siim
target = sys.modules["kerazoo.data.sources.siim"]
target._files = lambda root, suffix: files
start = time.perf_counter()
source = target.siim(csv.parent, csv)
made = time.perf_counter()
order = Order(size=len(source), strata=source.strata, names=("empty", "foreground"), sampler="under", balanced=None,
              shuffle=True, seed=0)
first = order(0)
drawn = time.perf_counter()
assert source.foreground.sum() == n // 5 and len(first[0] if isinstance(first, tuple) else first) == 2 * n // 5
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
print(int(peak) / 1024, made - start, drawn - made)
"""
    process = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "t.csv"], capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    megabytes, _, sampler = map(float, process.stdout.split())
    print(process.stdout)
    assert megabytes < 500
    assert sampler < 2


def test_names():
    packed = names.pack(f"{k:03d}" + "x" * (k % 4) for k in range(70_000 // 100))
    sequence = names.Names(np.sort(packed))
    assert sequence[3] == "003xxx"
    assert list(sequence[:2]) == ["000", "001x"]
    assert names.find(sequence.array, names.pack(["001x", "nowhere", "003xxx"])).tolist() == [1, -1, 3]
    assert names.find(names.pack([]), names.pack(["a"])).tolist() == [-1]
    odd = "m\udce4dchen"
    assert names.Names(names.pack([odd, "mädchen"]))[0] == odd
