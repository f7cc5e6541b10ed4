"""Rectified Adam in float64 NumPy, as its equations are written."""

import numpy as np


def trajectory(
    w, gradient, *, steps, learning_rate, beta_1=0.9, beta_2=0.999, epsilon=1e-8, weight_decay=0.0, decoupled=False
):
    """Weights after each step, `(steps, n)`; `gradient(w)` and `learning_rate(step from 0)` are functions."""
    w = np.array(w, np.float64)
    m, v, rows = np.zeros_like(w), np.zeros_like(w), []
    rho_limit = 2 / (1 - beta_2) - 1
    for t in range(1, steps + 1):
        g, rate = gradient(w), learning_rate(t - 1)
        if decoupled:
            w = w - rate * weight_decay * w
        else:
            g = g + weight_decay * w
        m = beta_1 * m + (1 - beta_1) * g
        v = beta_2 * v + (1 - beta_2) * g**2
        m_hat = m / (1 - beta_1**t)
        rho = rho_limit - 2 * t * beta_2**t / (1 - beta_2**t)
        if rho > 5:
            r = np.sqrt((rho - 4) * (rho - 2) * rho_limit / ((rho_limit - 4) * (rho_limit - 2) * rho))
            w = w - rate * m_hat * r * np.sqrt(1 - beta_2**t) / (np.sqrt(v) + epsilon)
        else:
            w = w - rate * m_hat
        rows.append(w)
    return np.array(rows)
