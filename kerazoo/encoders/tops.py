"""Tops of classifiers that several encoders share: from the coarsest level to logits of classes."""

from keras import layers

from kerazoo.types import Tensor


def pooled_dense(features: Tensor, *, num_classes: int, name: str) -> Tensor:
    """Global average pooling and a dense layer.

    Args:
        features: `(B, h, w, C)`.
        num_classes: How many logits.
        name: Of the dense layer.

    Returns: `(B, num_classes)`, float32.
    """
    x = layers.GlobalAveragePooling2D(dtype="float32", name="global_pool")(features)
    return layers.Dense(num_classes, dtype="float32", name=name)(x)
