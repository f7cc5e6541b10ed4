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


def soft_dice(truth, logits, *, empty="skip", smooth=0.0, class_weights=None, ignore_class=None):
    """Mean over the images that take part; 0 without any."""
    images = []
    for ids, image in zip(truth, logits, strict=True):
        valid = ids != ignore_class
        if not valid.any():
            continue
        classes = {}
        for c in range(1, max(2, image.shape[-1])):
            p = probabilities(image)[..., c][valid]
            t = (ids[valid] == c).astype(float)
            if t.sum() == 0 and empty == "skip":
                continue
            if t.sum() == 0 and empty == "penalize":
                classes[c] = np.log(1 + p.sum()) / np.log(1 + valid.sum())
                continue
            below = t.sum() + p.sum() + smooth
            classes[c] = 1 - (2 * (t * p).sum() + smooth) / below if below else 0.0
        images += mean_of_classes(classes, class_weights)
    return np.mean(images) if images else 0.0


def mean_of_classes(values, class_weights):
    """The weighted mean of the values of some classes, in a list; an empty one if none weighs anything."""
    weights = {c: 1.0 if class_weights is None else class_weights[c] for c in values}
    total = sum(weights.values())
    return [sum(weights[c] * values[c] for c in values) / total] if total else []


def over_present_classes(truth, logits, ignore_class, empty, cost, class_weights, defined=None, wrong=None):
    """Mean over images of the mean over foreground classes of `cost(t, p)`, under a policy for undefined classes."""
    defined = defined or (lambda t: t.any())
    wrong = wrong or (lambda t, p: p.sum())
    images = []
    for ids, image in zip(truth, logits, strict=True):
        valid = ids != ignore_class
        classes = {}
        for c in range(1, max(2, image.shape[-1])):
            p, t = probabilities(image)[..., c][valid], (ids[valid] == c).astype(float)
            if valid.any() and (defined(t) or empty == "one"):
                classes[c] = cost(t, p)
            elif valid.any() and empty == "penalize":
                classes[c] = np.log(1 + wrong(t, p)) / np.log(1 + valid.sum())
        images += mean_of_classes(classes, class_weights)
    return np.mean(images) if images else 0.0


def jaccard(truth, logits, *, empty="skip", smooth=0.0, class_weights=None, ignore_class=None):
    """Over union of intersection."""

    def cost(t, p):
        union = t.sum() + p.sum() - (t * p).sum() + smooth
        return 1 - ((t * p).sum() + smooth) / union if union else 0.0

    return over_present_classes(truth, logits, ignore_class, empty, cost, class_weights)


def tversky(
    truth, logits, *, alpha=0.3, beta=0.7, empty="skip", smooth=0.0, class_weights=None, ignore_class=None, power=1.0
):
    """False positives times alpha, false negatives times beta."""

    def cost(t, p):
        hit = (t * p).sum()
        below = hit + alpha * ((1 - t) * p).sum() + beta * (t * (1 - p)).sum() + smooth
        cost = 1 - (hit + smooth) / below if below else 0.0
        return cost**power if cost > 1e-6 else cost if power == 1 else 0.0

    return over_present_classes(truth, logits, ignore_class, empty, cost, class_weights)


def focal_tversky(truth, logits, *, gamma=4 / 3, **arguments):
    """Its root."""
    return tversky(truth, logits, power=1 / gamma, **arguments)


def generalized_dice(truth, logits, *, empty="skip", smooth=0.0, class_weights=None, ignore_class=None):
    """Sums over classes of overlaps and sizes, each divided by the square of its size."""
    images = []
    for ids, image in zip(truth, logits, strict=True):
        valid = ids != ignore_class
        number = max(2, image.shape[-1])
        present = [c for c in range(number) if (ids[valid] == c).any()]
        if not valid.any() or (empty == "skip" and max(present) == 0):
            continue
        above = below = smooth
        for c in range(number) if empty == "one" else present:
            p, t = probabilities(image)[..., c][valid], ids[valid] == c
            weight = (1 if class_weights is None else class_weights[c]) / max(1, t.sum()) ** 2
            above += weight * 2 * p[t].sum()
            below += weight * (p.sum() + t.sum())
        classes = {}
        for c in range(1, number):
            if c in present or empty == "one":
                classes[c] = 1 - above / below
            elif empty == "penalize":
                classes[c] = np.log(1 + probabilities(image)[..., c][valid].sum()) / np.log(1 + valid.sum())
        images += mean_of_classes(classes, class_weights)
    return np.mean(images) if images else 0.0


def mcc(truth, logits, *, empty="skip", class_weights=None, ignore_class=None):
    """Matthews' formula as it is printed, with soft counts."""

    def cost(t, p):
        tp, fp, fn, tn = (t * p).sum(), ((1 - t) * p).sum(), (t * (1 - p)).sum(), ((1 - t) * (1 - p)).sum()
        if not 0 < t.sum() < t.size:
            return 0.0
        below = np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
        return 1 - (tp * tn - fp * fn) / below if below else 1.0

    return over_present_classes(
        truth,
        logits,
        ignore_class,
        empty,
        cost,
        class_weights,
        defined=lambda t: 0 < t.sum() < t.size,
        wrong=lambda t, p: (1 - p).sum() if t.all() else p.sum(),
    )


def lovasz(truth, logits, *, empty="skip", class_weights=None, ignore_class=None):
    """Sum over the sorted errors of each error times the difference of two Jaccard losses of sets."""

    def cost(t, p):
        order = np.argsort(-np.abs(t - p), kind="stable")
        error, total, before = 0.0, 0.0, 0.0
        for k in range(1, len(order) + 1):
            wrong = np.zeros(len(t), bool)
            wrong[order[:k]] = True
            mask = np.where(wrong, 1 - t, t)  # the mask that is wrong there
            union = np.maximum(mask, t).sum()
            jaccard_loss = 1 - np.minimum(mask, t).sum() / union if union else 0.0
            error = np.abs(t - p)[order[k - 1]]
            total, before = total + error * (jaccard_loss - before), jaccard_loss
        return total

    return over_present_classes(truth, logits, ignore_class, empty, cost, class_weights)


def cross_entropy_top_k(truth, logits, *, fraction=0.1, ignore_class=None, **arguments):
    """Mean over images of the mean of the largest of their pixels."""
    images = []
    for ids, image in zip(truth, logits, strict=True):
        each = [
            cross_entropy(ids[index].reshape(1, 1), image[index].reshape(1, 1, -1), **arguments)
            for index in np.ndindex(ids.shape)
            if ids[index] != ignore_class
        ]
        if each:
            number = max(1, int(np.floor(fraction * len(each) + 0.5)))
            images.append(np.mean(sorted(each, reverse=True)[:number]))
    return np.mean(images) if images else 0.0


def balanced_cross_entropy(truth, logits, *, beta=None, empty="penalize", ignore_class=None):
    """Mean over the pixels that count; 0 without any."""
    terms = []
    for ids, image in zip(truth, logits, strict=True):
        valid = ids[ids != ignore_class]
        for true, _, log_p in pixels(ids[None], image[None], ignore_class):
            if beta is not None:
                weight = beta if true > 0 else 1 - beta
            elif len(set(valid.tolist())) > 1:
                weight = 1 - np.mean(valid == true)
            elif empty == "penalize":
                weight = 0.5
            else:
                continue
            terms.append(-weight * log_p[true])
    return np.mean(terms) if terms else 0.0


def boundary_weighted(truth, logits, *, sample_weight, **arguments):
    """Cross-entropy with a weight for each image."""
    ignore_class = arguments.get("ignore_class")
    pixels_of = [(ids != ignore_class).sum() for ids in truth]
    each = [cross_entropy(ids[None], image[None], **arguments) for ids, image in zip(truth, logits, strict=True)]
    return np.sum(np.multiply(each, pixels_of) * sample_weight) / max(1, np.sum(pixels_of))


def foreground_dice(truth, logits, *, class_weights=None, ignore_class=None):
    """Mean over images with a foreground pixel of the mean over the classes each has; 0 without any."""
    images = []
    for ids, image in zip(truth, logits, strict=True):
        valid = ids != ignore_class
        present = [c for c in np.unique(ids[valid]) if c > 0]
        losses = {}
        for c in present:
            p, t = probabilities(image)[..., c][valid], ids[valid] == c
            losses[c] = 1 - 2 * p[t].sum() / (t.sum() + p.sum())
        images += mean_of_classes(losses, class_weights)
    return np.mean(images) if images else 0.0
