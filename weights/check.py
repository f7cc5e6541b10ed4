"""Check the catalog of pretrained weights: `python weights/check.py [--write] [--online]`.

Without arguments: whether the records are complete and consistent, and `manifest.csv` says what they say. `--write`
rewrites the manifest. `--online` asks every address for its head: whether the file is still there, and what its server
says of its hash, where the server does.
"""

import argparse
import base64
import csv
import io
import re
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from kerazoo.checkpoints import catalog
from kerazoo.checkpoints.record import NOT_STATED, Record

MANIFEST = Path(__file__).parent / "manifest.csv"
LICENCES = {"apache-2.0", "bsd-3-clause", "cc-by-4.0", "cc-by-nc-4.0", "mit", NOT_STATED}
HEAD = (
    *("name", "default", "origin", "address", "revision", "digest", "licence", "training_data", "image_size"),
    *("scale", "mean", "std", "order", "lowest", "highest", "top1", "top1_size"),
)


def row(record: Record) -> tuple[str, ...]:
    """What the manifest says of a record, in the order of `HEAD`; unknown is empty."""

    def text(value: object) -> str:
        return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)

    preprocessing = record.preprocessing
    values = (
        record.name,
        catalog.IMAGENET if catalog.find(record.arch, catalog.IMAGENET) is record else None,
        record.origin,
        record.address,
        record.revision,
        record.digest,
        record.licence,
        " > ".join(record.training_data),
        record.image_size,
        preprocessing.scale,
        " ".join(map(text, preprocessing.mean)),
        " ".join(map(text, preprocessing.std)),
        preprocessing.order,
        *preprocessing.range,
        record.top1,
        record.top1_size,
    )
    return tuple(map(text, values))


def manifest() -> str:
    """Text of `manifest.csv`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([HEAD, *(row(record) for record in catalog.records())])
    return text.getvalue()


def faults() -> Iterator[str]:
    """What is wrong with the records, one line each; their forms are checked when they are made."""
    records = catalog.records()
    for arch in sorted({record.arch for record in records}):
        try:
            catalog.find(arch, catalog.IMAGENET)
        except ValueError:
            yield f"{arch}: several weights and no default: name it in DEFAULTS of kerazoo/checkpoints/catalog.py"
            return
    for what in ("name", "address"):
        counts = Counter(getattr(record, what) for module in catalog.ORIGINS for record in module.RECORDS)
        yield from (f"{value}: this {what} is there {count} times" for value, count in counts.items() if count > 1)
    for record in records:
        if record.licence not in LICENCES:
            yield f"{record.name}: licence {record.licence!r} is none of {sorted(LICENCES)}"
        if record.file.endswith(".pth") and record.digest is None:
            yield f"{record.name}: a pickle without a digest"
        if record.top1 is not None and not 50 < record.top1 < 100:
            yield f"{record.name}: top-1 of {record.top1} is no percentage of a network that learnt anything"
    for name in catalog.REFUSED.keys() & catalog.RECORDS.keys():
        yield f"{name}: refused, and in the catalog"
    if not MANIFEST.exists() or MANIFEST.read_text() != manifest():
        yield f"{MANIFEST.name} is stale, type: python weights/check.py --write"


def answer(record: Record) -> str:
    """What the server says of a file; an exception says that it has none."""
    if record.repo is not None:
        import huggingface_hub as hub

        url = hub.hf_hub_url(record.repo, record.file, revision=record.revision)
        metadata = hub.get_hf_file_metadata(url)
        return f"revision {metadata.commit_hash} sha256:{metadata.etag} {metadata.size} bytes"
    request = urllib.request.Request(record.address, method="HEAD")
    with urllib.request.urlopen(request, timeout=30) as response:
        hashes = re.search(r"md5=([\w+/=]+)", ",".join(response.headers.get_all("x-goog-hash", [])))
        said = f"md5:{base64.b64decode(hashes[1]).hex()}" if hashes else "no hash"
        if hashes and (record.digest or "").startswith("md5:") and said != record.digest:
            raise ValueError(f"the server says {said}, the record {record.digest}")
        return f"{said} {response.headers['Content-Length']} bytes"


def main() -> int:
    """Print what was found; the number of faults is the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="rewrite manifest.csv")
    parser.add_argument("--online", action="store_true", help="ask every address")
    arguments = parser.parse_args()
    if arguments.write:
        MANIFEST.write_text(manifest())
    found = list(faults())
    if arguments.online:
        for record in catalog.records():
            try:
                print(f"{record.name}: {answer(record)}", flush=True)
            except Exception as error:  # of any library, for any reason: the next address is asked all the same
                found.append(f"{record.name}: {record.address}: {error}")
    for fault in found:
        print(fault, file=sys.stderr)
    print(f"{len(catalog.RECORDS)} records, {len(found)} faults")
    return min(len(found), 100)


if __name__ == "__main__":
    sys.exit(main())
