"""AngularGrad in float64 NumPy, as the paper's equations are written."""

import numpy as np


def trajectory(
    w,
    gradient,
    *,
    steps,
    learning_rate,
    angle="cos",
    beta_1=0.9,
    beta_2=0.999,
    epsilon=1e-8,
    weight_decay=0.0,
    decoupled=False,
):
    """Weights after each step, `(steps, n)`; `gradient(w)` is a function."""
    w = np.array(w, np.float64)
    m, v, last, last_angle, rows = np.zeros_like(w), np.zeros_like(w), np.zeros_like(w), np.full_like(w, np.pi / 2), []
    for t in range(1, steps + 1):
        g = gradient(w)
        if decoupled:
            w = w - learning_rate * weight_decay * w
        else:
            g = g + weight_decay * w
        m = beta_1 * m + (1 - beta_1) * g
        v = beta_2 * v + (1 - beta_2) * g**2
        a = np.arctan(np.abs((g - last) / (1 + g * last)))
        function = {"cos": np.cos, "tan": np.tan}[angle]
        phi = 0.5 * np.tanh(np.abs(function(np.minimum(a, last_angle)))) + 0.5
        w = w - learning_rate * phi * m / (1 - beta_1**t) / (np.sqrt(v / (1 - beta_2**t)) + epsilon)
        last, last_angle = g, a
        rows.append(w)
    return np.array(rows)
