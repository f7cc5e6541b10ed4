"""Small COCO data sets, encoded by pycocotools."""

import copy
import json

import numpy as np
from pycocotools import mask as coder

from support.data_fixtures import figure, write

FIGURE = figure()
HEIGHT, WIDTH = FIGURE.shape
CATEGORIES = [{"id": 3, "name": "car"}, {"id": 2, "name": "bicycle"}, {"id": 17, "name": "cat"}]


def box(left, top, right, bottom):
    """The polygon that covers the pixels from left to right - 1 and top to bottom - 1."""
    return [float(number) for number in (left, top, right, top, right, bottom, left, bottom)]


def boxes():
    """`figure` as the polygons of its three strokes."""
    top, left = HEIGHT // 6, WIDTH // 8
    return [
        box(left, top, left + 4, HEIGHT - 4),
        box(left, top, WIDTH // 2, top + 4),
        box(left, HEIGHT // 2, WIDTH // 3, HEIGHT // 2 + 3),
    ]


def runs(mask, *, compressed):
    """Run lengths of a mask: pycocotools' text, or the numbers counted here."""
    if compressed:
        encoded = coder.encode(np.asfortranarray(mask, np.uint8))
        return {"size": [*mask.shape], "counts": encoded["counts"].decode()}
    flat = np.concatenate([[0], mask.ravel(order="F").astype(np.int64), [0]])
    edges = np.flatnonzero(np.diff(flat))
    counts = np.diff(np.concatenate([[0], edges, [mask.size]]))
    return {"size": [*mask.shape], "counts": counts.tolist() if counts[-1] else counts[:-1].tolist()}


def annotation(number, image, category, segmentation, **more):
    return {"id": number, "image_id": image, "category_id": category, "segmentation": segmentation, **more}


def content(*annotations, images=2):
    """A file's content over `images` images of the size of `figure`, whose ids count down from 100."""
    records = [
        {"id": 100 - i, "file_name": f"{i}.png", "height": HEIGHT, "width": WIDTH, "license": 1} for i in range(images)
    ]
    return copy.deepcopy({"images": records, "annotations": [*annotations], "categories": CATEGORIES})


def save(root, data):
    """Images that are bright where `figure` is, and the file; both paths."""
    for record in data["images"]:
        if not (root / "images" / record["file_name"]).exists():
            write(root / "images" / record["file_name"], np.where(FIGURE, 220, 30).astype(np.uint8))
    (root / "instances.json").write_text(json.dumps(data))
    return root / "images", root / "instances.json"
