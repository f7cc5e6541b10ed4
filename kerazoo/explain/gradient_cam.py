"""Grad-CAM and Grad-CAM++ of classes and regions.

Selvaraju et al., 2017, https://arxiv.org/abs/1610.02391 (Grad-CAM); Chattopadhay et al., 2018,
https://arxiv.org/abs/1710.11063 (Grad-CAM++); Vinogradova et al., 2020, https://arxiv.org/abs/2002.11434 (regions of a
segmentation).
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from kerazoo.data.formats.images import to_byte_range, to_channels
from kerazoo.explain.gradients import Gradient, clear_gradients, coarsest, intercepted, recorded, with_coarsest
from kerazoo.explain.layer_paths import find_layer
from kerazoo.layers import MirrorPad, PadToMultiple, Resize
from kerazoo.outputs import label_output, mask_output, segmenter_of
from kerazoo.types import Tensor

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
    """Which pixels speak for a class, or for a class in a region.

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
    logits, region_weights = _explained(model, region, images.shape[1:3])
    scorer = keras.Model(model.input, logits, name="scorer")
    layer = ENCODER if layer is None else layer
    explained = find_layer(scorer, layer)

    def score(outputs: Tensor) -> Tensor:
        """`(B, P)` float32."""
        outputs = ops.cast(outputs, "float32")
        if region_weights is None:
            return outputs if len(outputs.shape) == 2 else ops.mean(outputs, axis=(1, 2))
        return ops.sum(outputs * ops.convert_to_tensor(region_weights[..., None]), axis=(1, 2))

    with recorded(explained) as outputs:
        scores = ops.convert_to_numpy(score(scorer(images, training=False)))
    maps = np.asarray(ops.convert_to_numpy(coarsest(outputs[-1]))).astype("float32")
    if maps.ndim != 4:
        raise ValueError(f"`layer` {layer!r} gives {maps.shape}, and maps have the shape (B, h, w, K). Take another.")
    one_hot = ops.convert_to_tensor(_one_hot(scores, target))

    def score_of(features: Tensor) -> Tensor:
        with intercepted(explained, lambda output: with_coarsest(output, features)):
            return ops.sum(score(scorer(images, training=False)) * one_hot)

    gradient = Gradient(score_of, maps.shape)(maps)
    clear_gradients(scorer)
    if not gradient.any():
        raise ValueError(
            f"The score does not change with what `layer` {layer!r} gives: its gradient is 0 everywhere. Take a layer "
            "that the score is made of."
        )
    weights = _plus_plus(maps, gradient) if plus_plus else gradient.mean(axis=(1, 2), keepdims=True)
    cam = _at_image_size(scorer, np.maximum((weights * maps).sum(axis=-1, keepdims=True), 0), images.shape[1:3])
    if normalize:
        highest = cam.max(axis=(1, 2), keepdims=True)
        cam = cam / np.where(highest > 0, highest, 1)
    return cam if np.ndim(image) == 4 else cam[0]


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


def _explained(model: keras.Model, region: Any, size: tuple[int, int]) -> tuple[Tensor, np.ndarray | None]:
    """The logits that the score is made of, and `(1, H, W)` float32 weights of the pixels, with sum 1, or None."""
    label = label_output(model)
    if region is None:
        return (mask_output(segmenter_of(model)) if label is None else label), None
    pixels = np.asarray(region)
    if pixels.shape != (4,):
        pixels = pixels.astype(bool)
    else:
        top, left, bottom, right = (int(edge) for edge in pixels)
        pixels = np.zeros(size, bool)
        if not (0 <= top < bottom <= size[0] and 0 <= left < right <= size[1]):
            raise ValueError(
                f"`region` as a box is (top, left, bottom, right) inside the image of {size[0]}x{size[1]}, with top < "
                f"bottom and left < right; received {region}."
            )
        pixels[top:bottom, left:right] = True
    if pixels.shape != tuple(size) or not pixels.any():
        raise ValueError(
            f"`region` must be a box or {size} bool with a pixel in it; received shape {pixels.shape} with "
            f"{np.count_nonzero(pixels)} pixels."
        )
    return mask_output(segmenter_of(model)), (pixels[None] / pixels.sum()).astype("float32")


def _one_hot(scores: np.ndarray, target: int | None) -> np.ndarray:
    """`(B, P)` float32, 1 for the logit that is explained in each image."""
    count = scores.shape[1]
    if target is None:
        first = min(1, count - 1)
        return np.eye(count, dtype="float32")[first + scores[:, first:].argmax(axis=1)]
    if not 0 <= target < count:
        raise ValueError(f"`target` is the index of one of {count} logits, 0 to {count - 1}; received {target}.")
    return np.tile(np.eye(count, dtype="float32")[target], (len(scores), 1))


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
    full = ops.convert_to_numpy(Resize(size=(height, width), dtype="float32")(maps))[..., 0]  # type: ignore[arg-type]
    return full[:, margin : margin + size[0], margin : margin + size[1]]
