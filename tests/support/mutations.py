"""Read damaged files in a process of its own, with little memory: `python mutations.py png|coco COUNT SEED DIRECTORY`.

Each mutation must end in an error of ours that names the file, or in the right answer. Prints how many did which.
"""

import json
import resource
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from pycocotools import mask as coder

import kerazoo as kz
from kerazoo.data.formats.images import read_mask
from support.coco_fixtures import FIGURE, annotation, box, boxes, content, runs, save
from support.data_fixtures import write

MEMORY = 3 << 30


def mutated(original, rng):
    """Bytes of which a few are changed, left out, doubled or cut off."""
    data = bytearray(original)
    for _ in range(int(rng.integers(1, 4))):
        where = int(rng.integers(len(data)))
        kind = rng.choice(["set", "bit", "digit", "drop", "double", "cut"], p=[0.3, 0.25, 0.2, 0.1, 0.1, 0.05])
        if kind == "set":
            data[where] = int(rng.integers(256))
        elif kind == "bit":
            data[where] ^= 1 << int(rng.integers(8))
        elif kind == "digit":
            data[where] = int(rng.choice(list(b"0123456789-.,e")))
        elif kind == "drop":
            del data[where : where + int(rng.integers(1, 9))]
        elif kind == "double":
            data[where:where] = data[where : where + int(rng.integers(1, 9))]
        else:
            del data[where:]
        if not data:
            break
    return bytes(data)


def read_png(root, data):
    """The pixels of an image and of a mask are those of the file that was damaged."""
    path = root / "figure.png"
    path.write_bytes(data)
    for read in (kz.data.read_image, read_mask):
        pixels = read(path)
        assert pixels.squeeze().shape == FIGURE.shape, f"shape {pixels.shape}"
        assert ((pixels.squeeze() == 220) == FIGURE).all(), "wrong pixels"


def read_coco(root, data):
    """The masks are those that pycocotools draws from the same text."""
    (root / "instances.json").write_bytes(data)
    source = kz.data.sources.coco(root / "images", root / "instances.json")
    masks, labels = [source.mask(i) for i in range(len(source))], source.labels
    said = json.loads(data)
    names = [record["name"] for record in said["categories"]]
    for mask, label, id in zip(masks, labels, source.ids, strict=True):
        (record,) = (one for one in said["images"] if one["file_name"].startswith(id + "."))
        expected = np.zeros((len(names) + 1, int(record["height"]), int(record["width"])), bool)
        for one in said["annotations"]:
            if one.get("image_id") == record["id"]:
                (name,) = (category["name"] for category in said["categories"] if category["id"] == one["category_id"])
                shape = one["segmentation"]
                drawn = coder.frPyObjects(shape, *expected.shape[1:]) if isinstance(shape, list) else shape
                if isinstance(shape, dict) and isinstance(shape["counts"], list):
                    drawn = coder.frPyObjects(shape, *expected.shape[1:])
                merged = coder.merge(drawn) if isinstance(drawn, list) else drawn
                expected[source.class_names.index(name) if source.num_classes > 1 else 1] |= coder.decode(merged) > 0
        assert (np.logical_or.reduce(expected) == (mask > 0)).all(), "wrong pixels"
        assert label[1:].tolist() == expected[1 : len(label)].any((1, 2)).tolist(), "wrong labels"


def main(kind, count, seed, root):
    root = Path(root)
    if kind == "png":
        write(root / "figure.png", np.where(FIGURE, 220, 30).astype(np.uint8))
        original, read = (root / "figure.png").read_bytes(), read_png
    else:
        noise = np.random.default_rng(0).random(FIGURE.shape) < 0.05
        _, path = save(
            root,
            content(
                annotation(1, 100, 2, boxes()),
                annotation(2, 99, 3, runs(noise, compressed=True)),
                annotation(3, 98, 17, runs(FIGURE, compressed=False), iscrowd=1),
                annotation(4, 97, 2, [box(4, 4, 24.5, 24), box(30, 3, 47, 30)]),
                images=5,
            ),
        )
        original, read = path.read_bytes(), read_coco
    read(root, original)  # before memory is limited, because this imports what is imported lazily
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, hard))
    ends, rng = Counter(), np.random.default_rng(int(seed))
    for number in range(int(count)):
        data = mutated(original, rng)
        try:
            read(root, data)
            ends["right"] += 1
        except (ValueError, OSError) as error:
            named = any(name in str(error) for name in ("figure.png", "instances.json"))
            ends["error" if named else f"unnamed: {error}"] += 1
        except BaseException as error:
            (root / "guilty").write_bytes(data)
            raise AssertionError(f"mutation {number}, kept in {root / 'guilty'}: {error!r}") from error
    print(json.dumps(ends))


if __name__ == "__main__":
    main(*sys.argv[1:])
