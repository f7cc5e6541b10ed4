"""The classification layer of every head, and the prior that its bias is initialized to."""

import math

import keras

from kerazoo.types import Tensor

PRIOR = 0.05
"""Default probability of foreground that an untrained head predicts."""


def check_prior(prior: float, *, owner: str) -> None:
    """Raise ValueError unless `prior` is in (0, 1)."""
    if not 0 < prior < 1:
        raise ValueError(f"{owner}'s `prior` must be between 0 and 1, both excluded, received {prior}.")


def classify(
    x: Tensor, *, num_classes: int, kernel_size: int = 1, prior: float = PRIOR, name: str = "h_logits"
) -> Tensor:
    """Convolve to one logit per class, with biases initialized to the log-odds of the prior.

    An untrained head with zero biases calls half of all pixels foreground and spends its first hundreds of steps on
    unlearning that. RetinaNet's prior initialization (Lin et al., 2017, https://arxiv.org/abs/1708.02002, section 4.1).

    Args:
        x: `(B, H, W, C)`.
        num_classes: 1 for a sigmoid logit; K >= 2 for K softmax logits, class 0 the background.
        kernel_size: Odd size of the convolution.
        prior: Expected share of foreground pixels, divided evenly among the foreground classes.
        name: Name of the convolution.

    Returns: `(B, H, W, num_classes)` logits.
    """
    if num_classes == 1:
        biases = [math.log(prior / (1 - prior))]
    else:
        biases = [math.log(1 - prior)] + [math.log(prior / (num_classes - 1))] * (num_classes - 1)
    return keras.layers.Conv2D(
        num_classes,
        kernel_size,
        padding="same",
        kernel_initializer="he_normal",
        bias_initializer=keras.initializers.Constant(biases),
        name=name,
    )(x)
