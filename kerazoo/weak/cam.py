"""Segmenters that learn from labels of images: CAM-α and CAM-β, class activation maps.

Zhou et al., 2016, https://arxiv.org/abs/1512.04150. Let x `(h, w, C)` be what the last convolution of a segmenter reads
and w its 1×1 kernel. Both train the weights of the segmenter, add none, and have its output as their maps:

- CAM-α, the original, pools first: `y_p = Σ_k pool(x_k) w_kp`.
- CAM-β pools last: `y_p = pool(Σ_k x_k w_kp)`, so that what is pooled is the segmentation itself.

Pooling by the mean, they are the same function (Choe et al., 2020, https://arxiv.org/abs/2001.07437); by the maximum
they are not.
"""

from typing import Any

import keras
from keras import layers

from kerazoo.layers import WithMaps
from kerazoo.outputs import CLASS_MAPS, mask_output
from kerazoo.types import Tensor
from kerazoo.weak.pooling import POOLINGS

CLASSIFIER = "h_logits"


def cam_beta(model: keras.Model, *, pooling: Any = "gmp", name: str = "cam_beta") -> keras.Model:
    """Make a classifier of images that pools the logits of a segmenter: CAM-β.

    It shares the weights of `model`, in the same order, and has no others: whatever trains one trains the other. Only
    those of a label head or of auxiliary heads, which no mask is made of, are left out.

    ```python
    segmenter = kz.segmenter("convmixer_256_20", "patch", "smooth", num_classes=2)
    weak = kz.weak.cam_beta(segmenter)
    weak.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True))
    weak.fit(kz.data.pipeline(train, image_size=(224, 224), batch_size=16, outputs="label"))
    ```

    Args:
        model: Any segmenter that returns logits `(B, H, W, num_classes)`, or a mapping whose `"mask"` they are.
        pooling: "gmp", "gap", "gwrp" or "lse", or a layer from `(B, H, W, P)` to `(B, P)`, such as
            `kerazoo.layers.GlobalWeightedRankPooling2D(decay=0.999)`.
        name: Name of the model.

    Returns: a `keras.Model` from images to logits `(B, num_classes)`, float32.

    Raises:
        ValueError: `model` is no segmenter, or the pooling is unknown or does not give one number per class.
    """
    mask = mask_output(model)
    return _classifier(model.input, _pool(mask, pooling), mask, name)


def cam_alpha(model: keras.Model, *, pooling: Any = "gmp", name: str = "cam_alpha") -> keras.Model:
    """Make a classifier of images that pools the features of a segmenter and then classifies them: CAM-α.

    It shares the weights of `model`, in the same order, and has no others. What the head does after its last
    convolution, such as smoothing, is in the maps and not in the label: the original has a `linear` head.

    Args:
        model: Segmenter of `kerazoo.segmenter`, whose head ends in a 1×1 convolution.
        pooling: "gmp", "gap", "gwrp" or "lse", or a layer from `(B, H, W, C)` to `(B, C)`.
        name: Name of the model.

    Returns: a `keras.Model` from images to logits `(B, num_classes)`, float32.

    Raises:
        ValueError: `model` is no segmenter of `kerazoo.segmenter`, its last convolution is larger than 1×1, or the
            pooling is unknown or does not give one number per channel.
    """
    mask_output(model)
    head = next((layer for layer in model.layers if layer.name == "head"), None)
    classifier = None if head is None else next((part for part in head.layers if part.name == CLASSIFIER), None)
    if head is None or classifier is None:
        raise ValueError(
            f"CAM-α needs the last convolution of a segmenter of kerazoo.segmenter, and {model.name!r} has no "
            f"sub-model 'head' with a layer {CLASSIFIER!r}. Build one, or take cam_beta, which works over any "
            "segmenter."
        )
    if tuple(classifier.kernel_size) != (1, 1):
        raise ValueError(
            f"CAM-α needs a head that ends in a 1x1 convolution, and that of {model.name!r} is "
            f"{classifier.kernel_size}. Take a head with kernel_size=1, or cam_beta."
        )
    features = keras.Model(head.input, classifier.input, name="head_features")
    rest = None
    if classifier.output is not head.outputs[0]:  # what is done to the logits, such as resizing
        rest = keras.Model(classifier.output, head.outputs[0], name="head_rest")
    classified: list[Tensor] = []  # what the last convolution reads

    def call(layer: layers.Layer, *args: Any, **kwargs: Any) -> Any:
        """Call the layer; the head in pieces, because a saved file would hold a layer of two sub-models twice."""
        if layer is not head:
            return layer(*args, **kwargs)
        classified.append(features(*args, **kwargs))
        logits = classifier(classified[0])
        return [logits if rest is None else rest(logits)]

    rewired = keras.models.clone_model(model, clone_function=lambda layer: layer, call_function=call)
    pooled = _pool(classified[0], pooling)
    cell = layers.Reshape((1, 1, pooled.shape[-1]), dtype="float32", name="weak_cell")(pooled)
    label = layers.Flatten(dtype="float32", name="weak_label")(classifier(cell))
    return _classifier(rewired.input, label, mask_output(rewired), name)


def _pool(maps: Tensor, pooling: Any) -> Tensor:
    layer = POOLINGS[pooling](dtype="float32", name="weak_pool") if isinstance(pooling, str) else pooling
    pooled = layer(maps)
    if tuple(pooled.shape[1:]) != (maps.shape[-1],):
        raise ValueError(
            f"`pooling` must give one number per channel, (B, {maps.shape[-1]}); received {pooling!r}, which gives "
            f"{tuple(pooled.shape)}. Take one of {POOLINGS.list()}."
        )
    return pooled


def _classifier(image: Tensor, label: Tensor, mask: Tensor, name: str) -> keras.Model:
    return keras.Model(image, WithMaps(dtype="float32", name=CLASS_MAPS)([label, mask]), name=name)
