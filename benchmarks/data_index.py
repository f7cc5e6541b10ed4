"""Memory of an index of a million images, and how long its sampler takes to start.

The index is that of prepared data (`kz.data.sources.prepared`): ids and groups, labels, sizes, and where each sample
lies; its shards are files without content. Each figure is of a fresh process that imports NumPy and the data modules
alone. The aims for 10⁶ images: below 500 MB, and a sampler that starts within 2 s.

    python benchmarks/data_index.py [--images N]
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from machine import write

import kerazoo as kz
from kerazoo.data.batches.sampling import EpochSampler, Order, audit_order, strata
from kerazoo.data.shards import FORMAT, RECORDS, ROW, SOURCE, join, save, shard_name

SHARD, SLICES = 256, 40
SETUPS = (("natural", "foreground"), ("under", "foreground"), ("over", "foreground"), ("over", "classes"))


def write_index(root: Path, images: int) -> None:
    """An index of `images` slices of patients, in four classes, one in three with foreground."""
    rng = np.random.default_rng(0)
    kinds = rng.choice(4, images, p=(0.67, 0.2, 0.1, 0.03))
    facts = {
        "format": FORMAT,
        "settings": {"image_size": [512, 512], "compress": False, "shard_images": SHARD},
        "num_classes": 4,
        "class_names": ["background", "liver", "lesion", "vessel"],
        "ignore_class": None,
        "warnings": [],
    }
    save(
        root / SOURCE,
        facts,
        ids=join([f"patient-{i // SLICES:06d}/series-1/slice-{i % SLICES:04d}" for i in range(images)]),
        groups=join([f"patient-{i // SLICES:06d}" for i in range(images)]),
        labels=kinds[:, np.newaxis] == np.arange(4),
        fingerprints=rng.integers(0, 2**63, images).astype(np.uint64),
    )
    records = np.zeros(images, ROW)
    records["shape"], records["image_bytes"], records["mask_bytes"] = (512, 512, 1), 512 * 512, 700
    place = np.arange(images) % SHARD
    records["end"] = (place + 1) * (512 * 512 + 1000)
    save(root / RECORDS, {}, records=records)
    shards = -(-images // SHARD)
    for shard in range(shards):
        with (root / shard_name(shard, shards)).open("wb") as file:
            file.truncate(int(records["end"][min((shard + 1) * SHARD, images) - 1]))


def memory() -> float:
    """Greatest resident memory so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def measure(root: Path, sampler: str, balance: str) -> dict[str, object]:
    """Open the index, take a part of it, and start a sampler on that."""
    before, start = memory(), time.perf_counter()
    source = kz.data.sources.prepared(root)
    opened = time.perf_counter()
    train, _ = source.split(by="image", fractions=(0.9, 0.1))
    divided = time.perf_counter()
    kinds, names = strata(train, balance=balance)
    order = Order(size=len(train), strata=kinds, names=names, sampler=sampler, seed=0)
    if sampler != "natural":
        str(audit_order(order))
    index, _ = EpochSampler(order)()
    started = time.perf_counter()
    return {
        "images": len(source),
        "sampler": sampler,
        "balance": balance,
        "epoch_images": len(index),
        "memory_mb": f"{memory() - before:.0f}",
        "open_s": f"{opened - start:.2f}",
        "split_s": f"{divided - opened:.2f}",
        "sampler_start_s": f"{started - divided:.2f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        root, sampler, balance = arguments.measure
        print(json.dumps(measure(Path(root), sampler, balance)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        write_index(Path(scratch), arguments.images)
        for sampler, balance in SETUPS:
            command = [sys.executable, __file__, "--measure", scratch, sampler, balance]
            rows.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    write("data_index", rows, "numpy")


if __name__ == "__main__":
    main()
