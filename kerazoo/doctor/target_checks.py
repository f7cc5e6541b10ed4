"""Faults of masks and labels: their structure, shapes, ids, and how much foreground there is."""

from collections.abc import Iterator

import numpy as np
from keras import ops

from kerazoo.doctor.compiled import LossTerm
from kerazoo.doctor.facts import UNNAMED, DatasetFacts, TargetFacts
from kerazoo.doctor.outputs import Output
from kerazoo.findings import Finding, error, note, warning

_MIN_IMAGES = 16
"""Number of images from which on it means something that none has foreground."""

_MOSTLY_EMPTY = 0.9
_TOLERANCE = 1e-6  # losses of 16 pixels that differ by less are the same in float32


def check_structure(outputs: tuple[Output, ...], dataset: DatasetFacts) -> Iterator[Finding]:
    """Check that there are batches, and that their targets have the keys of the outputs."""
    if not dataset.num_batches:
        yield error(
            "no-batches", "the dataset is empty.", "Check the split, `skip_batches` and filters in front of it."
        )
        return
    if not dataset.targets:
        yield error(
            "no-targets",
            "the batches have images only.",
            "Give (images, masks) pairs: a tuple, not a dict, because Keras takes a dict for several inputs.",
        )
        return
    names, trained = [output.name for output in outputs], [output.name for output in outputs if output.terms]
    if len(names) < 2 or not trained:
        return
    if not dataset.has_named_targets and UNNAMED in dataset.targets:
        yield error(
            "targets-not-dict",
            f"the model has the outputs {', '.join(names)}, and the targets are one array.",
            "Give one target per output, {'mask': masks, …}; kerazoo.data.pipeline(…, outputs=model) does.",
        )
        return
    needed = trained if len(trained) == 1 else names
    missing = [name for name in needed if name not in dataset.targets]
    extra = [name for name in dataset.targets if name not in names]
    if missing or extra:
        faults = [f"lack {', '.join(missing)}"] if missing else []
        faults += [f"have {', '.join(extra)}, which the model does not put out"] if extra else []
        yield error(
            "targets-keys",
            f"the targets {' and '.join(faults)}; the outputs are {', '.join(names)}.",
            "Let the keys be the same: kerazoo.data.pipeline(…, outputs=model).",
        )


def targets_of(output: Output, dataset: DatasetFacts) -> list[TargetFacts]:
    """Facts of the targets of one output, batch by batch."""
    if output.name in dataset.targets:
        return dataset.targets[output.name]
    return next(iter(dataset.targets.values())) if output.name == UNNAMED and len(dataset.targets) == 1 else []


def check_targets(output: Output, dataset: DatasetFacts) -> Iterator[Finding]:
    """Check the targets of one output: first their form, then, if that is right, their values."""
    facts = targets_of(output, dataset)
    if not facts or not output.terms:
        return
    malformed = [*_check_form(output, facts, dataset)]
    yield from malformed
    if malformed:
        return
    of_ids = [term for term in output.terms if term.targets == "ids"]
    each = (_check_ids if term in of_ids else _check_probabilities for term in output.terms)
    outside = [next(check(output, term, facts), None) for check, term in zip(each, output.terms, strict=True)]
    outside = [finding for finding in outside if finding is not None]
    yield from outside[:1]  # other terms would say the same
    if of_ids and output.is_mask and not outside:
        yield from _check_foreground(output, of_ids, facts, dataset)


def _check_form(output: Output, facts: list[TargetFacts], dataset: DatasetFacts) -> Iterator[Finding]:
    """Check the shapes of targets against those of the images and of the output."""
    what = f"targets of {output.description}"
    for batch, each in enumerate(facts):
        image = dataset.images[batch].shape if batch < len(dataset.images) else ()
        if each.dtype.kind not in "uifb":
            yield error("targets-dtype", f"{what} are {each.dtype}.", "Give numbers: int32 ids, or float32.")
            return
        if len(image) != 4 or not each.shape:
            continue
        if each.shape[0] != image[0]:
            yield error(
                "batch-size",
                f"batch {batch} has {image[0]} images and {each.shape[0]} targets.",
                "Pair them: every image needs its own mask.",
            )
            return
        if not output.is_mask:
            continue
        if each.shape[1:] == (1, *image[1:3]):
            yield error(
                "mask-channels-first", f"{what} are {each.shape}, with the channel first.", "Drop it: masks[:, 0]."
            )
            return
        if each.shape[1:3] != image[1:3]:
            turned = each.shape[1:3] == image[2:0:-1]
            yield error(
                "mask-size",
                f"images of batch {batch} are {image[1:3]} and their masks {each.shape[1:3]} pixels"
                + (": height and width are exchanged." if turned else "."),
                "Transpose one of them." if turned else "Resize both to one size; masks with nearest neighbors.",
            )
            return
    first = facts[0]
    channels = first.shape[-1] if len(first.shape) == len(output.shape) else 1
    ids = [term for term in output.terms if term.targets == "ids"]
    if ids and output.is_mask and channels > 1:
        yield error(
            "one-hot-masks",
            f"{what} are {first.shape}"
            + (", one-hot," if first.is_one_hot else ",")
            + f" and {ids[0].name} takes one id per pixel, (B, H, W).",
            "Turn them into ids: masks.argmax(-1).",
        )
    single = [term for term in output.terms if term.targets in ("one_hot", "per_channel")]
    if single and channels != output.channels:
        yield error(
            "targets-not-one-hot",
            f"{what} have {_count(channels)}, and {single[0].name} compares them with {_count(output.channels)}.",
            f"Use a loss of ids, such as kerazoo.losses.CrossEntropy(), or targets of {_count(output.channels)}.",
        )


def _count(channels: int | None) -> str:
    return f"{channels} channel{'' if channels == 1 else 's'}"


def number_of_ids(output: Output, term: LossTerm) -> int:
    """Number of ids that a term of the loss of an output accepts."""
    channels = output.channels or 1
    return max(2, channels) if term.from_kerazoo else channels


def _check_ids(output: Output, term: LossTerm, facts: list[TargetFacts]) -> Iterator[Finding]:
    number = number_of_ids(output, term)
    if number < 2:  # said by the check of the loss
        return
    lowest, highest = min(each.low for each in facts), max(each.high for each in facts)
    if not all(each.is_whole for each in facts):
        scaled = 0 <= lowest < highest <= 1
        yield error(
            "labels-fractional",
            f"targets of {output.description} are not whole numbers ({lowest:g} to {highest:g}); cut to ids, 0.9 is 0.",
            "They were divided, perhaps by 255, or resized smoothly: numpy.round(masks * 255), then map to 0..K-1."
            if scaled
            else "Read masks as integers, and resize them with nearest neighbors.",
        )
        return
    found = _all_values(facts) - {term.ignore_class}
    outside = sorted(value for value in found if not 0 <= value < number)
    if not outside and np.isfinite(highest) and lowest >= 0 and all(None not in each.values for each in facts):
        return
    shown = ", ".join(f"{value:g}" for value in outside[:8]) + (", …" if len(outside) > 8 else "")
    shown = shown or f"{lowest:g} to {highest:g}, more than 64 different values"
    yield error(
        "labels-outside",
        f"targets of {output.description} have the ids {shown}; {term.name} knows 0..{number - 1}"
        + ("." if term.ignore_class is None else f", and ignores {term.ignore_class}."),
        _fix_outside(outside, number, found),
    )


def _fix_outside(outside: list[float], number: int, found: set[float]) -> str:
    if number == 2 and outside == [255] and 1 not in found:
        return "Foreground is 255: divide masks by 255 (mask_threshold=127 in kerazoo.data.sources.folder)."
    if outside == [255]:
        return "If 255 marks void pixels, say ignore_class=255 in every loss and metric."
    if not outside or len(outside) > 32 or outside[0] < 0:
        return "Map the values of the masks to 0..K-1 (`mask_values` in kerazoo.data.sources.folder)."
    return f"Build the model with num_classes={int(outside[-1]) + 1}, or map the ids to 0..{number - 1}."


def _all_values(facts: list[TargetFacts]) -> set:
    return {value for each in facts for values in each.values for value in values or ()}


def _check_probabilities(output: Output, term: LossTerm, facts: list[TargetFacts]) -> Iterator[Finding]:
    """Check that targets of losses that compare probabilities are in [0, 1]."""
    if term.targets not in ("per_channel", "one_hot"):
        return
    lowest, highest = min(each.low for each in facts), max(each.high for each in facts)
    if not (lowest >= 0 and highest <= 1):
        yield error(
            "labels-outside",
            f"targets of {output.description} are {lowest:g} to {highest:g}, and {term.name} takes 0 to 1.",
            "Divide masks by 255 where foreground is 255, or use a loss of ids: kerazoo.losses.CrossEntropy().",
        )
    elif (
        term.targets == "one_hot"
        and all(each.is_whole for each in facts)
        and not all(each.is_one_hot for each in facts)
    ):
        yield error(
            "labels-not-exclusive",
            f"targets of {output.description} have none or several classes at once, and {term.name} wants exactly one.",
            "Use keras.losses.BinaryCrossentropy(from_logits=True), where classes are independent.",
        )


def _check_foreground(
    output: Output, terms: list[LossTerm], facts: list[TargetFacts], dataset: DatasetFacts
) -> Iterator[Finding]:
    """Check that enough images have foreground, and that the loss learns from the others."""
    ignored = {term.ignore_class for term in terms}
    images = [[(values or frozenset()) - ignored for values in each.values] for each in facts]
    shown = [[any(value > 0 for value in values) for values in batch] for batch in images]
    flat, total = [values for batch in images for values in batch], sum(map(len, images))
    with_foreground = sum(map(sum, shown))
    if total and not any(flat):
        yield error(
            "all-ignored",
            f"every pixel of all {total} masks is ignored: there is nothing to learn from.",
            "Check `ignore_class`, and what the masks were filled with.",
        )
        return
    if total and all(values and 0 not in values for values in flat):
        yield warning(
            "no-background",
            f"no pixel of {total} masks is background (id 0).",
            "Check that masks are not inverted, and that id 0 is the background and not the first class.",
        )
    if not with_foreground and (dataset.is_complete or total >= _MIN_IMAGES):
        make = error if dataset.is_complete else warning
        yield make(
            "no-foreground",
            f"none of {total} images has foreground{' - that is all of them' if dataset.is_complete else ''}.",
            "Check the mask values and the pairing of images and masks; draw more foreground "
            '(sampler="under" in kerazoo.data.pipeline), or look at more batches.',
        )
    elif total >= _MIN_IMAGES and total - with_foreground >= _MOSTLY_EMPTY * total and not dataset.is_oversampled:
        yield warning(
            "mostly-empty",
            f"{total - with_foreground} of {total} images are empty: most steps teach to predict nothing.",
            'Balance them: sampler="under" or balanced_batches=True in kerazoo.data.pipeline.',
        )
    yield from _check_loss_on_empty(output, terms, shown)
    if dataset.is_complete and with_foreground:
        number = max(number_of_ids(output, term) for term in terms)
        unseen = sorted(set(range(1, number)) - set().union(*flat))
        if unseen:
            yield note(
                "classes-unseen",
                f"no image has the class {', '.join(map(str, unseen[:8]))}.",
                "Check `num_classes` and the mapping of mask values, or split again, stratified.",
            )


def _check_loss_on_empty(output: Output, terms: list[LossTerm], shown: list[list[bool]]) -> Iterator[Finding]:
    empty, total = sum(not each for batch in shown for each in batch), sum(map(len, shown))
    if not empty or any(_learns_from_empty(term, output.channels or 1) for term in terms):
        return
    idle = sum(not any(batch) for batch in shown)
    yield warning(
        "empty-images-unseen",
        f"{empty} of {total} images are empty, and of them {' + '.join(term.name for term in terms)} learns nothing: "
        "it is the same whatever is predicted there"
        + (f", and {idle} of {len(shown)} batches give no gradient at all." if idle else "."),
        "Add a loss that sees every image, kerazoo.losses.CrossEntropy() + 0.1 * …, or take empty='penalize'.",
    )


def _learns_from_empty(term: LossTerm, channels: int) -> bool:
    """Whether undecided logits of an empty image cost more than nearly right ones."""
    if not term.from_kerazoo:
        return True
    weights = np.ones((1, 4, 4), np.float32) if term.needs_weight else None
    empty, undecided = np.zeros((1, 4, 4), np.int32), np.zeros((1, 4, 4, channels), np.float32)
    right = undecided + np.where(np.arange(channels) > 0, -4, 0 if channels > 1 else -4).astype(np.float32)
    try:
        values = [term.loss(empty, logits, sample_weight=weights) for logits in (undecided, right)]
    except ValueError:  # such as class weights of another number of classes: the check of the loss says so
        return True
    costs = [float(np.asarray(ops.convert_to_numpy(value)).sum()) for value in values]
    return costs[0] > costs[1] + _TOLERANCE
