"""Cross-entropy with U-Net's weights at the borders between objects (Ronneberger et al., 2015).

https://arxiv.org/abs/1505.04597, equation 2: `w(x) = w_c(x) + w_0 exp(-(d_1(x) + d_2(x))² / 2σ²)`, d_1 and d_2 the
distances to the nearest and second nearest object. The weights come from exact distance transforms of each mask, which
no backend has, so the data pipeline makes them: `kerazoo.data.pipeline(pixel_weights="boundary")`.
"""

from collections.abc import Sequence
from typing import Any

import keras

from kerazoo.losses.cross_entropy import CrossEntropy


@keras.saving.register_keras_serializable("kerazoo", name="losses.BoundaryWeighted")
class BoundaryWeighted(CrossEntropy):
    r"""Mean over valid pixels of `-w(x) Σ_c w_c t_c log p_c`, w(x) the `sample_weight` of the pixel.

    `CrossEntropy` for which missing weights are an error. In a sum, the other terms that have one value per image need
    `weighted=False`: `BoundaryWeighted() + 0.1 * ForegroundDice(weighted=False)`.

    Call: `y_true` `(B, H, W)` or `(B, H, W, 1)` class ids; `y_pred` `(B, H, W, C)` logits; `sample_weight` `(B, H, W)`,
        the third part of a batch of `kerazoo.data.pipeline(pixel_weights="boundary")`.
    Returns: scalar; per pixel `(B, H, W)` with `reduction=None`.

    Args:
        class_weights: One weight per mask id (two for one logit), background first; None: 1 each.
        label_smoothing: ε in [0, 1), the share of the label that is spread over all K classes.
        ignore_class: Id of pixels that count nowhere, or None.
        name: Name of the loss.
        **kwargs: `weighted`, `reduction`, `dtype` of every loss of kerazoo.

    Raises:
        ValueError: `sample_weight` is missing, or what `CrossEntropy` raises.
    """

    needs_weight = 'the weights w(x) of the pixels: pass pixel_weights="boundary" to kerazoo.data.pipeline'

    def __init__(
        self,
        *,
        class_weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        ignore_class: int | None = None,
        name: str | None = "boundary_weighted",
        **kwargs: Any,
    ):
        super().__init__(
            class_weights=class_weights, label_smoothing=label_smoothing, ignore_class=ignore_class, name=name, **kwargs
        )
