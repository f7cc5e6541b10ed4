"""How the values in a mask file become class ids."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kerazoo.data.faults import DataError

_LOSSY = 8  # more unknown values than this, and the mask was anti-aliased or compressed


@dataclass(frozen=True, kw_only=True)
class MaskRule:
    """Turns mask values into uint8 class ids, or says which values are no classes.

    Args:
        num_ids: Ids 0 to `num_ids` - 1 are allowed.
        values: `(value, id)` pairs, a value being an int or an RGB triple; None means that values are ids. Where both
            kinds are given, files in color go by the triples and the others by the ints.
        threshold: Id 1 is where the value is greater; None means no threshold.
        ignore_class: One more id that is allowed, or None.

    Raises:
        ValueError: the arguments contradict each other.
    """

    num_ids: int
    values: tuple[tuple[int | tuple[int, ...], int], ...] | None = None
    threshold: float | None = None
    ignore_class: int | None = None

    def __post_init__(self):
        if not 2 <= self.num_ids <= 256:
            raise ValueError(f"There must be 2 to 256 class ids with the background, received {self.num_ids}.")
        if self.ignore_class is not None and not self.num_ids <= self.ignore_class <= 255:
            raise ValueError(
                f"`ignore_class` must lie beside the class ids 0..{self.num_ids - 1} and be at most 255, received "
                f"ignore_class={self.ignore_class}."
            )
        if self.threshold is not None and (self.values is not None or self.ignore_class is not None):
            raise ValueError("`mask_threshold` gives foreground or not; leave out `mask_values` and `ignore_class`.")
        if self.threshold is not None and self.num_ids != 2:
            raise ValueError(
                f"`mask_threshold` tells two classes apart, and there are {self.num_ids}. Take `mask_values`, or "
                'class_from="directory".'
            )
        wrong = sorted({id for _, id in self.values or () if not (0 <= id < self.num_ids or id == self.ignore_class)})
        if wrong:
            raise ValueError(
                f"`mask_values` leads to the ids {wrong}, outside the classes 0..{self.num_ids - 1}. Correct it, or "
                "pass `num_classes`" + (" or `ignore_class`." if self.ignore_class is None else ".")
            )

    def apply(self, values: np.ndarray, path: str | Path) -> np.ndarray:
        """Class ids of the values in the mask file `path`.

        Args:
            values: `(H, W)` of bool or integers, or `(H, W, 3)` uint8, as `read_mask` gives them.
            path: Named in errors.

        Returns: `(H, W)` uint8.

        Raises:
            ValueError: a value is no class, or the mask is in color and `values` has no colors.
        """
        numbers = {value: id for value, id in self.values or () if not isinstance(value, tuple)}
        triples = {_key(*value): id for value, id in self.values or () if isinstance(value, tuple)}
        if values.ndim == 3 and not (triples and values.shape[2] == 3):
            raise DataError(
                f"Mask {path} is in color. Pass the class of each color, as "
                "mask_values={(0, 0, 0): 0, (255, 0, 0): 1}, or save it as gray.",
                "values",
            )
        if values.dtype == bool:  # 1-bit file: Pillow shows 0 and 255 where a program wrote 0 and 1
            scaled = self.threshold is not None or any(value == 255 for value, _ in self.values or ())
            values = values.astype(np.uint8) * (255 if scaled else 1)
        if self.threshold is not None:
            return (values > self.threshold).astype(np.uint8)
        if self.values is None:
            strange = (values < 0) | (values >= self.num_ids)
            if self.ignore_class is not None:
                strange &= values != self.ignore_class
            return self._checked(values, strange, values, path)
        if values.ndim == 2 and numbers:
            ids, strange = _looked_up(values, numbers)
            if not (triples and strange.any()):
                return self._checked(ids, strange, values, path)
        if values.ndim == 2:  # colors that are all gray
            values = np.repeat(values[..., np.newaxis], 3, axis=2)
        values = values.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
        return self._checked(*_looked_up(values, triples), values, path, colors=True)

    def _checked(
        self, ids: np.ndarray, strange: np.ndarray, values: np.ndarray, path: str | Path, colors: bool = False
    ) -> np.ndarray:
        """`ids` as uint8, unless a pixel is `strange`."""
        if strange.any():
            unknown = np.unique(values[strange])
            raise DataError(self._no_class(unknown, path, colors), "lossy" if len(unknown) > _LOSSY else "values")
        return ids.astype(np.uint8)

    def _no_class(self, strange: np.ndarray, path: str | Path, colors: bool) -> str:
        shown = [(int(v) >> 16, int(v) >> 8 & 255, int(v) & 255) if colors else int(v) for v in strange[:6]]
        listed = f"{', '.join(map(str, shown))}{', …' if len(strange) > 6 else ''}"
        rule = (
            f"outside the classes 0..{self.num_ids - 1}" if self.values is None else "that `mask_values` does not name"
        )
        if len(strange) > _LOSSY:
            advice = "It was anti-aliased or compressed with loss: pass mask_threshold=127 if greater means foreground."
        elif self.values is None and self.num_ids == 2 and strange.tolist() == [255]:
            advice = "If 255 is foreground, pass mask_values={0: 0, 255: 1}."
        elif not self.values:
            advice = (
                "Pass `num_classes`, `mask_values` or `ignore_class`; or mask_threshold=127 if edges are anti-aliased."
            )
        else:
            advice = "Add them; if edges are anti-aliased, pass mask_threshold=127 instead."
        return f"Mask {path} has {len(strange)} values {rule}: {listed}. {advice}"


def count_classes(
    num_classes: int | None,
    classes: Sequence[str] | None,
    mask_values: Mapping[int | tuple[int, int, int], int] | None,
    ignore_class: int | None,
) -> int:
    """Number of classes, as a model counts them, from what is given.

    Raises:
        ValueError: `num_classes` is below 1, or `classes` does not name `num_classes`.
    """
    if classes is not None:
        if not classes or len(set(classes)) != len(classes):
            raise ValueError(f"`classes` must name each foreground class once, received {list(classes)}.")
        default = 1 if len(classes) == 1 else 1 + len(classes)
    else:
        highest = max((id for id in (mask_values or {}).values() if id != ignore_class), default=1)
        default = 1 if highest <= 1 else 1 + highest
    if num_classes is None:
        return default
    if num_classes < 1:
        raise ValueError(f"`num_classes` must be 1, or 2 or more with the background, received {num_classes}.")
    if classes is not None and len(classes) != max(num_classes, 2) - 1:
        raise ValueError(
            f"num_classes={num_classes} has {max(num_classes, 2) - 1} foreground classes, and `classes` names "
            f"{len(classes)}: {list(classes)}."
        )
    return num_classes


def _looked_up(values: np.ndarray, table: Mapping[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The id of each value, and where a value is not in the table."""
    if values.dtype == np.uint8:  # as bytes: ten times as fast
        pixels, known = values.tobytes(), bytes(key for key in table if 0 <= key < 256)
        ids = pixels.translate(bytes(table.get(value, 0) for value in range(256)))
        strange = ~np.isin(values, list(table)) if pixels.translate(None, known) else np.zeros(values.shape, bool)
        return np.frombuffer(bytearray(ids), np.uint8).reshape(values.shape), strange
    keys = np.array(sorted(table))
    place = np.clip(np.searchsorted(keys, values), 0, len(keys) - 1)
    return np.array([table[key] for key in keys.tolist()], np.uint8)[place], keys[place] != values


def _key(red: int, green: int, blue: int) -> int:
    return red << 16 | green << 8 | blue
