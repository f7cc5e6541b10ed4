"""Keeps the class activation maps of a classifier in its graph."""

import keras


@keras.saving.register_keras_serializable("kerazoo")
class WithMaps(keras.layers.Layer):
    """Returns the first input and ignores the second, so that a saved classifier still contains its maps.

    Call: a list of the label logits `(B, P)` and the maps `(B, H, W, P)`.
    Returns: the label logits.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)

    def call(self, inputs):
        return inputs[0]

    def compute_output_shape(self, inputs_shape):
        return tuple(inputs_shape[0])
