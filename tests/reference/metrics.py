"""Metrics in NumPy, one image and one class at a time. Slow and obvious."""

import numpy as np

from reference.losses import log_probabilities, probabilities


def predicted(logits, threshold=0.5):
    """`(B, H, W)` ids."""
    logits = np.asarray(logits, np.float64)
    if logits.shape[-1] == 1:
        return (1 / (1 + np.exp(-logits[..., 0])) > threshold).astype(int)
    return logits.argmax(axis=-1)


def images(truth, prediction, ignore_class):
    """True and predicted ids `(pixels,)` of the valid pixels of each image that has any."""
    for ids, found in zip(truth, prediction, strict=True):
        valid = ids != ignore_class
        if valid.any():
            yield ids[valid], found[valid]


def image_balanced_accuracy(truth, prediction, *, ignore_class=None, min_area=1):
    """Mean of the recalls of the kinds of images that occur."""
    hits = {True: [], False: []}
    for ids, found in images(truth, prediction, ignore_class):
        positive = any((found == c).sum() >= min_area for c in np.unique(found[found > 0]))
        hits[bool((ids > 0).any())].append(positive == (ids > 0).any())
    recalls = [np.mean(kind) for kind in hits.values() if kind]
    return np.mean(recalls) if recalls else 0.0


def image_multiclass_accuracy(truth, prediction, *, num_classes, ignore_class=None, min_area=1):
    """Mean of the recalls of {empty, each class}, of those that occur."""
    hits = {kind: [] for kind in range(max(2, num_classes))}
    for ids, found in images(truth, prediction, ignore_class):
        there = {c for c in range(1, max(2, num_classes)) if (found == c).sum() >= min_area}
        if not (ids > 0).any():
            hits[0].append(not there)
        for c in set(ids[ids > 0]):
            hits[c].append(c in there)
    recalls = [np.mean(kind) for kind in hits.values() if kind]
    return np.mean(recalls) if recalls else 0.0


def empty_false_positive_pixels(truth, prediction, *, ignore_class=None):
    """Mean over empty images."""
    counts = [(found > 0).sum() for ids, found in images(truth, prediction, ignore_class) if not (ids > 0).any()]
    return np.mean(counts) if counts else 0.0


def per_image_dice(truth, prediction, *, num_classes, empty, ignore_class=None):
    """Mean over the images that take part."""
    scores = []
    for ids, found in images(truth, prediction, ignore_class):
        classes = []
        for c in range(1, max(2, num_classes)):
            t, p = ids == c, found == c
            if t.any():
                classes.append(2 * (t & p).sum() / (t.sum() + p.sum()))
            elif empty == "one":
                classes.append(0.0 if p.any() else 1.0)
            elif empty == "penalize":
                classes.append(1 - np.log(1 + p.sum()) / np.log(1 + t.size))
        if classes:
            scores.append(np.mean(classes))
    return np.mean(scores) if scores else 0.0


def foreground_odds(logits):
    """Log-odds of the likeliest foreground class of each pixel."""
    log_p = log_probabilities(logits)
    best = log_p[..., 1:].max(axis=-1)
    others = np.where(np.arange(log_p.shape[-1]) == 1 + log_p[..., 1:].argmax(axis=-1)[..., None], -np.inf, log_p)
    return best - np.log(np.exp(others).sum(axis=-1))


def calibration_error(truth, logits, *, bins, ignore_class):
    """Mean over foreground classes of the mean over pixels of how far off the probabilities of a bin are."""
    valid = truth != ignore_class
    if not valid.any():
        return 0.0
    errors = []
    for c in range(1, max(2, logits.shape[-1])):
        p, hit = probabilities(logits)[..., c][valid], truth[valid] == c
        place = np.minimum((p * bins).astype(int), bins - 1)
        total = sum(abs(p[place == b].sum() - hit[place == b].sum()) for b in range(bins))
        errors.append(total / len(p))
    return np.mean(errors)
