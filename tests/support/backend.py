"""Gradients on whichever backend the tests run, in NumPy terms."""

import keras
import numpy as np
import pytest

SLOW_ON_JAX = [pytest.mark.slow] * (keras.backend.backend() == "jax")
"""Marks of what says nothing new about JAX, which compiles every model anew for every size."""


def value_and_gradient(function, x):
    """Value (NumPy) of a scalar `function` of one tensor at `x`, and its gradient with the shape of `x`."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        point = tf.Variable(x)
        with tf.GradientTape() as tape:
            value = function(point)
        gradient = tape.gradient(value, point)
    elif backend == "jax":
        import jax

        value, gradient = jax.value_and_grad(function)(jax.numpy.asarray(x))
    else:
        import torch

        point = torch.tensor(x, requires_grad=True)
        value = function(point)
        (gradient,) = torch.autograd.grad(value, point, allow_unused=True)
    assert gradient is not None, "the value does not depend on x at all"
    return keras.ops.convert_to_numpy(value), np.asarray(keras.ops.convert_to_numpy(gradient))
