"""The last convolution of every head, and what it says before training."""

import math

import keras

from kerazoo.types import Tensor

PRIOR = 0.05
"""Share of foreground pixels that an untrained head predicts: few pixels are foreground in the data kerazoo is for."""


def check_prior(prior: float, *, owner: str) -> None:
    """Raise ValueError unless `prior` is a probability that has a logit."""
    if not 0 < prior < 1:
        raise ValueError(f"{owner}'s `prior` must be between 0 and 1, both excluded, received {prior}.")


def classify(
    x: Tensor, *, num_classes: int, kernel_size: int = 1, prior: float = PRIOR, name: str = "h_logits"
) -> Tensor:
    """Convolve to one logit per class, with biases that start at the log-odds of the prior.

    An untrained head with zero biases calls half of all pixels foreground, and its first hundreds of steps go into
    unlearning that. Starting from the prior is what RetinaNet does (Lin et al., 2017,
    https://arxiv.org/abs/1708.02002, section 4.1).

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
