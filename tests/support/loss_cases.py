"""Every loss with its arguments, beside its reference, and batches for it."""

import numpy as np
from keras import ops
from reference import losses as reference

import kerazoo as kz

CLASS_WEIGHTS = (0.5, 2.0, 3.0)
IMAGE_WEIGHTS = np.array([1.0, 0.5, 3.0, 2.0], "float32")
POLICIES = ("skip", "one", "penalize")
CASES = [
    ("cross_entropy", {}),
    ("cross_entropy", {"class_weights": CLASS_WEIGHTS}),
    ("cross_entropy", {"class_weights": CLASS_WEIGHTS, "label_smoothing": 0.1}),
    ("boundary_weighted", {}),
    ("boundary_weighted", {"class_weights": CLASS_WEIGHTS, "label_smoothing": 0.1}),
    ("focal", {}),
    ("focal", {"alpha": 0.25, "gamma": 0.5}),
    ("focal", {"alpha": CLASS_WEIGHTS, "gamma": 3.0}),
    ("soft_dice", {}),
    ("soft_dice", {"empty": "skip", "smooth": 1.0}),
    ("soft_dice", {"empty": "one", "smooth": 1.0}),
    ("soft_dice", {"empty": "one"}),
    ("soft_dice", {"empty": "penalize", "smooth": 0.5}),
    ("soft_dice", {"empty": "penalize", "class_weights": CLASS_WEIGHTS}),
    ("foreground_dice", {}),
    ("foreground_dice", {"class_weights": CLASS_WEIGHTS}),
    ("balanced_cross_entropy", {}),
    ("balanced_cross_entropy", {"empty": "skip"}),
    ("balanced_cross_entropy", {"beta": 0.9}),
    ("cross_entropy_top_k", {}),
    ("cross_entropy_top_k", {"fraction": 0.5, "class_weights": CLASS_WEIGHTS}),
    *(("focal_tversky", {"empty": empty}) for empty in POLICIES),
    ("focal_tversky", {"gamma": 3.0, "smooth": 0.5}),
    ("focal_tversky", {"class_weights": CLASS_WEIGHTS}),
    *(("generalized_dice", {"empty": empty}) for empty in POLICIES),
    ("generalized_dice", {"smooth": 0.1}),
    *(("generalized_dice", {"empty": empty, "class_weights": CLASS_WEIGHTS}) for empty in POLICIES),
    *(("jaccard", {"empty": empty}) for empty in POLICIES),
    ("jaccard", {"empty": "one", "smooth": 1.0}),
    ("jaccard", {"empty": "one", "class_weights": CLASS_WEIGHTS}),
    *(("lovasz", {"empty": empty}) for empty in POLICIES),
    ("lovasz", {"class_weights": CLASS_WEIGHTS}),
    *(("mcc", {"empty": empty}) for empty in POLICIES),
    ("mcc", {"empty": "penalize", "class_weights": CLASS_WEIGHTS}),
    *(("tversky", {"empty": empty}) for empty in POLICIES),
    ("tversky", {"alpha": 0.9, "beta": 0.2, "smooth": 1.0}),
    ("tversky", {"class_weights": CLASS_WEIGHTS}),
]


def build(name, arguments, channels, **common):
    """A loss and its reference, functions of truth and logits, with as many class weights as mask ids."""
    fitted = {key: value[: max(2, channels)] if isinstance(value, tuple) else value for key, value in arguments.items()}
    loss = kz.losses.create(name, ignore_class=255, **fitted, **common)

    def weight(truth):
        return {"sample_weight": IMAGE_WEIGHTS[: len(truth)]} if loss.needs_weight else {}

    def expected(truth, logits):
        return getattr(reference, name)(truth, logits, ignore_class=255, **fitted, **weight(truth))

    return (lambda truth, logits: loss(truth, logits, **weight(truth))), expected


def batch(channels, size=(4, 5, 3)):
    """Masks that are mixed, empty, partly ignored, ignored; logits."""
    rng = np.random.default_rng(channels)
    truth = rng.integers(0, max(2, channels), size)
    truth[1], truth[2, :2], truth[3] = 0, 255, 255
    return truth, rng.normal(0, 3, (*size, channels)).astype("float32")


def value(loss, truth, logits, **arguments):
    """As a float."""
    return float(ops.convert_to_numpy(loss(truth, logits, **arguments)))
