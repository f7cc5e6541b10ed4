"""Invented X-ray-like images with soft lesions, in which the share of empty images is a parameter.

A background of smooth anatomy, ribs and noise carries lesions (the foreground) and things that look like lesions and
are none: dark spots, hard beads and thin tubes, in empty images as often as in others.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from PIL import Image

from kerazoo.arguments import check_whole
from kerazoo.data.reader import Facts, Reader
from kerazoo.data.source import Source

SHAPES = ("nodule", "streak", "ring", "cluster", "stripes")
"""What the foreground classes look like, from id 1 on."""

_LESIONS, _BACKGROUND = 1, 2  # streams of random numbers, so that labels need no image


def synthetic(
    n: int,
    *,
    empty_fraction: float = 0.7,
    seed: int = 0,
    image_size: tuple[int, int] = (128, 128),
    num_classes: int = 1,
    channels: int = 1,
    contrast: tuple[float, float] = (0.12, 0.4),
    radius: tuple[float, float] = (0.04, 0.16),
) -> Source:
    """`n` invented images, of which exactly `round(n * empty_fraction)` are empty.

    Sample i depends on the arguments alone, not on what was read before. Labels are known without drawing an image.

    Args:
        n: Number of images.
        empty_fraction: Share of images without foreground, 0 to 1.
        seed: Another seed gives other images.
        image_size: (height, width) in pixels, each at least 16.
        num_classes: 1: every lesion is a nodule, id 1. K ≥ 2: ids 1 to K - 1 have the shapes of `SHAPES` in turn; at
            most one more than there are shapes.
        channels: 1, or 3 for a slightly tinted image.
        contrast: Least and greatest brightness of a lesion above its surroundings, as share of the range.
        radius: Least and greatest radius of a lesion, as share of the shorter side; never below 2 pixels.

    Returns: The source; images are uint8.

    Raises:
        ValueError: an argument is outside what is said above.
    """
    check_whole("synthetic", "n", n)
    if not 0 <= empty_fraction <= 1:
        raise ValueError(f"`empty_fraction` must be between 0 and 1, received empty_fraction={empty_fraction}.")
    if min(image_size) < 16:
        raise ValueError(f"`image_size` must be at least 16x16, received image_size={image_size}.")
    if not 1 <= num_classes <= len(SHAPES) + 1:
        raise ValueError(
            f"`num_classes` must be 1, or with the background 2 to {len(SHAPES) + 1} (the shapes {SHAPES}), received "
            f"num_classes={num_classes}."
        )
    if channels not in (1, 3):
        raise ValueError(f"`channels` must be 1 or 3, received channels={channels}.")
    for name, (low, high) in (("contrast", contrast), ("radius", radius)):
        if not 0 < low <= high <= 0.5:
            raise ValueError(
                f"`{name}` must be (low, high) with 0 < low <= high <= 0.5, received {name}={(low, high)}."
            )
    return Source(
        Synthetic(
            ids=tuple(f"synthetic-{index:06d}" for index in range(n)),
            empty_fraction=empty_fraction,
            seed=seed,
            image_size=(int(image_size[0]), int(image_size[1])),
            num_classes=num_classes,
            channels=channels,
            contrast=contrast,
            radius=radius,
        )
    )


class Lesion(NamedTuple):
    """Where and how a lesion is drawn: lengths in pixels, the angle in radians, contrast as share of the range."""

    label: int
    y: float
    x: float
    radius: float
    aspect: float
    angle: float
    contrast: float
    phase: float


@dataclass(frozen=True, kw_only=True)
class Synthetic(Reader):
    """Draws each image when it is asked for; `synthetic` documents the fields."""

    ids: tuple[str, ...]
    empty_fraction: float
    seed: int
    image_size: tuple[int, int]
    num_classes: int
    channels: int
    contrast: tuple[float, float]
    radius: tuple[float, float]

    @property
    def class_names(self) -> tuple[str, ...]:
        """The shapes."""
        return ("nodule",) if self.num_classes == 1 else ("background", *SHAPES[: self.num_classes - 1])

    @cached_property
    def empty(self) -> np.ndarray:
        """`(n,)` bool: which images are empty."""
        flags = np.arange(len(self.ids)) < round(len(self.ids) * self.empty_fraction)
        return np.random.default_rng([self.seed, 0]).permutation(flags)

    @cached_property
    def facts(self) -> Facts:
        """Labels from the plans of the lesions; nothing is drawn."""
        shown = np.zeros((len(self.ids), max(self.num_classes, 2)), bool)
        for index in np.flatnonzero(~self.empty).tolist():
            shown[index, [lesion.label for lesion in self.lesions(index)]] = True
        shown[:, 0] = self.empty
        shape = (*self.image_size, self.channels)
        return Facts(shown[:, 1:] if self.num_classes == 1 else shown, np.tile(shape, (len(self.ids), 1)))

    def fingerprint(self, index: int) -> str:
        """The arguments of `synthetic`, which decide everything."""
        return (
            f"{self.seed} {len(self.ids)} {self.empty_fraction} {self.image_size} {self.num_classes} {self.channels} "
            f"{self.contrast} {self.radius}"
        )

    def lesions(self, index: int) -> list[Lesion]:
        """One to three lesions that do not overlap, or none in an empty image."""
        if self.empty[index]:
            return []
        rng = np.random.default_rng([self.seed, _LESIONS, index])
        height, width = self.image_size
        placed: list[Lesion] = []
        for _ in range(int(rng.integers(1, 4))):
            label = int(rng.integers(1, max(self.num_classes, 2)))
            low, high = (max(2.0, share * min(height, width)) for share in self.radius)
            size = low * (high / low) ** rng.random()  # small lesions are as frequent as large ones, octave by octave
            y, x = rng.uniform(0.12, 0.88) * height, rng.uniform(0.12, 0.88) * width
            lesion = Lesion(
                label, y, x, size, rng.uniform(1, 1.5), rng.uniform(0, np.pi), rng.uniform(*self.contrast), rng.random()
            )
            if all(np.hypot(y - other.y, x - other.x) > 2.2 * (size + other.radius) for other in placed):
                placed.append(lesion)
        return placed

    def mask(self, index: int) -> np.ndarray:
        """Draw the lesions alone, with their class ids."""
        mask = np.zeros(self.image_size, np.uint8)
        for lesion in self.lesions(index):
            window, profile = _profile(lesion, self.image_size)
            mask[window][profile > 0] = lesion.label
        return mask

    def image(self, index: int) -> np.ndarray:
        """Draw anatomy, things that look like lesions, and the lesions."""
        rng = np.random.default_rng([self.seed, _BACKGROUND, index])
        canvas = _anatomy(rng, self.image_size)
        _distract(rng, canvas, self.radius, self.contrast)
        for lesion in self.lesions(index):
            window, profile = _profile(lesion, self.image_size)
            canvas[window] += lesion.contrast * profile**0.7
        canvas += 0.02 * rng.standard_normal(self.image_size, np.float32)
        if self.channels == 1:
            return (np.clip(canvas, 0, 1) * 255 + 0.5).astype(np.uint8)[..., np.newaxis]
        tint = rng.uniform(0.88, 1, 3).astype(np.float32)
        return (np.clip(canvas[..., np.newaxis] * tint, 0, 1) * 255 + 0.5).astype(np.uint8)


def _profile(lesion: Lesion, size: tuple[int, int]) -> tuple[tuple[slice, slice], np.ndarray]:
    """Window of a lesion and its brightness there: 1 in the middle, falling to 0 at its edge, which is the mask's."""
    reach = int(np.ceil(1.9 * lesion.radius)) + 1
    top, left = int(lesion.y), int(lesion.x)
    window = (
        slice(max(0, top - reach), min(size[0], top + reach + 1)),
        slice(max(0, left - reach), min(size[1], left + reach + 1)),
    )
    dy = np.arange(window[0].start, window[0].stop, dtype=np.float32)[:, np.newaxis] - top
    dx = np.arange(window[1].start, window[1].stop, dtype=np.float32) - left
    cos, sin = np.float32(np.cos(lesion.angle)), np.float32(np.sin(lesion.angle))
    along, across = (cos * dx + sin * dy) / lesion.radius, (cos * dy - sin * dx) / lesion.radius
    shape = SHAPES[lesion.label - 1]
    if shape == "streak":
        distance = np.hypot(along / 1.7, across / 0.4)
    elif shape == "ring":
        distance = np.abs(np.hypot(along, across) - 0.75) / 0.3
    elif shape == "cluster":
        turns = 2 * np.pi * (lesion.phase + np.arange(5) / 5)
        spots = [np.hypot(along - 0.8 * np.cos(turn), across - 0.8 * np.sin(turn)) / 0.32 for turn in turns]
        distance = np.minimum.reduce([*spots, np.hypot(along, across) / 0.32])
    else:
        distance = np.hypot(along / np.sqrt(lesion.aspect), across * np.sqrt(lesion.aspect))
        if shape == "nodule":  # a wavy outline
            turn = np.arctan2(across, along)
            for waves, height in ((2, 0.1), (3, 0.08), (5, 0.05)):
                distance = distance * (1 + height * np.sin(waves * (turn + 2 * np.pi * lesion.phase)))
    brightness = np.clip(1 - distance**2, 0, 1)
    if shape == "stripes":
        brightness *= 0.55 + 0.45 * np.sin(2 * np.pi * (2.5 * along + lesion.phase))
    if not brightness.any():  # thinner than a pixel
        brightness[top - window[0].start, left - window[1].start] = 1
    return window, brightness.astype(np.float32)


def _noise(rng: np.random.Generator, size: tuple[int, int], cells: int) -> np.ndarray:
    """Smooth noise of about unit variance with `cells` bumps along the shorter side."""
    height, width = size
    scale = cells / min(height, width)
    grid = rng.standard_normal((max(2, round(height * scale)) + 1, max(2, round(width * scale)) + 1), np.float32)
    return np.asarray(Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC))


def _anatomy(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """`(H, W)` float32 around 0 to 1: two dark lungs, a bright spine, ribs, and texture of several octaves."""
    y = np.linspace(-1, 1, size[0], dtype=np.float32)[:, np.newaxis]
    x = np.linspace(-1, 1, size[1], dtype=np.float32) + np.float32(rng.uniform(-0.12, 0.12))
    canvas = np.full(size, rng.uniform(0.4, 0.52), np.float32) + np.float32(rng.uniform(-0.08, 0.08)) * y
    for side in (-1, 1):
        lung = ((x - side * rng.uniform(0.46, 0.54)) / rng.uniform(0.36, 0.46)) ** 2 + (y / rng.uniform(0.8, 0.95)) ** 2
        canvas -= np.float32(rng.uniform(0.16, 0.24)) / (1 + np.exp(np.minimum(7 * (lung - 1), 50)))
    canvas += np.float32(rng.uniform(0.08, 0.16)) * np.exp(-((x / 0.11) ** 2))
    bend, pitch, phase = rng.uniform(0.25, 0.5), rng.uniform(3.2, 4.4), rng.uniform(0, 2 * np.pi)
    ribs = np.sin(2 * np.pi * pitch * (y + bend * np.abs(x) ** 1.5) / 2 + phase)
    canvas += np.float32(rng.uniform(0.03, 0.07)) * np.maximum(ribs, 0) ** 2 * np.minimum(4 * np.abs(x), 1)
    for cells, amplitude in ((3, 0.05), (7, 0.03), (16, 0.02), (38, 0.014)):
        canvas += np.float32(amplitude) * _noise(rng, size, min(cells, min(size) // 2))
    return canvas


def _distract(
    rng: np.random.Generator, canvas: np.ndarray, radius: tuple[float, float], contrast: tuple[float, float]
) -> None:
    """Draw, in place, what looks like a lesion and is none: dark spots, hard beads, and a thin tube."""
    height, width = canvas.shape
    short = min(height, width)
    for _ in range(int(rng.integers(0, 3))):
        spot = Lesion(
            1, rng.random() * height, rng.random() * width, max(2.0, short * rng.uniform(*radius)),
            rng.uniform(1, 1.5), rng.uniform(0, np.pi), rng.uniform(*contrast), rng.random(),
        )  # fmt: skip
        window, profile = _profile(spot, (height, width))
        canvas[window] -= 0.7 * spot.contrast * profile**0.7
    for _ in range(int(rng.integers(0, 3))):
        y, x, size = rng.random() * height, rng.random() * width, max(1.5, short * rng.uniform(0.01, 0.022))
        window, profile = _profile(Lesion(1, y, x, size, 1, 0, 0, 0), (height, width))
        canvas[window] += 0.45 * (profile > 0)
    if rng.random() < 0.4:
        t = np.linspace(0, 1, 2 * max(height, width))
        start, end, sag = rng.random(2), rng.random(2), rng.uniform(-0.3, 0.3)
        rows = (start[0] + (end[0] - start[0]) * t + sag * np.sin(np.pi * t)) * (height - 1)
        columns = (start[1] + (end[1] - start[1]) * t) * (width - 1)
        inside = (rows >= 0) & (rows < height - 1)
        rows, columns = rows[inside].astype(int), columns[inside].astype(int)
        bright = np.float32(rng.uniform(0.15, 0.3))
        tube = np.zeros_like(canvas)
        for shift in range(max(1, round(short / 128))):
            tube[np.minimum(rows + shift, height - 1), columns] = bright
        canvas += tube
