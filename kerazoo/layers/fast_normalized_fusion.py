"""Fast normalized fusion: a weighted mean of maps with learned weights.

Tan et al., 2020, https://arxiv.org/abs/1911.09070, section 3.3: sum_i relu(w_i) / (epsilon + sum_j relu(w_j)) x_i.
"""

import keras
from keras import ops


@keras.saving.register_keras_serializable("kerazoo")
class FastNormalizedFusion(keras.layers.Layer):
    """Weighted mean of maps of one shape, with one learned weight per map, 1 at first.

    The weights are normalized in float32 whatever the precision policy.

    Args:
        epsilon: Keeps the normalized weights finite when all weights are negative; then all are 0.

    Call: `inputs`, a list of two or more maps `(B, H, W, C)`, floating point.
    Returns: `(B, H, W, C)`, dtype of the layer.

    Raises:
        ValueError: `epsilon` is not positive, or there are fewer than two maps.
    """

    def __init__(self, *, epsilon: float = 1e-4, **kwargs):
        super().__init__(**kwargs)
        if not epsilon > 0:
            raise ValueError(f"`epsilon` must be positive, received {epsilon}.")
        self.epsilon = float(epsilon)

    def build(self, inputs_shape):
        if not isinstance(inputs_shape[0], (list, tuple)) or len(inputs_shape) < 2:
            raise ValueError(f"Layer {self.name!r} fuses a list of two or more maps, received shapes {inputs_shape}.")
        self.edge_weights = self.add_weight(
            name="edge_weights", shape=(len(inputs_shape),), initializer="ones", dtype="float32", autocast=False
        )

    def call(self, inputs):
        weights = ops.relu(ops.convert_to_tensor(self.edge_weights))
        weights = ops.cast(weights / (self.epsilon + ops.sum(weights)), inputs[0].dtype)
        fused = inputs[0] * weights[0]
        for position, x in enumerate(inputs[1:], start=1):
            fused = fused + x * weights[position]
        return fused

    def compute_output_shape(self, inputs_shape):
        return tuple(inputs_shape[0])

    def get_config(self):
        return {**super().get_config(), "epsilon": self.epsilon}
