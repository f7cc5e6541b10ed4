"""A classifier that keeps the maps its labels come from."""

import keras


@keras.saving.register_keras_serializable("kerazoo")
class WithMaps(keras.layers.Layer):
    """Hands the first input on and ignores the second: so a saved classifier still knows where its maps are.

    Call: a list of the label logits `(B, P)` and the maps `(B, H, W, P)`.
    Returns: the label logits.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)

    def call(self, inputs):
        return inputs[0]

    def compute_output_shape(self, inputs_shape):
        return tuple(inputs_shape[0])
