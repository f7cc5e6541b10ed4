"""Tensors of PyTorch's `.pth` files, without PyTorch and without running what a pickle asks for.

A pickle is a program. Here it may build tensors, numbers, strings and containers of them, and nothing else: every name
that it asks for is looked up in `ALLOWED`, and one that is not there ends the reading. What it gets cannot be changed
afterwards either (a pickle may set attributes), which is why these are tuples. A tensor is read from the file when it
is asked for, not before.

Two formats: a zip archive (PyTorch 1.6 and later), and pickles one after another with the bytes of the storages behind
(0.1.10 to 1.5). Files of before, which are tar archives, are refused.
"""

import math
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C
"""First object of a file that is no archive."""

PROTOCOL = 1001
"""Second object of a file that is no archive."""

LONGEST = 2**28
"""Bytes of the pickle inside an archive, of which names and shapes take a few hundred per tensor."""

STORAGES = {
    "DoubleStorage": np.dtype("float64"),
    "FloatStorage": np.dtype("float32"),
    "HalfStorage": np.dtype("float16"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype("int64"),
    "IntStorage": np.dtype("int32"),
    "ShortStorage": np.dtype("int16"),
    "CharStorage": np.dtype("int8"),
    "ByteStorage": np.dtype("uint8"),
    "BoolStorage": np.dtype("bool"),
}
"""Classes of `torch` that say what numbers a storage holds."""


class _Storage(NamedTuple):
    """Numbers in a row, somewhere in the file.

    Attributes:
        read: Function from an offset and a length in bytes to the bytes.
        dtype: Of the numbers.
        length: How many there are.
    """

    read: Callable[[int, int], bytes]
    dtype: np.dtype
    length: int


class Stored(NamedTuple):
    """A tensor in a file; NumPy takes it for an array, and reads it then.

    Attributes:
        storage: Where its numbers are.
        offset: Numbers before its first one.
        shape: Its shape.
        strides: Numbers from one row of an axis to the next.
    """

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Read the tensor."""
        size = self.storage.dtype.itemsize
        length = _extent(self.shape, self.strides) * size
        content = self.storage.read(self.offset * size, length)
        if len(content) != length:
            raise OSError(
                f"the file ended after {len(content)} of {length} bytes of a tensor: it was changed meanwhile"
            )
        flat = np.frombuffer(content, self.storage.dtype)
        strides = [size * stride for stride in self.strides]
        array = np.lib.stride_tricks.as_strided(flat, self.shape, strides, writeable=False)
        return array if dtype is None else array.astype(dtype)


class _Names(dict):
    """An OrderedDict of the file: what is hung on it (`_metadata` of modules) is left out."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        pass


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Stored:
    """`torch._utils._rebuild_tensor_v2`: every number of a tensor lies inside its storage, which has as many."""
    whole = (offset, *shape, *strides)
    if not isinstance(storage, _Storage) or len(shape) != len(strides):
        raise pickle.UnpicklingError("a tensor without a storage, or of another rank than its strides")
    if not all(type(n) is int and n >= 0 for n in whole) or math.prod(shape) > storage.length:
        raise pickle.UnpicklingError(f"a tensor of shape {shape} in a storage of {storage.length} numbers")
    if offset + _extent(shape, strides) > storage.length:
        raise pickle.UnpicklingError(f"a tensor that ends behind its storage of {storage.length} numbers")
    return Stored(storage, offset, tuple(shape), tuple(strides))


def _extent(shape: tuple[int, ...], strides: tuple[int, ...]) -> int:
    """Numbers from the first to the last of a tensor; none if it is empty."""
    return 1 + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True)) if math.prod(shape) else 0


def _same(tensor: Any, *_: Any) -> Any:
    """`torch.nn.Parameter`, whose gradient is of no interest here."""
    return tensor


class _Call(NamedTuple):
    """A function for a pickle to call, as an object that it cannot set attributes of."""

    function: Callable[..., Any]

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments)


ALLOWED: Mapping[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): _Call(_Names),
    ("torch", "Size"): _Call(tuple),
    ("torch._utils", "_rebuild_tensor_v2"): _Call(_tensor),
    ("torch._utils", "_rebuild_parameter"): _Call(_same),
    ("torch._utils", "_rebuild_parameter_with_state"): _Call(_same),
    **{("torch", name): name for name in STORAGES},
}
"""What a pickle may ask for, by module and name, and what it gets. None of it is PyTorch's, or acts on anything."""


class _Unpickler(pickle.Unpickler):
    """An unpickler that knows only `ALLOWED`.

    Args:
        file: Where the pickle begins.
        storage: Function from the key of a storage, its dtype and its length to it.
    """

    def __init__(self, file: Any, storage: Callable[[str, np.dtype, int], _Storage] | None = None):
        super().__init__(file)
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a name of the file.

        Raises:
            pickle.UnpicklingError: it is none of those that tensors are made of.
        """
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        """The storage that the file means.

        Raises:
            pickle.UnpicklingError: it means something else.
        """
        if self._storage is None or not isinstance(pid, tuple) or len(pid) not in (5, 6) or pid[0] != "storage":
            raise pickle.UnpicklingError("it refers to something that is no storage")
        _, kind, key, _, length, *view = pid
        if kind not in STORAGES or type(key) is not str or type(length) is not int or length < 0:
            raise pickle.UnpicklingError("it describes a storage in another way than PyTorch")
        if view not in ([], [None]):
            raise pickle.UnpicklingError("it has views of storages, as PyTorch wrote them before 0.4")
        return self._storage(key, STORAGES[kind], length)


def _unpickled(file: Any, storage: Callable[[str, np.dtype, int], _Storage] | None = None) -> Any:
    """The next object of a file, which is looked through first: numbers of the memo cost memory by their size."""
    start = file.tell()
    for count, (code, argument, _) in enumerate(pickletools.genops(file)):
        if code.name in ("PUT", "BINPUT", "LONG_BINPUT") and argument is not None and argument > count:
            raise pickle.UnpicklingError(f"it remembers object {argument} after {count} steps")
    file.seek(start)
    return _Unpickler(file, storage).load()


def load(path: Path) -> Any:
    """The object in a `.pth` file: containers, numbers, strings, and `Stored` in the place of tensors.

    Args:
        path: The file; it is opened again whenever a tensor is read.

    Returns: the object.

    Raises:
        ValueError: the file is damaged, or holds something else than tensors; nothing of it was run.
    """
    try:
        return _from_archive(path) if zipfile.is_zipfile(path) else _from_pickles(path)
    except Exception as error:  # bytes that are no pickle make the unpickler raise almost anything
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"{path.name} is no checkpoint that holds only tensors ({type(error).__name__}: {reason}). Pickled code is "
            "never run here: save the model's state_dict() where you trust the file, best as .safetensors."
        ) from error


def _from_archive(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        packed = [name for name, entry in entries.items() if entry.compress_type != zipfile.ZIP_STORED]
        roots = [name.removesuffix("data.pkl") for name in entries if name.endswith("/data.pkl")]
        if packed or len(roots) != 1 or entries[f"{roots[0]}data.pkl"].file_size > LONGEST:
            raise pickle.UnpicklingError("it is a zip archive of another kind than PyTorch writes")
        (root,) = roots
        if f"{root}byteorder" in entries and archive.read(f"{root}byteorder") != b"little":
            raise pickle.UnpicklingError("its numbers are not in little-endian order")

        def storage(key: str, dtype: np.dtype, length: int) -> _Storage:
            entry = f"{root}data/{key}"
            if entries[entry].file_size < length * dtype.itemsize:
                raise pickle.UnpicklingError(f"the storage {key} is shorter than {length} numbers")

            def read(offset: int, size: int) -> bytes:
                with zipfile.ZipFile(path) as again, again.open(entry) as content:
                    content.seek(offset)
                    return content.read(size)

            return _Storage(read, dtype, length)

        with archive.open(f"{root}data.pkl") as content:
            return _unpickled(content, storage)


def _from_pickles(path: Path) -> Any:
    begins: dict[str, int] = {}
    sizes: dict[str, tuple[int, int]] = {}

    def storage(key: str, dtype: np.dtype, length: int) -> _Storage:
        if sizes.setdefault(key, (length, dtype.itemsize)) != (length, dtype.itemsize):
            raise pickle.UnpicklingError(f"the storage {key} has two lengths")

        def read(offset: int, size: int) -> bytes:
            with path.open("rb") as again:
                again.seek(begins[key] + offset)
                return again.read(size)

        return _Storage(read, dtype, length)

    with path.open("rb") as file:
        magic, protocol, system = (_unpickled(file) for _ in range(3))
        if magic != MAGIC or protocol != PROTOCOL:
            raise pickle.UnpicklingError("it does not begin as a file of PyTorch")
        if not system["little_endian"]:
            raise pickle.UnpicklingError("its numbers are not in little-endian order")
        state = _unpickled(file, storage)
        for key in _unpickled(file):  # the storages follow in this order, each after its length
            length, size = sizes[key]
            (written,) = struct.unpack("<q", file.read(8))
            if written != length:
                raise pickle.UnpicklingError(f"the storage {key} has {written} numbers, and not {length}")
            begins[key] = file.tell()
            file.seek(length * size, 1)
        if file.tell() > path.stat().st_size or begins.keys() != sizes.keys():
            raise pickle.UnpicklingError("it is cut off")
    return state
