"""The meaning of rigidity: train again with one prediction held away from its minimum.

min_w L(w) subject to y_k(w) = y_k(w_0) + eps, solved through the Karush-Kuhn-Tucker system.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

__all__ = ["nonlinear", "ridge", "ridge_loss"]


def ridge_loss(w, rows, targets, mu) -> float:
    """1/2 |Y - R w|^2 + 1/2 mu |w|^2."""
    return 0.5 * np.sum((targets - rows @ w) ** 2) + 0.5 * np.sum(mu * w**2)


def ridge(rows, targets, mu, gradient, shift: float) -> tuple[float, float]:
    """Rise of the ridge loss and Lagrange multiplier when g.w is held ``shift`` off its minimum.

    The multiplier is that of L + multiplier * (constraint).
    """
    parameters = rows.shape[1]
    h = rows.T @ rows + np.diag(np.broadcast_to(mu, (parameters,)))
    free = np.linalg.solve(h, rows.T @ targets)
    kkt = np.block([[h, gradient[:, None]], [gradient[None, :], np.zeros((1, 1))]])
    solution = np.linalg.solve(kkt, np.append(rows.T @ targets, gradient @ free + shift))
    rise = ridge_loss(solution[:-1], rows, targets, mu) - ridge_loss(free, rows, targets, mu)
    return rise, solution[-1]


def nonlinear(
    loss: Callable[[Tensor], Tensor],
    prediction: Callable[[Tensor], Tensor],
    minimum: Tensor,
    shift: float,
    steps: int = 30,
) -> float:
    """Rise of any loss under the same constraint, by Newton's method with full Hessians."""
    w, multiplier = minimum.clone(), torch.zeros((), dtype=minimum.dtype)
    target = prediction(minimum) + shift
    for _ in range(steps):
        gradient = torch.func.grad(prediction)(w)
        hessian = torch.func.hessian(lambda v, m=multiplier: loss(v) + m * prediction(v))(w)
        kkt = torch.zeros(len(w) + 1, len(w) + 1, dtype=w.dtype)
        kkt[:-1, :-1], kkt[:-1, -1], kkt[-1, :-1] = hessian, gradient, gradient
        slope = torch.func.grad(loss)(w) + multiplier * gradient
        right = -torch.cat([slope, (prediction(w) - target).reshape(1)])
        step = torch.linalg.solve(kkt, right)
        w, multiplier = w + step[:-1], multiplier + step[-1]
        if float(right.abs().max()) < 1e-14:
            return float(loss(w) - loss(minimum))
    raise AssertionError(f"the constrained training did not converge: {float(right.abs().max())}")
