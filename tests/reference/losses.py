"""Losses in float64 NumPy, one pixel and one image at a time, straight from the equations. Slow and obvious."""

import numpy as np


def probabilities(logits):
    """`(H, W, K)` probabilities of the mask ids for `(H, W, C)` logits."""
    logits = np.asarray(logits, np.float64)
    if logits.shape[-1] == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=-1)
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def log_probabilities(logits):
    """Their logarithms, also where the probability underflows."""
    logits = np.asarray(logits, np.float64)
    if logits.shape[-1] == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=-1)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def pixels(truth, logits, ignore_class):
    """Id, probabilities and log-probabilities of each valid pixel of a batch."""
    for ids, image in zip(truth, logits, strict=True):
        p, log_p = probabilities(image), log_probabilities(image)
        for index in np.ndindex(ids.shape):
            if ids[index] != ignore_class:
                yield int(ids[index]), p[index], log_p[index]


def cross_entropy(truth, logits, *, class_weights=None, label_smoothing=0.0, ignore_class=None):
    """Mean over valid pixels; 0 without any."""
    terms = []
    for true, p, log_p in pixels(truth, logits, ignore_class):
        weights = np.ones(len(p)) if class_weights is None else class_weights
        term = 0.0
        for c in range(len(p)):
            label = (1 - label_smoothing) * (c == true) + label_smoothing / len(p)
            if label:
                term -= weights[c] * label * log_p[c]
        terms.append(term)
    return np.mean(terms) if terms else 0.0


def focal(truth, logits, *, alpha=None, gamma=2.0, ignore_class=None):
    """Mean over valid pixels; 0 without any."""
    terms = []
    for true, p, log_p in pixels(truth, logits, ignore_class):
        if alpha is None:
            weight = 1.0
        elif np.ndim(alpha):
            weight = alpha[true]
        else:
            weight = alpha if true > 0 else 1 - alpha
        others = sum(p[c] for c in range(len(p)) if c != true)
        terms.append(-weight * others**gamma * log_p[true])
    return np.mean(terms) if terms else 0.0


def soft_dice(truth, logits, *, empty="skip", smooth=0.0, ignore_class=None):
    """Mean over the images that take part; 0 without any."""
    images = []
    for ids, image in zip(truth, logits, strict=True):
        valid = ids != ignore_class
        if not valid.any():
            continue
        classes = []
        for c in range(1, max(2, image.shape[-1])):
            p = probabilities(image)[..., c][valid]
            t = (ids[valid] == c).astype(float)
            if t.sum() == 0 and empty == "skip":
                continue
            if t.sum() == 0 and empty == "penalize":
                classes.append(np.log(1 + p.sum()) / np.log(1 + valid.sum()))
                continue
            below = t.sum() + p.sum() + smooth
            classes.append(1 - (2 * (t * p).sum() + smooth) / below if below else 0.0)
        if classes:
            images.append(np.mean(classes))
    return np.mean(images) if images else 0.0


def foreground_dice(truth, logits, *, ignore_class=None):
    """Mean over images with a foreground pixel of the mean over the classes each has; 0 without any."""
    images = []
    for ids, image in zip(truth, logits, strict=True):
        valid = ids != ignore_class
        present = [c for c in np.unique(ids[valid]) if c > 0]
        losses = []
        for c in present:
            p, t = probabilities(image)[..., c][valid], ids[valid] == c
            losses.append(1 - 2 * p[t].sum() / (t.sum() + p.sum()))
        if losses:
            images.append(np.mean(losses))
    return np.mean(images) if images else 0.0
