"""Weights that PyTorch wrote: read the tensors of a file, and give them to a Keras model, strictly.

Nothing here runs code from a file, or needs PyTorch. `.safetensors` holds tensors only; `.pth` is a pickle, of which
`pickles` reads what tensors are made of.
"""

import fnmatch
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import ml_dtypes  # noqa: F401 (makes NumPy know bfloat16)
import numpy as np

from kerazoo.arguments import near_matches
from kerazoo.checkpoints import pickles
from kerazoo.layers.leaves import leaf_layers

PICKLED = (".pth", ".pt", ".bin")
SUFFIXES = (".safetensors", *PICKLED)
"""Endings of the files that `read` reads."""

WRAPPERS = ("state_dict", "model", "model_state_dict", "state_dict_ema", "model_ema")
"""Keys under which training scripts put the tensors of a checkpoint."""

PREFIXES = ("module.", "_orig_mod.", "model.")
"""What DataParallel, torch.compile and training modules put before every name."""

BOOKKEEPING = ("num_batches_tracked", "*.num_batches_tracked")
"""Tensors of PyTorch that no layer computes with."""

SHOWN = 10
"""Tensors of one kind that an error names before it counts the rest."""

NORMALIZATION = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}

Shape = tuple[int, ...]


def read(path: str | Path) -> "Tensors":
    """Open the tensors of a PyTorch checkpoint.

    Args:
        path: A `.safetensors`, `.pth`, `.pt` or `.bin` file. The state dict may lie under one of the keys `WRAPPERS`,
            and a prefix of `PREFIXES` that all names share is left out.

    Returns: name to tensor, in PyTorch's layout; floating-point tensors of every precision become float32. Each tensor
        is read when it is asked for, and not kept.

    Raises:
        FileNotFoundError: there is no file at `path`.
        ValueError: the file is of another kind, is damaged, or holds something else than tensors.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path.name}: tensors are read from files that end in {', '.join(SUFFIXES)}.")
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {str(path)!r}.")
    if path.suffix == ".safetensors":
        return _without_prefixes(_SafetensorsFile(path))
    return from_state(pickles.load(path), source=path.name)


def from_state(state: Mapping[str, Any], *, source: str = "the state dict") -> "Tensors":
    """Take the tensors of a state dict, or of a checkpoint that holds one, as `read` does.

    Args:
        state: Names to NumPy arrays or PyTorch tensors, or a mapping with one such mapping under a key of `WRAPPERS`.
        source: What to call it in errors.

    Raises:
        ValueError: there is no state dict, or several.
    """
    return _without_prefixes(Tensors(_unwrapped(state, source)))


def _without_prefixes(tensors: "Tensors") -> "Tensors":
    for prefix in PREFIXES:
        if tensors and all(name.startswith(prefix) for name in tensors):
            tensors = tensors.renamed(lambda name, prefix=prefix: name.removeprefix(prefix))
    return tensors


class Tensors(Mapping[str, np.ndarray]):
    """Tensors by name, whatever library made them, as NumPy arrays.

    Args:
        state: NumPy arrays, PyTorch tensors on any device, or anything else that NumPy takes.
    """

    def __init__(self, state: Mapping[str, Any]):
        self._state = state

    def __getitem__(self, name: str) -> np.ndarray:
        tensor = self._state[name]
        if hasattr(tensor, "detach"):  # PyTorch's, without importing it
            tensor = tensor.detach().cpu()
            tensor = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
        return _as_float32(np.asarray(tensor))

    def __iter__(self) -> Iterator[str]:
        return iter(self._state)

    def __len__(self) -> int:
        return len(self._state)

    def shape(self, name: str) -> Shape:
        """Shape of a tensor, without reading it."""
        return tuple(int(n) for n in self._state[name].shape)

    def renamed(self, new_name: Callable[[str], str]) -> "Tensors":
        """The same tensors under the names that a function makes of theirs."""
        return _Renamed(self, {new_name(name): name for name in self})


class _SafetensorsFile(Tensors):
    """A file that is open only while a tensor is read, so that a mapping can be kept or dropped at will."""

    def __init__(self, path: Path):
        self._path = path
        with self._open() as file:
            super().__init__({name: tuple(file.get_slice(name).get_shape()) for name in file.keys()})  # noqa: SIM118

    def _open(self):
        import safetensors  # here, because model code that loads no file should load nothing but Keras

        try:
            return safetensors.safe_open(self._path, framework="numpy")
        except safetensors.SafetensorError as error:
            raise ValueError(f"{self._path.name} is no complete .safetensors file: {error}") from error

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._state:
            raise KeyError(name)
        with self._open() as file:
            return _as_float32(file.get_tensor(name))

    def shape(self, name: str) -> Shape:
        return self._state[name]


class _Renamed(Tensors):
    """The tensors of another mapping under other names."""

    def __init__(self, tensors: Tensors, names: Mapping[str, str]):
        super().__init__(names)
        self._tensors = tensors

    def __getitem__(self, name: str) -> np.ndarray:
        return self._tensors[self._state[name]]

    def shape(self, name: str) -> Shape:
        return self._tensors.shape(self._state[name])


def _as_float32(array: np.ndarray) -> np.ndarray:
    floating = array.dtype.kind == "f" or array.dtype.name == "bfloat16"
    return array.astype(np.float32, copy=False) if floating else array


def _unwrapped(state: Any, source: str) -> Mapping[str, Any]:
    if isinstance(state, Mapping) and state and all(hasattr(value, "shape") for value in state.values()):
        return state
    keys = [str(key) for key in state] if isinstance(state, Mapping) else []
    inside = [key for key in keys if key in WRAPPERS and isinstance(state[key], Mapping)]
    if len(inside) == 1:
        return _unwrapped(state[inside[0]], f"{source}[{inside[0]!r}]")
    found = f"several, under {inside}" if inside else f"a {type(state).__name__} with the keys {keys[:SHOWN]}"
    raise ValueError(
        f"{source} should hold one state dict, from names to tensors, itself or under one of the keys {WRAPPERS}; "
        f"received {found}. Save the one you want as a file of its own, best as .safetensors."
    )


@dataclass(frozen=True)
class _Place:
    """A weight of the model, and the tensor that belongs there.

    Attributes:
        variable: The weight.
        shape: Shape of the tensor in PyTorch's layout.
        depthwise: Whether the weight is the kernel of a depthwise convolution.
    """

    variable: Any
    shape: Shape
    depthwise: bool

    def fits(self, shape: Shape) -> bool:
        """Whether a tensor of this shape fills the weight.

        1x1 convolutions and dense layers fill each other, and the dense layer after a flattened map fills the
        convolution that reads the whole map.
        """
        dense = self.shape if len(shape) > 2 else (self.shape[0], math.prod(self.shape[1:]))
        return _without_ones(shape) in (_without_ones(self.shape), dense)

    def value(self, tensor: np.ndarray) -> np.ndarray:
        """The tensor in Keras's layout."""
        if self.depthwise:
            height, width, channels, multiplier = self.variable.shape
            return tensor.reshape(channels, multiplier, height, width).transpose(2, 3, 0, 1)
        if _is_kernel(self.variable):
            return tensor.reshape(self.shape).transpose(_to_keras(len(self.shape)))
        return tensor


def _is_kernel(variable: Any) -> bool:
    return variable.name == "kernel" and len(variable.shape) > 1


def _without_ones(shape: Shape) -> Shape:
    return shape[:2] if shape[2:] == (1, 1) else shape


def _to_keras(rank: int) -> tuple[int, ...]:
    """Axes of (out, in, *space) as (*space, in, out); transposed convolutions swap "out" and "in" in both layouts."""
    return (*range(2, rank), 1, 0)


def places(model: keras.Model, state_dict_name: Callable[[str], str]) -> dict[str, Shape]:
    """Names and shapes, as PyTorch has them, of the tensors that fill a model.

    Args:
        model: The model.
        state_dict_name: As in `assign`.

    Returns: name to shape in PyTorch's layout, in the order of the model's weights.
    """
    return {name: place.shape for name, place in _places(model, state_dict_name).items()}


def _places(model: keras.Model, state_dict_name: Callable[[str], str]) -> dict[str, _Place]:
    depthwise = {id(layer.kernel) for layer in leaf_layers(model) if isinstance(layer, keras.layers.DepthwiseConv2D)}
    found: dict[str, _Place] = {}
    for variable in model.weights:
        path, _, own_name = variable.path.rpartition("/")
        shape = tuple(variable.shape)
        if id(variable) in depthwise:
            shape = (shape[2] * shape[3], 1, *shape[:2])
        elif _is_kernel(variable):
            shape = (shape[-1], shape[-2], *shape[:-2])
        parameter = "weight" if own_name == "kernel" else NORMALIZATION.get(own_name, own_name)
        name = f"{state_dict_name(path)}.{parameter}"
        if name in found:
            raise ValueError(f"Both {found[name].variable.path} and {variable.path} are mapped to the tensor {name}.")
        found[name] = _Place(variable, shape, id(variable) in depthwise)
    return found


def assign(
    model: keras.Model,
    tensors: Mapping[str, Any],
    state_dict_name: Callable[[str], str],
    *,
    allow_unexpected: Collection[str] = (),
    allow_missing: Collection[str] = (),
    fit_stem: Callable[[np.ndarray, int], np.ndarray] | None = None,
    source: str = "the state dict",
) -> None:
    """Give every weight of a model its tensor. Nothing is changed unless everything fits.

    Args:
        model: The model.
        tensors: Name to tensor in PyTorch's layout, as `read` gives; NumPy arrays or PyTorch tensors.
        state_dict_name: Function from the path of a weight without its last part ("layer1_0_conv1",
            "layer1_0_se/squeeze") to the PyTorch module that owns the tensor ("layer1.0.conv1"). The last part
            and the layout follow from the kind of layer: convolutions (plain, grouped, depthwise, transposed), dense
            layers (1x1 convolutions and they fill each other), batch, group and layer norms; any other weight has one
            name and shape on both sides.
        allow_unexpected: Shell-style patterns of names that may be among the tensors without a place in the model, such
            as "fc.*". `BOOKKEEPING` always may.
        allow_missing: Patterns of names that may be missing from the tensors; such weights keep their values.
        fit_stem: Function from the first kernel of the model in Keras's layout, `(height, width, in, out)`, and the
            image's number of channels to a kernel with that many; None if the kernel has to fit as it is.
        source: Where the tensors are from, for errors.

    Raises:
        ValueError: tensors are missing, unexpected, or of another shape. All of them are listed, `SHOWN` at most of
            each kind, with both shapes and the nearest names.
    """
    tensors = tensors if isinstance(tensors, Tensors) else from_state(tensors, source=source)
    wanted = _places(model, state_dict_name)
    stem = next((name for name, place in wanted.items() if len(place.shape) == 4), None) if fit_stem else None

    missing = [name for name in wanted if name not in tensors and not _matches(name, allow_missing)]
    allowed = (*BOOKKEEPING, *allow_unexpected)
    unexpected = [name for name in tensors if name not in wanted and not _matches(name, allowed)]
    misshapen = []
    for name, place in wanted.items():
        if name in tensors:
            shape = tensors.shape(name)
            fits = _without_channels(shape) == _without_channels(place.shape) if name == stem else place.fits(shape)
            if not fits:
                misshapen.append(name)
    if missing or unexpected or misshapen:
        theirs = {name: tensors.shape(name) for name in tensors}
        raise ValueError(_misfit(model, source, wanted, theirs, missing, unexpected, misshapen))

    for name, place in wanted.items():
        if name in tensors:
            tensor = tensors[name]
            if name == stem and fit_stem and tensor.shape != place.shape:
                place.variable.assign(fit_stem(tensor.transpose(_to_keras(4)), place.shape[1]))
            else:
                place.variable.assign(place.value(tensor))


def _matches(name: str, patterns: Collection[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _without_channels(shape: Shape) -> Shape:
    return (*shape[:1], *shape[2:])


def _misfit(
    model: keras.Model,
    source: str,
    wanted: Mapping[str, _Place],
    theirs: Mapping[str, Shape],
    missing: list[str],
    unexpected: list[str],
    misshapen: list[str],
) -> str:
    """The one error of `assign`: every tensor that does not fit, both shapes, and what it may have been meant for."""
    ours = {name: place.shape for name, place in wanted.items()}
    free = {name: ours[name] for name in missing} or ours
    spare = {name: theirs[name] for name in unexpected} or theirs

    def unexpected_line(name):
        return f"{name} {theirs[name]}{_nearest(name, theirs[name], 'the model has', free)}"

    def missing_line(name):
        return f"{name} {ours[name]}{_nearest(name, ours[name], 'there is', spare)}"

    def misshapen_line(name):
        return f"{name} {theirs[name]}, the model wants {ours[name]} for {wanted[name].variable.path}"

    parts = [f"The tensors of {source} do not fit the model {model.name!r}."]
    for what, names, line in (
        ("not in the model", unexpected, unexpected_line),
        ("missing", missing, missing_line),
        ("of another shape", misshapen, misshapen_line),
    ):
        if names:
            parts.append(f"{len(names)} {what}:")
            parts += [f"  {line(name)}" for name in names[:SHOWN]]
            if len(names) > SHOWN:
                parts.append(f"  … and {len(names) - SHOWN} more")
    return "\n".join(parts)


def _nearest(name: str, shape: Shape, what: str, others: Mapping[str, Shape]) -> str:
    """The two nearest names of others, those of the same shape first."""
    near = near_matches(name, others, most=4)
    near.sort(key=lambda other: others[other] != shape)
    return f" ({what} {', '.join(f'{other} {others[other]}' for other in near[:2])})" if near else ""
