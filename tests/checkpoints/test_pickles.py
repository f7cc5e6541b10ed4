"""Files of PyTorch without PyTorch: what it writes is read, what else a pickle can do is not done."""

import importlib.util
import io
import pickle
import struct
import sys
import tracemalloc
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from kerazoo.checkpoints import pickles, tensors

needs_torch = pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="torch is not installed")
formats = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "pickles"])


# What PyTorch writes --------------------------------------------------------------------------------------------------


@needs_torch
@formats
def test_tensors_of_every_kind(tmp_path, zipped):
    import torch

    base = torch.arange(24, dtype=torch.float32)
    state = {
        "float": torch.linspace(-1, 1, 6).reshape(2, 3),
        "double": torch.rand(3, dtype=torch.float64),
        "half": torch.rand(4).half(),
        "bfloat16": torch.rand(5).bfloat16(),
        "long": torch.arange(3),
        "int": torch.arange(3, dtype=torch.int32),
        "short": torch.arange(3, dtype=torch.int16),
        "char": torch.arange(-2, 3, dtype=torch.int8),
        "byte": torch.arange(3, dtype=torch.uint8),
        "bool": torch.tensor([True, False]),
        "scalar": torch.tensor(7),
        "empty": torch.zeros(0, 4),
        "parameter": torch.nn.Parameter(torch.rand(2, 2)),
        "view": base[5:17].reshape(3, 4),
        "transposed": base.reshape(4, 6).T,
        "strided": base[1::3],
    }
    torch.save(state, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    found = tensors.read(tmp_path / "a.pth")
    assert list(found) == list(state)
    for name, tensor in state.items():
        expected = tensor.detach()
        expected = (expected.float() if expected.is_floating_point() else expected).numpy()
        assert found.shape(name) == expected.shape
        assert found[name].dtype == expected.dtype
        np.testing.assert_array_equal(found[name], expected)


@needs_torch
@formats
def test_a_checkpoint_of_a_training_script(tmp_path, zipped):
    """With what modules hang on their state dicts, sizes, numbers, and tensors that share a storage."""
    import torch

    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    module.tied = module[0]
    checkpoint = {"state_dict": module.state_dict(), "epoch": 3, "best": 0.5, "size": torch.Size([2, 3]), "on": True}
    torch.save(checkpoint, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    found = tensors.read(tmp_path / "a.pth")
    assert set(found) == set(module.state_dict())
    np.testing.assert_array_equal(found["tied.weight"], module[0].weight.detach())
    assert pickles.load(tmp_path / "a.pth")["size"] == (2, 3)


@needs_torch
@formats
def test_tensors_are_read_one_at_a_time(tmp_path, zipped):
    import torch

    state = {str(i): torch.full((1_000_000,), float(i)) for i in range(8)}
    torch.save(state, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    tracemalloc.start()
    found = tensors.read(tmp_path / "a.pth")
    assert [found[name][0] for name in found] == list(range(8))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * 4_000_000


def test_pytorch_is_not_asked(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    path = archive(tmp_path, tensor_pickle(shape=(2,), strides=(1,)), storages={"0": np.float32([3, 4]).tobytes()})
    np.testing.assert_array_equal(tensors.read(path)["x"], [3, 4])


# What else a pickle can do --------------------------------------------------------------------------------------------


class Named:
    """Pickles as a name, and as a call of it with arguments."""

    def __init__(self, module, name, *arguments):
        self.module, self.name, self.arguments = module, name, arguments


class Pickler(pickle._Pickler):
    """Writes `Named` without importing what is named, and a tuple that begins with "storage" as one."""

    def persistent_id(self, obj):
        return tuple(obj) if isinstance(obj, StorageId) else None

    def save(self, obj, save_persistent_id=True):
        if not isinstance(obj, Named):
            return super().save(obj, save_persistent_id)
        self.write(f"c{obj.module}\n{obj.name}\n".encode())
        if obj.arguments:
            super().save(obj.arguments[0])
            self.write(pickle.REDUCE)
        return None


def dumped(obj, protocol=2):
    file = io.BytesIO()
    Pickler(file, protocol).dump(obj)
    return file.getvalue()


def tensor_pickle(*, shape, strides, offset=0, length=2, kind="FloatStorage", key="0"):
    rebuild = Named("torch._utils", "_rebuild_tensor_v2", (StorageId(kind, key, length), offset, shape, strides, False))
    return dumped({"x": rebuild})


class StorageId(tuple):
    """A persistent id, whose second entry is a name."""

    def __new__(cls, kind, key, length):
        return super().__new__(cls, ("storage", Named("torch", kind), key, "cpu", length))


def archive(folder, content, *, storages=None, compression=zipfile.ZIP_STORED, more=()):
    path = folder / "evil.pth"
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("archive/data.pkl", content)
        for key, storage in (storages or {"0": bytes(8)}).items():
            file.writestr(f"archive/data/{key}", storage)
        for name, text in more:
            file.writestr(name, text)
    return path


def legacy(folder, content, *, keys=("0",), written=2, system=None, magic=pickles.MAGIC, tail=bytes(8)):
    path = folder / "evil.pth"
    head = [dumped(magic), dumped(pickles.PROTOCOL), dumped(system or {"little_endian": True}), content]
    path.write_bytes(b"".join([*head, dumped(list(keys)), struct.pack("<q", written), tail]))
    return path


WRITERS = pytest.mark.parametrize("write", [archive, legacy])
REFUSED = "evil.pth is no checkpoint that holds only tensors .*{}.*never run here"


def refused(path, reason):
    with pytest.raises(ValueError, match=REFUSED.format(reason)):
        tensors.read(path)


@WRITERS
@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("posix", "system"),
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("builtins", "__import__"),
        ("subprocess", "Popen"),
        ("pathlib", "Path.touch"),
        ("numpy", "load"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("torch", "load"),
        ("torch.hub", "load"),
        ("torch._utils", "_rebuild_qtensor"),
        ("torch", "FloatStorage.from_file"),
        ("collections", "defaultdict"),
        ("argparse", "Namespace"),
        ("kerazoo.checkpoints.pickles", "load"),
    ],
)
def test_every_name_but_those_of_tensors_is_refused(tmp_path, write, module, name):
    trace = tmp_path / "trace"
    refused(write(tmp_path, dumped({"x": Named(module, name, (str(trace),))})), f"it asks for {module}.{name}")
    refused(write(tmp_path, dumped({"x": Named(module, name)})), f"it asks for {module}.{name}")
    assert not trace.exists()


class Touches:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@WRITERS
@pytest.mark.parametrize("protocol", range(6))
def test_no_protocol_runs_code(tmp_path, write, protocol):
    trace = tmp_path / "trace"
    refused(write(tmp_path, pickle.dumps({"x": Touches(trace)}, protocol)), "it asks for ")
    assert not trace.exists()


def test_the_other_pickles_of_an_old_file_run_nothing_either(tmp_path):
    trace = tmp_path / "trace"
    touches = pickle.dumps(Touches(trace), 2)
    good = tensor_pickle(shape=(2,), strides=(1,))
    parts = [dumped(pickles.MAGIC), dumped(pickles.PROTOCOL), dumped({"little_endian": True}), good, dumped(["0"])]
    for index in range(len(parts)):
        path = tmp_path / "evil.pth"
        path.write_bytes(b"".join([*parts[:index], touches, *parts[index + 1 :]]))
        refused(path, "it asks for ")
    assert not trace.exists()


ALLOWED_NAMES = [Named(*name) for name in pickles.ALLOWED]


@pytest.mark.parametrize("named", ALLOWED_NAMES, ids=lambda named: f"{named.module}.{named.name}")
@pytest.mark.parametrize("state", [{"shape": (9,), "function": 1}, (None, {"function": 1, "__doc__": "evil", "x": 1})])
def test_what_a_pickle_may_name_cannot_be_changed_by_it(tmp_path, named, state):
    """BUILD sets attributes, or calls `__setstate__`, of whatever is on the stack."""
    before = dict(pickles.ALLOWED)
    content = b"\x80\x02" + dumped(named)[2:-1] + dumped(state)[2:-1] + pickle.BUILD + pickle.STOP
    refused(archive(tmp_path, content), "")
    assert dict(pickles.ALLOWED) == before
    assert all(value.function.__doc__ != "evil" for value in before.values() if not isinstance(value, str))


def test_a_tensor_cannot_be_changed_after_its_check(tmp_path):
    """Strides from a later BUILD would read outside of what was read from the file."""
    tensor = Named("torch._utils", "_rebuild_tensor_v2", (StorageId("FloatStorage", "0", 2), 0, (2,), (1,), False))
    for state in ({"strides": (10**6,)}, (None, {"strides": (10**6,)}), [1, 2, 3, (10**6,)]):
        content = b"\x80\x02" + dumped(tensor)[2:-1] + dumped(state)[2:-1] + pickle.BUILD + pickle.STOP
        refused(archive(tmp_path, content), "")


@WRITERS
@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"shape": (3,), "strides": (1,)}, r"a tensor of shape \(3,\) in a storage of 2 numbers"),
        ({"shape": (2,), "strides": (1,), "offset": 1}, "ends behind its storage"),
        ({"shape": (2,), "strides": (2,)}, "ends behind its storage"),
        ({"shape": (2,), "strides": (-1,)}, "a tensor of shape"),
        ({"shape": (2,), "strides": (1,), "offset": -1}, "a tensor of shape"),
        ({"shape": (10**6, 10**6), "strides": (0, 0)}, "a tensor of shape"),
        ({"shape": (2,), "strides": (1, 1)}, "of another rank than its strides"),
        ({"shape": (2.0,), "strides": (1,)}, "a tensor of shape"),
        ({"shape": (True,), "strides": (1,)}, "a tensor of shape"),
        ({"shape": 2, "strides": (1,)}, ""),
        ({"shape": (2,), "strides": (1,), "length": -2}, "it describes a storage in another way"),
        ({"shape": (2,), "strides": (1,), "key": 0}, "it describes a storage in another way"),
        ({"shape": (2,), "strides": (1,), "key": "../1"}, ""),
        ({"shape": (2,), "strides": (1,), "length": 10**15}, ""),
        ({"shape": (2,), "strides": (1,), "kind": "QInt8Storage"}, "it asks for torch.QInt8Storage"),
        ({"shape": (1,), "strides": (1,), "kind": "Size"}, "it describes a storage in another way"),
    ],
    ids=str,
)
def test_tensors_outside_of_their_storage_are_refused(tmp_path, write, facts, reason):
    refused(write(tmp_path, tensor_pickle(**facts)), reason)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", ""),
        (b"\x80\x02.", ""),
        (b"\x80\x02}q\x00.garbage", None),  # what is behind the end is not read
        (b"\x80\x02}r\xff\xff\xff\xff.", "it remembers object 4294967295 after 2 steps"),
        (b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x00abc.", ""),
        (b"\x80\x02\x82\x01.", ""),  # an object of copyreg's registry
        (b"\x80\x05\x97.", ""),  # a buffer from elsewhere
        (dumped({"x": [1, 2]})[:-4], ""),
    ],
    ids=range(8),
)
def test_bytes_that_are_no_checkpoint(tmp_path, content, reason):
    if reason is None:
        with pytest.raises(ValueError, match=r"received a dict with the keys \[\]"):
            tensors.read(archive(tmp_path, content))
    else:
        refused(archive(tmp_path, content), reason)


def test_archives_of_another_kind(tmp_path):
    good = tensor_pickle(shape=(2,), strides=(1,))
    refused(archive(tmp_path, good, compression=zipfile.ZIP_DEFLATED), "a zip archive of another kind")
    refused(archive(tmp_path, good, more=[("b/data.pkl", good)]), "a zip archive of another kind")
    refused(archive(tmp_path, good, more=[("archive/byteorder", "big")]), "not in little-endian order")
    refused(archive(tmp_path, good, storages={"0": bytes(7)}), "the storage 0 is shorter than 2 numbers")
    refused(archive(tmp_path, good, storages={"1": bytes(8)}), "")


def test_old_files_of_another_kind(tmp_path):
    good = tensor_pickle(shape=(2,), strides=(1,))
    np.testing.assert_array_equal(tensors.read(legacy(tmp_path, good))["x"], [0, 0])
    refused(legacy(tmp_path, good, magic=1), "does not begin as a file of PyTorch")
    refused(legacy(tmp_path, good, system={"little_endian": False}), "not in little-endian order")
    refused(legacy(tmp_path, good, written=3), "the storage 0 has 3 numbers, and not 2")
    refused(legacy(tmp_path, good, tail=bytes(7)), "it is cut off")
    refused(legacy(tmp_path, good, keys=()), "it is cut off")
    refused(legacy(tmp_path, good, keys=("0", "1")), "")


def test_a_file_that_shrinks_is_noticed(tmp_path):
    path = legacy(tmp_path, tensor_pickle(shape=(2,), strides=(1,)))
    found = tensors.read(path)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(OSError, match="ended after 4 of 8 bytes"):
        found["x"]


def test_what_is_hung_on_a_dictionary_is_left_out(tmp_path):
    """As `_metadata` is, which every module's state dict has; nothing of it becomes an attribute."""
    names = Named("collections", "OrderedDict", ())
    content = b"\x80\x02" + dumped(names)[2:-1] + dumped({"values": 1, "items": 2})[2:-1] + pickle.BUILD + pickle.STOP
    found = pickles.load(archive(tmp_path, content))
    assert found == OrderedDict()
    assert callable(found.items)
