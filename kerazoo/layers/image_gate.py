"""Two-stage gate: empty masks for images that a classifier rejects."""

import keras
from keras import ops

EMPTY_LOGIT = 30.0
"""Logit of a certain background: its probability is 1 - 1e-13."""


@keras.saving.register_keras_serializable("kerazoo")
class ImageGate(keras.layers.Layer):
    """Pass the mask logits of images that a classifier accepts, and set all others to background.

    An image whose label is NaN passes, so that the fault stays visible in the mask.

    Args:
        image_threshold: An image whose probability of foreground is not above it is rejected.
        exclusive: False: the label is multi-label (sigmoid), and the probability of foreground is the largest of a
            foreground class. True: the classes of the image exclude each other (softmax), and the probability of
            foreground is one minus that of class 0.

    Call: `logits` `(B, H, W, C)` of the mask, C = 1 of a sigmoid, else of a softmax with class 0 the background;
        `label` `(B, K)` logits, K = 1 for foreground, else class 0 for an empty image.
    Returns: the gated logits of the mask, and sigmoid logits of the label `(B, K)`, both in the dtype of the layer.

    Raises:
        ValueError: `image_threshold` is not in [0, 1], or there is only one class and it is `exclusive`.
    """

    def __init__(self, *, image_threshold: float = 0.5, exclusive: bool = False, **kwargs):
        super().__init__(**kwargs)
        if not 0 <= image_threshold <= 1:
            raise ValueError(f"`image_threshold` is a probability and must be in [0, 1], received {image_threshold!r}.")
        self.image_threshold = float(image_threshold)
        self.exclusive = bool(exclusive)

    def build(self, logits_shape, label_shape):
        if self.exclusive and label_shape[-1] < 2:
            raise ValueError(
                f"`exclusive=True` is for labels of two or more classes, received {label_shape[-1]}. Leave it out."
            )

    def call(self, logits, label):
        classes = label.shape[-1]
        if self.exclusive:
            others = ops.where(ops.eye(classes, dtype="bool"), -1e9, ops.expand_dims(label, 1))
            label = label - ops.logsumexp(others, axis=-1)
            foreground = -label[:, 0]
        else:
            foreground = ops.max(label if classes == 1 else label[:, 1:], axis=-1)
        rejected = ops.reshape(ops.sigmoid(foreground) <= self.image_threshold, (-1, 1, 1, 1))
        channels = logits.shape[-1]
        empty = [-EMPTY_LOGIT] if channels == 1 else [EMPTY_LOGIT] + [-EMPTY_LOGIT] * (channels - 1)
        return ops.where(rejected, ops.convert_to_tensor(empty, dtype=logits.dtype), logits), label

    def compute_output_shape(self, logits_shape, label_shape):
        return logits_shape, label_shape

    def get_config(self):
        own = {"image_threshold": self.image_threshold, "exclusive": self.exclusive}
        return {**super().get_config(), **own}
