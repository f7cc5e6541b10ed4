"""Prepared data: nothing is lost, no interruption harms it, and it is refused when it is something else."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from support.data_fixtures import Arrays, Faulty, arrays, figure, write_pair

import kerazoo as kz
from kerazoo.data.formats import tfrecord
from kerazoo.data.processes import in_processes

prepare, prepared = kz.data.prepare, kz.data.sources.prepared


def files(directory):
    """Content of every file but the lock."""
    return {path.name: path.read_bytes() for path in Path(directory).iterdir() if path.name != "prepare.lock"}


def assert_same(first, second):
    assert first.ids == second.ids
    assert first.groups == second.groups
    for name in ("num_classes", "class_names", "ignore_class"):
        assert getattr(first, name) == getattr(second, name)
    assert first.labels.tolist() == second.labels.tolist()
    assert first.foreground.tolist() == second.foreground.tolist()
    for a, b in zip(first, second, strict=True):
        assert (a.image.dtype, a.image.shape, a.mask.dtype) == (b.image.dtype, b.image.shape, b.mask.dtype)
        assert (a.image == b.image).all()
        assert (a.mask == b.mask).all()


def classes(n=11, dtype=np.uint8, **fields):
    """A source of random images with ids 0, 1, 2 and 255, in groups."""
    rng = np.random.default_rng(0)
    images = (rng.random((n, 20, 14, 3)) * (65535 if dtype == np.uint16 else 255)).astype(dtype)
    masks = rng.choice(np.array([0, 1, 2, 255], np.uint8), (n, 20, 14))
    masks[::3] = 0
    groups = tuple(f"pätient-{i // 2}" for i in range(n))
    return kz.data.Source(Arrays(images=images, masks=masks, num_classes=3, ignore_class=255, groups=groups, **fields))


# --- nothing is lost ---


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("compress", [False, True])
def test_what_is_read_is_what_was_there(tmp_path, dtype, compress):
    source = classes(dtype=dtype)
    made = prepare(source, tmp_path, compress=compress, shard_images=4, workers=1)
    assert_same(source, made)
    assert_same(source, prepared(tmp_path))
    assert made.shapes.tolist() == source.shapes.tolist()
    assert made[0].image.flags.writeable, "an array that the caller may not change"
    assert made[0].mask.flags.writeable
    assert (made.class_frequencies() == source.class_frequencies()).all()
    train, val = made.split(fractions=(0.5, 0.5))
    assert not set(train.groups) & set(val.groups)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_chosen_size_is_what_the_pipeline_would_make(tmp_path, dtype):
    source = classes(dtype=dtype)
    made = prepare(source, tmp_path, image_size=(9, 16), workers=1)
    assert made.shapes.tolist() == [[9, 16, 3]] * 11
    for straight, read in zip(
        *(kz.data.pipeline(s, image_size=(9, 16), batch_size=4) for s in (source, made)), strict=True
    ):
        assert (straight[0].numpy() == read[0].numpy()).all()
        assert (straight[1].numpy() == read[1].numpy()).all()


def test_a_lesion_that_resizing_loses_is_told(tmp_path):
    masks = np.zeros((3, 32, 32), np.uint8)
    masks[1, 5, 6], masks[2, 8:24, 8:24] = 1, 1
    source = kz.data.Source(Arrays(images=masks[..., np.newaxis], masks=masks))
    made = prepare(source, tmp_path, image_size=(4, 4), workers=1)
    assert made.foreground.tolist() == [False, True, True], "labels are of the images, not of their small masks"
    assert made.warnings == ["sample-001: a class that it shows is not in its mask of 4x4."]


def test_images_of_several_sizes_land_on_the_right_pixels(tmp_path):
    for name, size in (("a", (32, 48)), ("b/c", (40, 44))):
        write_pair(tmp_path / "tiles", name, figure(*size), scale=1)
    source = kz.data.sources.folder(tmp_path / "tiles")
    made = prepare(source, tmp_path / "cache", workers=2)
    assert_same(source, made)
    for sample in made:
        assert ((sample.image[..., 0] > 125) == (sample.mask == 1)).mean() > 0.98
    assert not any(str(tmp_path).encode() in content for content in files(tmp_path / "cache").values())


def test_tensorflow_alone_can_read_the_records(tmp_path):
    """As the docstring of `prepare` describes them; TensorFlow checks their checksums."""
    source = classes(dtype=np.uint16)
    prepare(source, tmp_path, shard_images=4, workers=1)
    kinds = {"id": tf.string, "image": tf.string, "image/dtype": tf.string, "mask": tf.string, "group": tf.string}
    form = {name: tf.io.FixedLenFeature([], kind) for name, kind in kinds.items()}
    form |= {"image/shape": tf.io.FixedLenFeature([3], tf.int64), "label": tf.io.VarLenFeature(tf.int64)}
    shards = sorted(map(str, tmp_path.glob("*.tfrecord")))
    assert len(shards) == 3
    records = list(tf.data.TFRecordDataset(shards))
    for sample, group, labels, record in zip(source, source.groups, source.labels, records, strict=True):
        found = tf.io.parse_single_example(record, form)
        assert found["id"].numpy().decode() == sample.id
        assert found["group"].numpy().decode() == group
        image = tf.reshape(
            tf.io.decode_raw(found["image"], found["image/dtype"].numpy().decode()), found["image/shape"]
        )
        ids = tf.io.decode_raw(found["mask"], tf.uint8) if sample.mask.any() else tf.zeros(sample.mask.shape, tf.uint8)
        assert (tf.reshape(image, found["image/shape"]).numpy() == sample.image).all()
        assert (tf.reshape(ids, found["image/shape"][:2]).numpy() == sample.mask).all()
        assert tf.sparse.to_dense(found["label"]).numpy().tolist() == np.flatnonzero(labels[1:] + 0).__add__(1).tolist()


def test_checksums_are_crc32c():
    """The examples of RFC 3720, appendix B.4, and of the usual check value."""
    assert tfrecord.crc32c(b"123456789") == 0xE3069283
    assert tfrecord.crc32c(bytes(32)) == 0x8A9136AA
    assert tfrecord.crc32c(b"\xff" * 32) == 0x62A8AB43
    assert tfrecord.crc32c(bytes(range(32))) == 0x46DD794E
    for length in (0, 1, 3, 4, 63, 64, 65, 200, 4097):
        data = np.random.default_rng(length).bytes(length)
        assert tfrecord.crc32c(data) == tfrecord._short(data), length


def test_neither_writing_nor_reading_needs_tensorflow(tmp_path):
    code = (
        "import sys, kerazoo as kz; made = kz.data.prepare(kz.data.sources.synthetic(4), sys.argv[1], workers=2);"
        "made[1]; print(sorted({'tensorflow', 'keras', 'jax', 'torch'} & set(sys.modules)))"
    )  # and a script needs no `if __name__ == "__main__"`
    run = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


def test_any_number_of_processes_writes_the_same(tmp_path):
    source = kz.data.sources.synthetic(23, image_size=(24, 32))
    done = []
    for workers in (1, 3):
        prepare(source, tmp_path / f"{workers}", workers=workers, shard_images=5, progress=lambda *p: done.append(p))
    assert files(tmp_path / "1") == files(tmp_path / "3")
    assert done == [(k, 23) for k in range(24)] * 2


# --- interruptions ---

SOURCE = "kz.data.sources.synthetic(9, image_size=(16, 24), empty_fraction=0.5)"

DIE_EVERYWHERE = f"""
import os, signal, sys
from pathlib import Path
import kerazoo as kz
from kerazoo.data import shards

source = {SOURCE}

def attempt(directory, limit):
    '''Prepare in a process that is killed before its `limit`-th change of the directory; True if it was.'''
    child = os.fork()
    if child == 0:
        left = [limit]
        def event(*what):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        def audit(name, arguments):
            if name in ("open", "os.rename", "os.remove", "os.mkdir") and directory in str(arguments[0]):
                event(name)
        sys.addaudithook(audit)
        fsync = os.fsync
        os.fsync = lambda file: (event("fsync"), fsync(file))
        kz.data.prepare(source, directory, shard_images=4, workers=1, progress=event)
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])

def content(directory):
    return {{p.name: p.read_bytes() for p in Path(directory).iterdir() if p.name != "prepare.lock"}}

assert not attempt(sys.argv[1] + "/whole", 0)
expected, points, step = content(sys.argv[1] + "/whole"), 0, int(sys.argv[2])
while attempt(f"{{sys.argv[1]}}/{{points}}", 1 + points * step):
    directory = f"{{sys.argv[1]}}/{{points}}"
    points += 1
    assert not shards.is_prepared(directory) or content(directory)["records.npz"] == expected["records.npz"]
    again = 1
    while points % 8 == 0 and again < 9 and attempt(directory, 3 * again):  # killed again and again
        again += 1
    assert not attempt(directory, 0)
    assert content(directory) == expected, points
print(points)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("step", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_a_kill_at_any_point_costs_nothing(tmp_path, step):
    """Before each (`step`-th) change of the directory: the next run ends with the files of an undisturbed one."""
    run = subprocess.run([sys.executable, "-c", DIE_EVERYWHERE, tmp_path, str(step)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    assert int(run.stdout) * step > 40, "it was hardly ever killed"


PREPARE = f"import sys, kerazoo as kz; kz.data.prepare({SOURCE}, sys.argv[1], shard_images=2, workers=2, progress=%s)"


def start(directory, progress="None"):
    return subprocess.Popen([sys.executable, "-c", PREPARE % progress, directory], stdout=subprocess.PIPE, text=True)


def killed_at_random(directory, kills, seed):
    """Prepare with several processes, killed from outside at random times, then to the end; how often it was killed."""
    rng, count = np.random.default_rng(seed), 0
    for _ in range(kills):
        process = start(directory, "lambda *p: print(*p, flush=True)")
        process.stdout.readline()
        time.sleep(rng.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        count += process.wait() == -signal.SIGKILL
        process.stdout.close()
    process = start(directory)
    process.communicate()
    assert process.returncode == 0
    return count


@pytest.mark.parametrize("kills", [3, pytest.param(60, marks=pytest.mark.slow)])
def test_random_kills_of_several_processes(tmp_path, kills):
    prepare(eval(SOURCE), tmp_path / "whole", shard_images=2, workers=1)
    assert killed_at_random(tmp_path / "killed", kills, seed=kills) > 0
    assert files(tmp_path / "killed") == files(tmp_path / "whole")


def test_no_process_outlives_a_killed_parent(tmp_path):
    code = (
        "import time, os\nfrom kerazoo.data.processes import in_processes\n"
        "with in_processes(os.getpgid, [0] * 100, 2) as results:\n"
        "    print(next(results), flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    group = int(process.stdout.readline())
    process.kill()
    process.communicate()
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("a child still runs 10 s after its parent was killed")


def test_processes_that_prepare_at_once_do_not_harm_each_other(tmp_path):
    prepare(eval(SOURCE), tmp_path / "alone", shard_images=2, workers=1)
    runs = [start(tmp_path / "together") for _ in range(3)]
    assert [(run.communicate(), run.returncode)[1] for run in runs] == [0, 0, 0]
    assert files(tmp_path / "together") == files(tmp_path / "alone")


def test_what_is_there_is_not_done_again(tmp_path):
    first, second = arrays(6), arrays(6)
    prepare(first, tmp_path, workers=1)
    assert_same(first, prepare(second, tmp_path, workers=1))
    assert second._reader.reads == {"image": 0, "mask": 0}


# --- refusals ---


@pytest.mark.parametrize(
    ("changed", "options", "difference"),
    [
        (arrays(6, version="2"), {}, "6 of 6 images or masks, or how they are read, changed, the first .sample-000."),
        (arrays(7), {}, "it had 6 images and has 7"),
        (arrays(6).subset([0, 2, 1, 3, 4, 5]), {}, "the ids or their order changed, the first from .*-001. to .*-002."),
        (arrays(6, names=("nodule",)), {}, r"class_names was \['class_0'\] and is \['nodule'\]"),
        (arrays(6, groups=tuple("aabbcc")), {}, "the groups changed"),
        (arrays(6), {"image_size": (8, 9)}, r"image_size was None and is \[8, 9\]"),
        (arrays(6), {"compress": True, "shard_images": 2}, "compress was False and .*; shard_images was 256 and is 2"),
    ],
)  # fmt: skip
def test_other_data_or_settings_are_refused(tmp_path, changed, options, difference):
    prepare(arrays(6), tmp_path, workers=1)
    before = files(tmp_path)
    with pytest.raises(ValueError, match=f"was prepared from something else: {difference}. Pass another directory, or"):
        prepare(changed, tmp_path, workers=1, **options)
    assert files(tmp_path) == before


def test_one_changed_file_is_named(tmp_path):
    for name in "abc":
        write_pair(tmp_path / "tiles", name, figure(), scale=1)
    prepare(kz.data.sources.folder(tmp_path / "tiles"), tmp_path / "cache", workers=1)
    write_pair(tmp_path / "tiles", "b", ~figure(), scale=1)
    with pytest.raises(ValueError, match="1 of 3 images or masks, or how they are read, changed, the first 'b'"):
        prepare(kz.data.sources.folder(tmp_path / "tiles"), tmp_path / "cache", workers=1)


def test_a_directory_of_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("")
    with pytest.raises(
        ValueError, match="is no prepared data and holds 1 files or directories, the first 'thesis.txt'"
    ):
        prepare(arrays(3), tmp_path, workers=1)


@pytest.mark.parametrize(
    ("harm", "fault"),
    [
        (lambda path: path.unlink(), r"The shard .*00001-of-00003.tfrecord is missing. Prepare .* again: only it is"),
        (lambda path: path.write_bytes(path.read_bytes()[:-3]), r"The shard .* has \d+ bytes where \d+ were written"),
    ],
    ids=["missing", "truncated"],
)
def test_a_lost_shard_is_named_and_made_again_alone(tmp_path, harm, fault):
    source = arrays(6)
    prepare(source, tmp_path, shard_images=2, workers=1)
    before = files(tmp_path)
    harm(tmp_path / "shard-00001-of-00003.tfrecord")
    with pytest.raises((ValueError, FileNotFoundError), match=fault):
        prepared(tmp_path)
    source._reader.reads.update(image=0)
    prepare(source, tmp_path, shard_images=2, workers=1)
    assert source._reader.reads["image"] == 2
    assert files(tmp_path) == before


@pytest.mark.parametrize("compress", [False, True])
def test_damaged_pixels_are_noticed(tmp_path, compress):
    made = prepare(classes(6), tmp_path, workers=1, compress=compress)
    path = next(tmp_path.glob("*.tfrecord"))
    row = made._reader.records[4]
    for what in ("image", "mask"):
        content = bytearray(path.read_bytes())
        content[int(row[f"{what}_at"]) + 5] ^= 4
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"The {what} of 'sample-004' in .*tfrecord is damaged. Delete that file"):
            made.image(4) if what == "image" else made.mask(4)
    assert made[2].id == "sample-002"


def test_samples_can_be_left_out_and_the_range_is_kept(tmp_path):
    class Unit(Arrays):
        value_range = (-1.0, 1.0)

    images = np.random.default_rng(0).uniform(-1, 1, (5, 8, 8, 1)).astype(np.float32)
    source = kz.data.Source(Unit(images=images, masks=np.zeros((5, 8, 8), np.uint8)))
    assert prepare(source, tmp_path / "cache", workers=1).value_range == (-1, 1)
    (tmp_path / "exclude.csv").write_text("id,kind\nsample-001,constant\n")
    part = prepared(tmp_path / "cache", exclude=tmp_path / "exclude.csv")
    assert part.ids == [f"sample-00{k}" for k in (0, 2, 3, 4)]
    assert (part.image(1) == images[2]).all()
    with pytest.raises(ValueError, match=r"`exclude` names every sample of .*cache"):
        prepared(tmp_path / "cache", exclude=source.ids)


def test_reading_what_was_not_prepared(tmp_path):
    with pytest.raises(ValueError, match="holds no prepared data. Call kz.data.prepare"):
        prepared(tmp_path)

    def stop(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(arrays(3), tmp_path, workers=1, progress=stop)
    with pytest.raises(ValueError, match="was not prepared to the end. Call kz.data.prepare"):
        prepared(tmp_path)
    assert len(prepare(arrays(3), tmp_path, workers=1)) == 3
    (tmp_path / "source.npz").write_bytes(b"PK")
    with pytest.raises(ValueError, match="source.npz is damaged .* Delete the directory and prepare it again"):
        prepared(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": (0, 8)}, r"`image_size` must be \(height, width\) in pixels or None, received \(0, 8\)"),
        ({"workers": 0}, "`shard_images` and `workers` must be 1 or more, received shard_images=256, workers=0"),
    ],
)
def test_refuses(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        prepare(arrays(3), tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


# --- processes ---


def test_a_fault_in_another_process_is_raised_here():
    seen = []
    with pytest.raises(ValueError, match="Cannot read b.png"), in_processes(Faulty(), range(20), 2) as results:
        seen.extend(results)
    assert seen == [0, 1, 2]


def test_a_killed_process_is_told():
    with (
        pytest.raises(RuntimeError, match="ended with exit code -9. If memory ran out, pass fewer `workers`"),
        in_processes(Faulty(), [0, 5, 1, 2], 2) as results,
    ):
        list(results)


def test_what_cannot_be_sent_is_told():
    with (
        pytest.raises(ValueError, match="cannot be sent to other processes .* Pass workers=1"),
        in_processes(lambda item: item, range(3), 2),
    ):
        pass
