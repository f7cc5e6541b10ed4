"""Downloads from a server on this machine: no file in the cache is ever half, wrong or somebody else's."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import safetensors.numpy
from huggingface_hub import constants
from support.source_tree import REPOSITORY
from support.weights_server import NEWEST, WeightsServer

from kerazoo.checkpoints import catalog, download
from kerazoo.checkpoints.record import Record

WEIGHTS = {"conv.weight": np.arange(40_000, dtype="float32").reshape(100, 400)}
CONTENT = safetensors.numpy.save(WEIGHTS)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
FILE = "model.safetensors"
FACTS = {"licence": "mit", "file": FILE, "origin": "timm"}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    for variable in ("KERAZOO_OFFLINE", "KERAZOO_MIRROR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("KERAZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def server(monkeypatch):
    with WeightsServer() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        server.files["/files/" + FILE] = server.files["/timm/tiny.test/" + FILE] = CONTENT
        yield server


def on_server(server, **facts):
    """A record of a plain file; addresses of real records begin with https."""
    record = Record(name="tiny.test", url=f"https://127.0.0.1/files/{FILE}", **{**FACTS, **facts})
    object.__setattr__(record, "url", f"{server.url}/files/{FILE}")
    return record


def on_hub(**facts):
    return Record(name="tiny.test", repo="timm/tiny.test", **{**FACTS, **facts})


def in_cache(cache):
    """Every file below the cache but the locks."""
    return sorted(path.relative_to(cache).as_posix() for path in cache.glob("[!.]*/**/*") if path.is_file())


def fetch_elsewhere(server, **environment):
    """Fetch in another process from `server` as the mirror; the process prints the path of the file."""
    code = (
        "import signal\n"  # which whoever runs the tests in the background may have had ignored
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from kerazoo.checkpoints import download, record\n"
        f"print(download.fetch(record.Record(name='tiny.test', url='https://x/{FILE}', **{FACTS})))"
    )
    environment = {"KERAS_BACKEND": "numpy", "PYTHONPATH": str(REPOSITORY), **environment}
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**os.environ, "KERAZOO_MIRROR": f"{server.url}/mirror", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


KINDS = {"url": on_server, "hub": lambda server, **facts: on_hub(**facts)}
kinds = pytest.mark.parametrize("kind", KINDS)


# What arrives ---------------------------------------------------------------------------------------------------------


@kinds
def test_a_file_is_downloaded_once(kind, server, cache):
    record = KINDS[kind](server, digest=f"sha256:{SHA256}")
    assert download.cached(record) is None
    path = download.fetch(record)
    assert path == download.fetch(record) == download.cached(record) == cache / "tiny.test" / FILE
    assert path.read_bytes() == CONTENT
    assert server.downloads(FILE) == 1
    assert in_cache(cache) == [f"tiny.test/{FILE}", "tiny.test/receipt.json"]
    receipt = json.loads((cache / "tiny.test" / "receipt.json").read_text())
    assert receipt == {
        "record": "tiny.test",
        "url": record.url or f"{server.url}/timm/tiny.test/resolve/main/{FILE}",
        "revision": None if kind == "url" else NEWEST,
        "digest": f"sha256:{SHA256}",
        "bytes": len(CONTENT),
    }


@pytest.mark.parametrize("digest", [f"sha256:{SHA256[:8]}", f"md5:{hashlib.md5(CONTENT).hexdigest()}", None])
def test_every_kind_of_digest(digest, server):
    assert download.fetch(on_server(server, digest=digest)).read_bytes() == CONTENT


@kinds
@pytest.mark.parametrize("digest", ["sha256:" + 64 * "0", "sha256:" + 8 * "0", "md5:" + 32 * "0"])
def test_a_wrong_file_is_refused(kind, digest, server, cache):
    record = KINDS[kind](server, digest=digest)
    with pytest.raises(OSError, match=rf"tiny\.test: what came from {server.url}.*has the .*and not 0+ .*not kept"):
        download.fetch(record)
    assert in_cache(cache) == []
    download.fetch(replace(record, digest=None) if kind == "hub" else on_server(server))  # nothing stands in the way


@kinds
@pytest.mark.parametrize("fault", ["breaks off", "breaks off without a length", "is not there"])
def test_a_failed_download_leaves_nothing(kind, fault, server, cache, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the Hub's client waits between its attempts
    path = next(path for path in server.files if path.startswith({"url": "/files", "hub": "/timm"}[kind]))
    if fault == "is not there":
        content = server.files.pop(path)
    else:
        content = server.files[path]
        server.sent[path] = len(content) // 3
        server.lengthless |= {path} if "without" in fault else set()
    record = KINDS[kind](server)
    with pytest.raises(OSError, match=rf"tiny\.test: .*{server.url}/.*{FILE}"):
        download.fetch(record)
    assert in_cache(cache) == []
    server.files[path] = content
    server.sent.clear()
    assert download.fetch(record).read_bytes() == CONTENT


def test_the_error_says_what_to_do(server):
    server.files.clear()
    with pytest.raises(
        ConnectionError, match=r"404.*try again.*pass the path of the file as `weights`.*KERAZOO_MIRROR"
    ):
        download.fetch(on_server(server))


def test_without_a_digest_a_file_is_whole_at_the_least(server, tmp_path):
    path = f"/files/{FILE}"
    server.files[path] = CONTENT[: len(CONTENT) // 2]  # the server itself has half of it
    with pytest.raises(OSError, match=r"is no complete \.safetensors file"):
        download.fetch(on_server(server))
    with h5py.File(tmp_path / "whole.h5", "w") as file:
        file["kernel"] = np.arange(10_000)
    content = (tmp_path / "whole.h5").read_bytes()
    server.files["/mirror/tiny.test/tiny.h5"] = content[: len(content) // 2]
    record = replace(on_hub(), file="tiny.h5")
    os.environ["KERAZOO_MIRROR"] = f"{server.url}/mirror"
    with pytest.raises(OSError, match=r"is no complete \.h5 file"):
        download.fetch(record)
    server.files["/mirror/tiny.test/tiny.h5"] = content
    assert download.fetch(record).read_bytes() == content


def test_a_damaged_file_in_the_cache_is_replaced(server):
    for record in (on_server(server), on_hub()):  # no digest in the catalog: the receipt knows it
        path = download.fetch(record)
        path.write_bytes(CONTENT[:-1] + b"?")
        assert download.cached(record) is None
        assert download.fetch(record).read_bytes() == CONTENT
        path.unlink()


def test_a_receipt_that_is_none_is_ignored(cache):
    record = on_hub()
    (cache / "tiny.test").mkdir(parents=True)
    (cache / "tiny.test" / FILE).write_bytes(CONTENT)  # as somebody put it there by hand
    for receipt in ("", "[]", "{}", '{"digest": "sha256:"}', '{"digest": "whatever:0"}', '{"digest": 3}'):
        (cache / "tiny.test" / "receipt.json").write_text(receipt)
        assert download.cached(record) == cache / "tiny.test" / FILE


# The Hub --------------------------------------------------------------------------------------------------------------


def test_a_pinned_revision_is_what_is_asked_for(server):
    record = on_hub(revision=40 * "a")
    download.fetch(record)
    assert {path for _, path in server.requests} == {f"/timm/tiny.test/resolve/{40 * 'a'}/{FILE}"}
    assert json.loads((download.cached(record).parent / "receipt.json").read_text())["revision"] == 40 * "a"


def test_another_revision_than_the_pinned_one_is_refused(server, cache):
    server.commit = NEWEST
    with pytest.raises(ConnectionError, match=f"the answer is of revision {NEWEST}"):
        download.fetch(on_hub(revision=40 * "a"))
    assert in_cache(cache) == []


def test_an_unpinned_file_is_checked_by_the_sha256_that_the_hub_says(server, cache):
    server.etags["/timm/tiny.test/" + FILE] = 64 * "0"
    with pytest.raises(OSError, match=f"has the sha256 {SHA256}, and not {64 * '0'}"):
        download.fetch(on_hub())
    assert in_cache(cache) == []


def test_an_unpinned_file_stays_what_it_was(server):
    path = download.fetch(on_hub())
    server.files["/timm/tiny.test/" + FILE] = safetensors.numpy.save({"other": np.zeros(3, "float32")})
    assert download.fetch(on_hub()) == path
    assert path.read_bytes() == CONTENT


def test_hf_endpoint_names_another_hub(server, cache):
    code = f"from kerazoo.checkpoints import download, record; download.fetch(record.Record(**{vars(on_hub())!r}))"
    code = code.replace("Preprocessing(", "record.Preprocessing(")
    environment = {**os.environ, "HF_ENDPOINT": server.url, "PYTHONPATH": str(REPOSITORY)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True)
    assert download.cached(on_hub()).read_bytes() == CONTENT


# Mirrors and no network -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", ["directory", "server"])
def test_a_mirror_is_laid_out_as_the_cache(network, server, cache, tmp_path, monkeypatch):
    download.fetch(on_hub())
    cache.rename(tmp_path / "mirror")
    server.requests.clear()
    for path in (tmp_path / "mirror" / "tiny.test").iterdir():
        server.files[f"/mirror/tiny.test/{path.name}"] = path.read_bytes()
    monkeypatch.setenv(
        "KERAZOO_MIRROR", str(tmp_path / "mirror") if network == "directory" else f"{server.url}/mirror/"
    )
    if network == "directory":
        monkeypatch.setenv("KERAZOO_OFFLINE", "1")  # a directory is no network
    assert download.fetch(on_hub()).read_bytes() == CONTENT
    assert not any("resolve" in path for _, path in server.requests)
    receipt = json.loads((cache / "tiny.test" / "receipt.json").read_text())
    assert (receipt["revision"], receipt["digest"]) == (NEWEST, f"sha256:{SHA256}")


@pytest.mark.parametrize("network", ["directory", "server"])
def test_what_a_mirror_damaged_is_refused(network, server, cache, tmp_path, monkeypatch):
    download.fetch(on_hub())
    cache.rename(tmp_path / "mirror")
    (tmp_path / "mirror" / "tiny.test" / FILE).write_bytes(CONTENT[:-1] + b"?")
    for path in (tmp_path / "mirror" / "tiny.test").iterdir():
        server.files[f"/mirror/tiny.test/{path.name}"] = path.read_bytes()
    monkeypatch.setenv("KERAZOO_MIRROR", str(tmp_path / "mirror") if network == "directory" else f"{server.url}/mirror")
    with pytest.raises(OSError, match=rf"what came from .*mirror/tiny\.test/{FILE} has the sha256"):
        download.fetch(on_hub())
    assert in_cache(cache) == []


def test_a_mirror_that_has_no_such_file(server, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAZOO_MIRROR", str(tmp_path / "empty"))
    with pytest.raises(FileNotFoundError, match=rf"KERAZOO_MIRROR is .*empty, where there is no file .*{FILE}"):
        download.fetch(on_hub())
    monkeypatch.setenv("KERAZOO_MIRROR", f"{server.url}/empty")
    with pytest.raises(ConnectionError, match=rf"{server.url}/empty/tiny\.test/{FILE} could not be downloaded .*404"):
        download.fetch(on_hub())


@kinds
def test_offline(kind, server, cache, monkeypatch):
    record = KINDS[kind](server)
    monkeypatch.setenv("KERAZOO_OFFLINE", "1")
    for mirror in ("", server.url):
        monkeypatch.setenv("KERAZOO_MIRROR", mirror)
        with pytest.raises(
            FileNotFoundError, match=rf"KERAZOO_OFFLINE is set, and .*{FILE} is not there\. Download http"
        ):
            download.fetch(record)
    assert server.requests == []
    assert not cache.exists()
    monkeypatch.setenv("KERAZOO_OFFLINE", "0")
    monkeypatch.setenv("KERAZOO_MIRROR", "")
    path = download.fetch(record)
    monkeypatch.setenv("KERAZOO_OFFLINE", "true")
    assert download.fetch(record) == path
    path.write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="is damaged"):
        download.fetch(record)


def test_where_the_cache_is(monkeypatch, tmp_path):
    assert download.cache_directory() == tmp_path / "cache"
    monkeypatch.delenv("KERAZOO_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert download.cache_directory() == tmp_path / "xdg" / "kerazoo"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert download.cache_directory() == Path.home() / ".cache" / "kerazoo"


def test_a_cache_that_cannot_be_written(server, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KERAZOO_CACHE", str(tmp_path / "file"))
    with pytest.raises(OSError, match="the cache .*file cannot be written.*Let KERAZOO_CACHE name a directory"):
        download.fetch(on_hub())


# Several processes ----------------------------------------------------------------------------------------------------


def test_two_processes_ask_at_once(server, cache):
    server.files[f"/mirror/tiny.test/{FILE}"] = CONTENT
    server.gate.clear()
    first, second = fetch_elsewhere(server), fetch_elsewhere(server)
    assert server.halfway.wait(60)
    waiting = next(process for process in (first, second) if "waiting" in _line(process))
    assert in_cache(cache) != [f"tiny.test/{FILE}"], "the file has its name before it is whole"
    assert waiting.poll() is None
    server.gate.set()
    for process in (first, second):
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        assert Path(output.strip()).read_bytes() == CONTENT
    assert server.downloads(FILE) == 1
    assert in_cache(cache) == [f"tiny.test/{FILE}", "tiny.test/receipt.json"]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_process_that_is_stopped_stands_in_nobodys_way(how, server, cache):
    server.files[f"/mirror/tiny.test/{FILE}"] = CONTENT
    server.gate.clear()
    stopped = fetch_elsewhere(server)
    assert server.halfway.wait(60)
    stopped.send_signal(how)
    stopped.communicate(timeout=60)
    server.gate.set()
    assert stopped.returncode
    left_over = any((cache / "tiny.test").glob("partial-*"))
    assert left_over == (how == signal.SIGKILL)  # a process that is killed cannot tidy up
    assert not (cache / "tiny.test" / FILE).exists()
    assert download.fetch(on_hub()).read_bytes() == CONTENT
    assert sorted(path.name for path in (cache / "tiny.test").iterdir()) == [FILE, "receipt.json"]


def _line(process):
    """The last line that a process wrote to standard error so far."""
    os.set_blocking(process.stderr.fileno(), False)
    deadline, text = time.monotonic() + 20, ""
    while not text.endswith("\n") and time.monotonic() < deadline:
        text += process.stderr.read() or ""
        time.sleep(0.02)
    os.set_blocking(process.stderr.fileno(), True)
    return text


# Terminals and names --------------------------------------------------------------------------------------------------


@kinds
def test_a_log_gets_one_line(kind, server, capfd):
    download.fetch(KINDS[kind](server))
    output = capfd.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    assert "kerazoo: downloading http" in output.err


def test_a_terminal_gets_a_progress_bar(server, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    download.fetch(on_server(server))
    assert f"{len(CONTENT)}/{len(CONTENT)}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "facts",
    [
        {"name": "../x.y"},
        {"name": "a/b.c"},
        {"name": "a.."},
        {"file": "../model.safetensors"},
        {"file": "a/model.safetensors"},
        {"file": ".safetensors"},
        {"file": "model.pkl"},
    ],
)
def test_no_record_leads_out_of_the_cache(facts):
    with pytest.raises(ValueError, match=f"has {next(iter(facts))}="):
        Record(**{"name": "tiny.test", "repo": "timm/tiny.test", **FACTS, **facts})
    with pytest.raises(ValueError, match="There are no weights"):
        catalog.find("resnet18", "../../etc/passwd")
