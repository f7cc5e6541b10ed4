"""The catalog of pretrained weights: one record per file, found by encoder and name."""

import fnmatch

from kerazoo.arguments import did_you_mean
from kerazoo.checkpoints.origins import keras, pip, smp, timm, torchvision
from kerazoo.checkpoints.record import Record

IMAGENET = "imagenet"
"""Name under which every encoder's default weights are asked for."""

ORIGINS = (pip, smp, timm, torchvision, keras)
RECORDS = {record.name: record for origin in ORIGINS for record in origin.RECORDS}

DEFAULTS = {
    **{record.arch: record.tag for record in smp.RECORDS if record.tag == "smp_imagenet"},
    **{record.arch: record.tag for record in pip.RECORDS},
    "seresnet50": "a1_in1k",
}
"""What "imagenet" means for encoders with several weights: smp's, which are torchvision's first set at a fixed commit,
so that a model starts where smp's does; those of a package, which need no network once it is installed; without them
timm's own default. An encoder with one set of weights has it."""

REFUSED = {
    "resnet34.ra4_e3600_r224_in1k": (
        "it was trained on images in [-1, 1], while preprocessing here belongs to the encoder and never depends on its "
        "weights. Scaling the first convolution would not make up for it: its zero padding would mean another color"
    ),
    "resnet50.bamboo": "timm names no licence for it",
}
"""Weights of timm that are left out, and why."""


def records(pattern: str = "*") -> list[Record]:
    """Records whose name `arch.tag` matches a shell-style pattern, such as "resnet50.*", sorted by name.

    Args:
        pattern: As in `fnmatch`.

    Returns: the records.
    """
    return [RECORDS[name] for name in sorted(fnmatch.filter(RECORDS, pattern))]


def tags(arch: str | None) -> list[str]:
    """Names of the weights of an encoder, `IMAGENET` first; empty where there are none."""
    own = [record.tag for record in records() if record.arch == arch]
    return [IMAGENET, *own] if own else []


def find(arch: str | None, name: str) -> Record:
    """The record that people mean by a name.

    Args:
        arch: Name of the encoder; None for one of one's own making, which takes weights by their full name alone.
        name: "imagenet" for the default, a tag such as "tv_in1k", or the full name "resnet50.tv_in1k".

    Returns: the record.

    Raises:
        ValueError: there are no such weights (near matches are named), or they are left out or another encoder's (why
            is said).
    """
    asked = name.lower()  # torchvision writes IMAGENET1K_V1
    full = asked if "." in asked else f"{arch}.{asked}"
    if full in REFUSED:
        raise ValueError(f"weights={name!r} is left out: {REFUSED[full]}. {_choices(arch)}")
    if asked == IMAGENET and arch is not None:
        names = [record.name for record in records(f"{arch}.*")]
        full = f"{arch}.{DEFAULTS[arch]}" if arch in DEFAULTS else names[0] if len(names) == 1 else full
    if full not in RECORDS:
        own = [*tags(arch), *(record.name for record in records(f"{arch}.*"))]
        meant = did_you_mean(asked, own if arch else RECORDS if "." in asked else ())
        raise ValueError(f"There are no weights {name!r}{f' for {arch}' if arch else ''}.{meant} {_choices(arch)}")
    record = RECORDS[full]
    if arch not in (None, record.arch):
        raise ValueError(f"weights={name!r} belong to the encoder {record.arch!r}, not to {arch!r}. {_choices(arch)}")
    return record


def _choices(arch: str | None) -> str:
    if arch is None:
        return (
            "This encoder does not say which one of kerazoo.encoders.list() it is: pass `arch='resnet18'` if that, or "
            "the full name of weights whose tensors fit it, 'resnet18.tv_in1k', or the path of a file."
        )
    own = tags(arch)
    if own:
        return f"`weights` is None, one of {', '.join(map(repr, own))}, or the path of a file."
    return (
        'It takes None or the path of a file; kerazoo.encoders.list("*", weights="imagenet") names those with weights.'
    )
