"""Masks for images of any size: batched, tiled, flipped, and given back at the size of each image."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import keras
import numpy as np
from keras import ops

from kerazoo.compose import without_aux
from kerazoo.data.formats.images import resize_image, to_byte_range, to_channels
from kerazoo.inference.decision import DecisionRule, label_probabilities, mask_logits, probabilities
from kerazoo.inference.tiling import Tiling
from kerazoo.layers import Resize
from kerazoo.types import Tensor

if TYPE_CHECKING:
    from kerazoo.data.source import Source

_WINDOW = 4  # batches of images that are held to find images of equal size


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """What a model says of one image.

    Attributes:
        id: Name of the image in its source, or its position.
        mask: `(H, W)` uint8 class ids, at the size of the image.
        probability: `(H, W, num_classes)` float32 in [0, 1]; with one class that of the foreground.
        score: What the rule compares with its image threshold: by default the largest foreground probability of all
            pixels, at the resolution of the model.
        label: `(num_classes,)` float32 in [0, 1], what the label head says of the whole image; None without that head.
            With tiles, a class is as likely as in the tile where it is likeliest, and index 0 of several classes (an
            empty image) as in the tile where it is least.
    """

    id: str
    mask: np.ndarray
    probability: np.ndarray = field(repr=False)
    score: float
    label: np.ndarray | None = None


def predict(
    model: keras.Model,
    images: "np.ndarray | Sequence[np.ndarray] | Source",
    *,
    batch_size: int = 8,
    threshold: float | None = None,
    rule: DecisionRule | None = None,
    image_size: tuple[int, int] | None = None,
    tile: int | tuple[int, int] | None = None,
    overlap: int | None = None,
    tta: Literal["flip"] | None = None,
) -> list[Prediction]:
    """Predict the masks of images, which may differ in size and in type.

    Args:
        model: Segmenter that returns logits `(B, H, W, num_classes)`, or a mapping whose `"mask"` they are.
        images: `(N, H, W, C)` array, a sequence of `(H, W)` or `(H, W, C)` arrays, or a `Source`, whose masks are not
            opened. Values as in training: uint8 in 0-255, uint16 in 0-65535 (which become 0-255, as in the pipeline),
            or floats. Gray images become RGB, and RGB ones gray, if the model wants that.
        batch_size: Images (or tiles) in a batch; images of the same size share one.
        threshold: Shorthand for `rule=DecisionRule(pixel_threshold=threshold)`; None is 0.5.
        rule: What counts as foreground.
        image_size: `(height, width)` the model was trained at: images are resized to it, antialiased as the pipeline
            does it, and probabilities are resized back before the threshold. None works at the size of the image.
        tile: Height and width of overlapping tiles for images that do not fit into memory, or None.
        overlap: Pixels that tiles share; None is a quarter of the tile.
        tta: "flip" averages the probabilities of the image and its left-right mirror image.

    Returns: one `Prediction` per image, in the order of `images`.

    Raises:
        ValueError: an argument or an image does not fit the model; the image is named.
        TypeError: `images` is none of the above.
    """
    predictions = stream(
        model,
        images,
        batch_size=batch_size,
        threshold=threshold,
        rule=rule,
        image_size=image_size,
        tile=tile,
        overlap=overlap,
        tta=tta,
    )
    return list(predictions)


def stream(
    model: keras.Model,
    images: "np.ndarray | Sequence[np.ndarray] | Source | Iterable[tuple[str, np.ndarray]]",
    *,
    batch_size: int = 8,
    threshold: float | None = None,
    rule: DecisionRule | None = None,
    image_size: tuple[int, int] | None = None,
    tile: int | tuple[int, int] | None = None,
    overlap: int | None = None,
    tta: Literal["flip"] | None = None,
) -> Iterator[Prediction]:
    """Predict image by image, for sets whose probabilities do not fit into memory.

    Args:
        model: As in `predict`.
        images: As in `predict`, or an iterator of pairs of a name and an image, read as they are needed.
        batch_size: As in `predict`.
        threshold: As in `predict`.
        rule: As in `predict`.
        image_size: As in `predict`.
        tile: As in `predict`.
        overlap: As in `predict`.
        tta: As in `predict`.

    Returns: an iterator of `Prediction`, in the order of `images`.

    Raises:
        ValueError: as `predict`; a faulty image raises when its turn comes.
        TypeError: as `predict`.
    """
    if rule is not None and threshold is not None:
        raise ValueError(f"Give `threshold` or `rule`, not both; received threshold={threshold} and {rule}.")
    if rule is None:
        rule = DecisionRule() if threshold is None else DecisionRule(pixel_threshold=threshold)
    outputs = undecided(
        model, images, batch_size=batch_size, image_size=image_size, tile=tile, overlap=overlap, tta=tta
    )
    return (_decide(output, rule) for output in outputs)


@dataclass(frozen=True, kw_only=True, eq=False)
class Output:
    """What a model gives for one image, before anything is decided.

    Attributes:
        id: As in `Prediction`.
        small: `(h, w, num_classes)` float32 probabilities at the resolution of the model.
        full: `(H, W, num_classes)`, the same at the size of the image; the same array where the sizes are equal.
        label: As in `Prediction`.
    """

    id: str
    small: np.ndarray
    full: np.ndarray
    label: np.ndarray | None


def undecided(
    model: keras.Model,
    images: Any,
    *,
    batch_size: int,
    image_size: tuple[int, int] | None,
    tile: int | tuple[int, int] | None,
    overlap: int | None,
    tta: Literal["flip"] | None,
    link: Callable[[Tensor], Tensor] = probabilities,
) -> Iterator[Output]:
    """As `stream`, but undecided; `link` makes of logits what is averaged and given."""
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be at least 1, received {batch_size}.")
    if tta not in (None, "flip"):
        raise ValueError(f"`tta` must be None or 'flip', received {tta!r}.")
    runner = _Runner(model, batch_size=batch_size, flip=tta == "flip", size=image_size, link=link)
    return _outputs(runner, runner.tiling(tile, overlap), _named(images))


def _outputs(runner: "_Runner", tiling: Tiling | None, images: Iterable[tuple[str, np.ndarray]]) -> Iterator[Output]:
    resize = Resize(dtype="float32")
    images = iter(images)
    while window := list(itertools.islice(images, 1 if tiling else _WINDOW * runner.batch_size)):
        inputs = [runner.prepare(name, image, tiling is not None) for name, image in window]
        if tiling is None:
            results = runner.run(inputs)
        else:
            size = inputs[0].shape[:2]
            parts = runner.run([inputs[0][span] for span in tiling.spans(size)])
            labels = [label for _, label in parts if label is not None]
            blended = tiling.blend(size, [part for part, _ in parts])
            results = [(blended, _over_tiles(labels) if labels else None)]
        for (name, image), (small, label) in zip(window, results, strict=True):
            full = small
            if small.shape[:2] != image.shape[:2]:
                like = np.broadcast_to(np.uint8(0), (1, *image.shape[:2], 1))
                full = _numpy(resize(small[None], like=like))[0]
            yield Output(id=name, small=small, full=full, label=label)


def _decide(output: Output, rule: DecisionRule) -> Prediction:
    small, full, label = (
        None if part is None else ops.convert_to_tensor(part[None])
        for part in (output.small, output.full, output.label)
    )
    mask, score = rule(small, full_size=None if output.full is output.small else full, label=label)
    return Prediction(
        id=output.id,
        mask=_numpy(mask)[0],
        probability=output.full,
        score=float(_numpy(score)[0]),
        label=output.label,
    )


def _over_tiles(labels: list[np.ndarray]) -> np.ndarray:
    """Label of an image from those of its tiles: it shows what any tile shows, and is empty if every tile is."""
    label = np.max(labels, axis=0)
    if len(label) > 1:
        label[0] = np.min(labels, axis=0)[0]
    return label


class _Runner:
    """A model with what is needed to give it images."""

    def __init__(
        self,
        model: keras.Model,
        *,
        batch_size: int,
        flip: bool,
        size: tuple[int, int] | None,
        link: Callable[[Tensor], Tensor],
    ):
        if not isinstance(model, keras.Model) or len(getattr(model, "inputs", None) or ()) != 1:
            raise ValueError(f"`model` must be a Keras model with one input, a batch of images; received {model!r}.")
        self.model, self.batch_size, self.flip, self.size = without_aux(model), batch_size, flip, size
        self.link = link
        _, *fixed, self.channels = model.inputs[0].shape
        self.fixed = None if None in fixed else tuple(fixed)
        if size is not None and (len(size) != 2 or min(size) < 1):
            raise ValueError(f"`image_size` must be (height, width) in pixels, received {size!r}.")
        if size is not None and self.fixed not in (None, tuple(size)):
            raise ValueError(f"`image_size` is {tuple(size)}, but the model takes images of {self.fixed} only.")
        self.dtype = model.inputs[0].dtype

    def tiling(self, tile: int | tuple[int, int] | None, overlap: int | None) -> Tiling | None:
        if tile is None:
            if overlap is not None:
                raise ValueError(f"`overlap` is for tiles; received overlap={overlap} without `tile`.")
            return None
        height, width = (tile, tile) if isinstance(tile, int) else tile
        if self.fixed not in (None, (height, width)):
            raise ValueError(f"`tile` is {(height, width)}, but the model takes images of {self.fixed} only.")
        overlap = min(height, width) // 4 if overlap is None else overlap
        return Tiling(tile=(height, width), overlap=overlap, full_tiles=self.fixed is not None)

    def prepare(self, name: str, image: np.ndarray, tiled: bool) -> np.ndarray:
        """`(h, w, channels)` as the model takes it, from `(H, W)` or `(H, W, C)`."""
        image = np.asarray(image)
        image = image[..., None] if image.ndim == 2 else image
        if image.ndim != 3 or image.size == 0 or image.dtype.kind not in "uifb":
            raise ValueError(
                f"Image {name!r} must have shape (H, W) or (H, W, C) and numbers; received {image.dtype} of shape "
                f"{image.shape}."
            )
        if image.dtype.kind == "f" and not np.isfinite(image).all():
            raise ValueError(f"Image {name!r} holds NaN or infinity. Repair it or leave it out.")
        try:
            image = to_channels(image, self.channels)
        except ValueError as error:
            raise ValueError(f"Image {name!r}: {error}") from error
        if self.dtype.startswith(("float", "bfloat")):
            image = to_byte_range(image)
        elif image.dtype != self.dtype:
            raise ValueError(f"Image {name!r} is {image.dtype}, but the model takes {self.dtype} only.")
        if self.size is not None:
            image = resize_image(image, self.size)
        elif self.fixed not in (None, image.shape[:2]) and not tiled:
            raise ValueError(
                f"Image {name!r} is {image.shape[:2]}, but the model takes images of {self.fixed} only. Pass "
                f"image_size={self.fixed}."
            )
        return image.astype(self.dtype)

    def run(self, inputs: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray | None]]:
        """Probabilities `(h, w, num_classes)` and label probabilities or None, for images that may differ in size."""
        by_size: dict[tuple[int, ...], list[int]] = {}
        for position, image in enumerate(inputs):
            by_size.setdefault(image.shape, []).append(position)
        results: dict[int, tuple[np.ndarray, np.ndarray | None]] = {}
        for positions in by_size.values():
            for start in range(0, len(positions), self.batch_size):
                batch = positions[start : start + self.batch_size]
                results.update(zip(batch, self._batch(np.stack([inputs[i] for i in batch])), strict=True))
        return [results[position] for position in range(len(inputs))]

    def _batch(self, images: np.ndarray) -> list[tuple[np.ndarray, np.ndarray | None]]:
        mask, label = self._probabilities(images)
        if self.flip:
            mirrored, mirrored_label = self._probabilities(images[:, :, ::-1])
            mask = (mask + mirrored[:, :, ::-1]) / 2
            label = None if label is None else (label + mirrored_label) / 2
        return list(zip(mask, [None] * len(mask) if label is None else label, strict=True))

    def _probabilities(self, images: np.ndarray) -> tuple[np.ndarray, Any]:
        outputs = keras.tree.map_structure(  # in NumPy: ops.cast on torch leaves its bfloat16
            lambda output: _numpy(output).astype("float32"), self.model.predict_on_batch(np.ascontiguousarray(images))
        )
        logits = mask_logits(outputs)
        if logits.ndim != 4 or logits.shape[:3] != images.shape[:3]:
            raise ValueError(
                f"`model` must return logits of the size of the image, (B, H, W, num_classes); for images "
                f"{images.shape} it returned {logits.shape}."
            )
        label = label_probabilities(outputs)
        return _numpy(self.link(ops.convert_to_tensor(logits))), None if label is None else _numpy(label)


def _numpy(tensor: Any) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(tensor))


def _named(images: Any) -> Iterable[tuple[str, np.ndarray]]:
    """Pairs of a name and an image from all that `stream` takes."""
    if isinstance(images, np.ndarray):
        if images.ndim != 4:
            raise ValueError(
                f"`images` as one array must have shape (N, H, W, C); received {images.shape}. For one image pass "
                f"[image]."
            )
        return ((str(i), image) for i, image in enumerate(images))
    if hasattr(images, "ids") and callable(getattr(images, "image", None)):
        return ((name, images.image(i)) for i, name in enumerate(images.ids))
    if isinstance(images, Sequence) and not isinstance(images, str | bytes):
        return ((str(i), np.asarray(image)) for i, image in enumerate(images))
    if isinstance(images, Iterator):
        return images
    raise TypeError(
        f"`images` must be an array (N, H, W, C), a list of images or a Source; received {type(images).__name__}."
    )
