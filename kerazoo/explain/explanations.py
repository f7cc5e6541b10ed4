"""What a model looks at: Grad-CAM and Grad-CAM++ of classes and regions, inputs that excite a unit, first filters.

Selvaraju et al., 2017, https://arxiv.org/abs/1610.02391 (Grad-CAM); Chattopadhay et al., 2018,
https://arxiv.org/abs/1710.11063 (Grad-CAM++); Vinogradova et al., 2020, https://arxiv.org/abs/2002.11434 (regions of a
segmentation); Yosinski et al., 2015, https://arxiv.org/abs/1506.06579 (regularised activation maximization).
"""

import difflib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from kerazoo.data.formats.images import to_byte_range, to_channels
from kerazoo.explain.gradients import Gradient, intercepted
from kerazoo.layers import GaussianSmooth, MirrorPad, PadToMultiple, Resize
from kerazoo.outputs import label_output, mask_output
from kerazoo.types import Tensor
from kerazoo.weak.cam import segmenter_of

ENCODER = "encoder"


def grad_cam(
    model: keras.Model,
    image: np.ndarray,
    *,
    layer: str | None = None,
    target: int | None = None,
    region: Any = None,
    plus_plus: bool = False,
    normalize: bool = True,
) -> np.ndarray:
    """Where in an image lies what speaks for a class, or for a class in a region.

    With A the maps that a layer gives and g the gradient of the score s with respect to them, Grad-CAM is
    `relu(Σ_k mean_ij(g_ijk) A_k)`. Grad-CAM++ weighs the pixels of each gradient:
    `w_k = Σ_ij α_ijk relu(g_ijk)` with `α_ijk = g_ijk² / (2 g_ijk² + g_ijk³ Σ_ab A_abk)`, so that several objects of a
    class count alike.

    Args:
        model: Segmenter, classifier, or a model of `cam_alpha` or `cam_beta`; it is neither trained nor changed.
        image: `(H, W, C)` or `(H, W)`, or several of one size, `(B, H, W, C)`; values as in training.
        layer: Name of a layer that gives `(B, h, w, K)`, such as "layer3_1_relu2", or the path to it through
            sub-models, "encoder/layer3_1_relu2". Of several outputs the last one counts. None is the coarsest level of
            the sub-model "encoder".
        target: Index of the logit that is explained; of several logits, 0 is the background's. None is the highest of
            the foreground.
        region: Pixels whose mean mask logit is the score: `(H, W)` bool, or a box `(top, left, bottom, right)` in
            pixels without its last row and column. None takes the label logit of the image if the model has labels,
            else the mean mask logit of all pixels.
        plus_plus: Whether to take the weights of Grad-CAM++.
        normalize: Whether each map is divided by its maximum; one that is 0 stays 0.

    Returns: `(H, W)`, or `(B, H, W)` for several images, float32, 0 or above.

    Raises:
        ValueError: there is no such layer in what the score is made of, it gives no maps, the score does not change
            with them, or `target` or `region` does not fit.
    """
    images = _batch(model, image)
    logits, where = _scored(model, region, images.shape[1:3])
    scorer = keras.Model(model.input, logits, name="scorer")
    inside = find_layer(scorer, ENCODER if layer is None else layer)

    def score(outputs: Tensor) -> Tensor:
        """`(B, P)` float32."""
        outputs = ops.cast(outputs, "float32")
        if where is None:
            return outputs if len(outputs.shape) == 2 else ops.mean(outputs, axis=(1, 2))
        return ops.sum(outputs * ops.convert_to_tensor(where[..., None]), axis=(1, 2))

    seen: list[Any] = []
    with intercepted(inside, lambda output: seen.append(output) or output):
        scores = _numpy(score(scorer(images, training=False)))
    maps = _numpy(_last(seen[-1])).astype("float32")
    if maps.ndim != 4:
        raise ValueError(f"`layer` {layer!r} gives {maps.shape}, and maps have the shape (B, h, w, K). Take another.")
    chosen = ops.convert_to_tensor(_chosen(scores, target))

    def score_of(features: Tensor) -> Tensor:
        with intercepted(inside, lambda output: _with_last(output, features)):
            return ops.sum(score(scorer(images, training=False)) * chosen)

    gradient = Gradient(score_of, maps.shape)(maps)
    _forget_gradients(scorer)
    if not gradient.any():
        raise ValueError(
            f"The score does not change with what `layer` {ENCODER if layer is None else layer!r} gives: its gradient "
            "is 0 everywhere. Take a layer that the score is made of."
        )
    weights = _plus_plus(maps, gradient) if plus_plus else gradient.mean(axis=(1, 2), keepdims=True)
    cam = _at_image_size(scorer, np.maximum((weights * maps).sum(axis=-1, keepdims=True), 0), images.shape[1:3])
    if normalize:
        highest = cam.max(axis=(1, 2), keepdims=True)
        cam = cam / np.where(highest > 0, highest, 1)
    return cam if np.ndim(image) == 4 else cam[0]


def activation_maximization(
    model: keras.Model,
    *,
    layer: str,
    channel: int,
    position: tuple[int, int] | None = None,
    image_size: tuple[int, int] | None = None,
    value_range: tuple[float, float] = (0.0, 255.0),
    steps: int = 64,
    rate: float = 0.03,
    decay: float = 0.01,
    blur: float = 0.5,
    seed: int = 0,
) -> np.ndarray:
    """An input that excites a unit: gradient ascent from noise.

    Each step goes along the gradient of the activation, scaled to a root mean square of 1, then shrinks towards the
    middle of the range and blurs, which keeps high frequencies from taking over, and clips.

    Args:
        model: Any Keras model with one input of images; it is neither trained nor changed.
        layer: Name of a layer, or the path to it, as in `grad_cam`; here it may give `(B, K)` too.
        channel: Index of the unit among the K.
        position: Row and column of one pixel of the map; None is the mean of all.
        image_size: Height and width; None is the model's, or 128×128 if it takes every size.
        value_range: Least and greatest value of an input: (0, 255) for models with preprocessing inside.
        steps: Steps of ascent.
        rate: Length of a step as share of the range.
        decay: Share by which an input shrinks towards the middle of the range in each step, in [0, 1).
        blur: Standard deviation of the Gaussian in pixels, 0 for none.
        seed: Of the noise.

    Returns: `(H, W, C)` float32 in `value_range`.

    Raises:
        ValueError: there is no such layer, channel or position, an argument is outside its range, or the unit does not
            respond to the noise it starts from.
    """
    low, high = value_range
    if not low < high or steps < 1 or not 0 <= decay < 1 or blur < 0 or not rate > 0:
        raise ValueError(
            "activation_maximization needs a `value_range` (low, high), `steps` of at least 1, `rate` above 0, `decay` "
            f"in [0, 1) and `blur` of at least 0; received {value_range}, {steps}, {rate}, {decay} and {blur}."
        )
    inside = find_layer(model, layer)
    *fixed, channels = model.inputs[0].shape[1:]
    if image_size is None:
        image_size = (128, 128) if None in fixed else tuple(fixed)
    smooth = GaussianSmooth(sigma=blur, dtype="float32") if blur else lambda x: x

    def activation(x: Tensor) -> Tensor:
        seen: list[Any] = []
        with intercepted(inside, lambda output: seen.append(output) or output):
            model(x, training=False)
        return ops.sum(_unit(_last(seen[-1]), channel, position))

    middle, span = (low + high) / 2, high - low
    noise = np.random.default_rng(seed).normal(0, 0.05 * span, (1, *image_size, channels))
    x = np.clip(middle + noise, low, high).astype("float32")
    gradient = Gradient(activation, x.shape)
    for step in range(steps):
        slope = gradient(x)
        length = np.sqrt(np.mean(slope**2, dtype="float64"))
        if length == 0 and step == 0:
            raise ValueError(
                f"Channel {channel} of {layer!r} does not respond to the noise of seed={seed}: its gradient is 0. Take "
                "another seed, or a layer before the activation function."
            )
        x = middle + (1 - decay) * (x + rate * span * slope / max(length, 1e-30) - middle)
        x = np.clip(_numpy(smooth(x.astype("float32"))), low, high)
    _forget_gradients(model)
    return x[0].astype("float32")


def first_filters(model: keras.Model, *, layer: str | None = None) -> np.ndarray:
    """The filters of the first convolution, as pictures: what a network looks for in the pixels themselves.

    Args:
        model: Any Keras model.
        layer: Name of a convolution, or the path to it, as in `grad_cam`; None is the first one of the model.

    Returns: `(filters, height, width, channels)` float32 in [0, 1]: 0.5 is a weight of 0, and the largest weight of
        each filter, in absolute value, is at 0 or 1.

    Raises:
        ValueError: there is no convolution, or `layer` is none.
    """
    if layer is None:
        found = next((one for _, one in walk(model) if isinstance(one, keras.layers.Conv2D)), None)
    else:
        found = find_layer(model, layer)
    if found is None or not isinstance(found, keras.layers.Conv2D):
        raise ValueError(
            f"`layer` must name a Conv2D; received {layer!r}, and {model.name!r} has "
            f"{'none' if layer is None else f'{type(found).__name__} there'}."
        )
    kernel: np.ndarray = np.moveaxis(_numpy(found.kernel).astype("float32"), -1, 0)
    largest = np.abs(kernel).max(axis=(1, 2, 3), keepdims=True)
    return 0.5 + kernel / (2 * np.where(largest > 0, largest, 1))


def walk(model: keras.Model, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Paths and layers of a model and of its sub-models, each sub-model before what is in it."""
    for layer in model.layers:
        yield prefix + layer.name, layer
        if isinstance(layer, keras.Model):
            yield from walk(layer, f"{prefix}{layer.name}/")


def find_layer(model: keras.Model, name: str) -> Any:
    """The layer of a model or of its sub-models with a name or path.

    Raises:
        ValueError: there is none, or several of that name.
    """
    paths = list(walk(model))
    found = {path: layer for path, layer in paths if path == name or path.endswith(f"/{name}")}
    if name in found or len(found) == 1:
        return found.get(name) or next(iter(found.values()))
    if found:
        raise ValueError(f"`layer` {name!r} may be any of {sorted(found)}. Give the path.")
    names = {known for path, _ in paths for known in (path, path.rpartition("/")[2])}
    near = difflib.get_close_matches(name, sorted(names), n=3, cutoff=0.5)
    meant = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    raise ValueError(
        f"There is no layer {name!r} in what {model.name!r} gives.{meant} Its sub-models and layers are "
        f"{[layer.name for layer in model.layers]}."
    )


def _batch(model: keras.Model, image: np.ndarray) -> np.ndarray:
    """`(B, H, W, channels)` as the model takes it."""
    images = np.asarray(image)
    images = images[..., None] if images.ndim == 2 else images
    images = images[None] if images.ndim == 3 else images
    if images.ndim != 4 or images.size == 0 or images.dtype.kind not in "uifb":
        raise ValueError(
            f"`image` must be (H, W), (H, W, C) or (B, H, W, C) numbers; received {images.dtype} of shape "
            f"{np.shape(image)}."
        )
    return np.stack([to_byte_range(to_channels(one, model.inputs[0].shape[-1])).astype("float32") for one in images])


def _scored(model: keras.Model, region: Any, size: tuple[int, int]) -> tuple[Tensor, np.ndarray | None]:
    """The logits that the score is made of, and `(1, H, W)` float32 weights of the pixels, with sum 1, or None."""
    label = label_output(model)
    if region is None:
        return (mask_output(segmenter_of(model)) if label is None else label), None
    where = np.asarray(region)
    if where.shape != (4,):
        where = where.astype(bool)
    else:
        top, left, bottom, right = (int(edge) for edge in where)
        where = np.zeros(size, bool)
        if not (0 <= top < bottom <= size[0] and 0 <= left < right <= size[1]):
            raise ValueError(
                f"`region` as a box is (top, left, bottom, right) inside the image of {size[0]}x{size[1]}, with top < "
                f"bottom and left < right; received {region}."
            )
        where[top:bottom, left:right] = True
    if where.shape != tuple(size) or not where.any():
        raise ValueError(
            f"`region` must be a box or {size} bool with a pixel in it; received shape {where.shape} with "
            f"{np.count_nonzero(where)} pixels."
        )
    return mask_output(segmenter_of(model)), (where[None] / where.sum()).astype("float32")


def _chosen(scores: np.ndarray, target: int | None) -> np.ndarray:
    """`(B, P)` float32, 1 for the logit that is explained in each image."""
    count = scores.shape[1]
    if target is None:
        first = min(1, count - 1)
        return np.eye(count, dtype="float32")[first + scores[:, first:].argmax(axis=1)]
    if not 0 <= target < count:
        raise ValueError(f"`target` is the index of one of {count} logits, 0 to {count - 1}; received {target}.")
    return np.tile(np.eye(count, dtype="float32")[target], (len(scores), 1))


def _unit(output: Tensor, channel: int, position: tuple[int, int] | None) -> Tensor:
    """The activation of a unit, `(1,)`."""
    shape = tuple(output.shape)
    if len(shape) not in (2, 4) or not 0 <= channel < shape[-1]:
        raise ValueError(
            f"`channel` must be 0 to {shape[-1] - 1} of a layer that gives (B, h, w, K) or (B, K); received {channel} "
            f"for a layer that gives {shape}."
        )
    if position is None:
        return output[:, channel] if len(shape) == 2 else ops.mean(output[..., channel], axis=(1, 2))
    if len(shape) == 2 or not (0 <= position[0] < shape[1] and 0 <= position[1] < shape[2]):
        raise ValueError(f"`position` is (row, column) of a map; received {position} for a layer that gives {shape}.")
    return output[:, position[0], position[1], channel]


def _plus_plus(maps: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """`(B, 1, 1, K)` weights of Grad-CAM++."""
    total = maps.sum(axis=(1, 2), keepdims=True)
    below = 2 * gradient**2 + gradient**3 * total
    alpha = np.divide(gradient**2, below, out=np.zeros_like(gradient), where=below != 0)
    return (alpha * np.maximum(gradient, 0)).sum(axis=(1, 2), keepdims=True)


def _at_image_size(model: keras.Model, maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`(B, H, W)` from `(B, h, w, 1)`, which cover what the encoder saw: the padded or mirrored image."""
    if maps.shape[1:3] == tuple(size):
        return maps[..., 0]
    height, width = size
    margin = 0
    for layer in model.layers:
        if isinstance(layer, PadToMultiple | MirrorPad):
            _, height, width, _ = layer.compute_output_shape((1, *size, 1))
            margin = layer.margin if isinstance(layer, MirrorPad) else 0
    full = _numpy(Resize(size=(height, width), dtype="float32")(maps))[..., 0]  # type: ignore[arg-type]
    return full[:, margin : margin + size[0], margin : margin + size[1]]


def _forget_gradients(model: keras.Model) -> None:
    """On PyTorch a backward pass leaves the gradients of all weights behind, as large as the model."""
    if keras.backend.backend() == "torch":
        model.zero_grad()  # type: ignore[attr-defined]


def _last(output: Any) -> Tensor:
    """The coarsest level: encoders of SegNet and DeconvNet give integers after it, where the maxima were."""
    return output[_position(output)] if isinstance(output, (list, tuple)) else output


def _with_last(output: Any, replacement: Tensor) -> Any:
    """The output of a layer with that tensor replaced, in its dtype."""
    replacement = ops.cast(replacement, _last(output).dtype)
    if not isinstance(output, (list, tuple)):
        return replacement
    position = _position(output)
    return [*output[:position], replacement, *output[position + 1 :]]


def _position(outputs: Any) -> int:
    kinds = [keras.backend.standardize_dtype(output.dtype) for output in outputs]
    return max(i for i, kind in enumerate(kinds) if "float" in kind)


def _numpy(tensor: Any) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(tensor))
