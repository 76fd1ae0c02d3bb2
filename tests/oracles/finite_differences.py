"""Central differences."""

from collections.abc import Callable

import numpy as np

__all__ = ["gradient", "hessian"]


def gradient(function: Callable[[np.ndarray], float], x: np.ndarray, step=1e-5) -> np.ndarray:
    """Central differences with one Richardson step, error O(step^4)."""

    def central(h: float) -> np.ndarray:
        return np.array([
            (function(x + h * e) - function(x - h * e)) / (2 * h) for e in np.eye(len(x))
        ])

    return (4 * central(step) - central(2 * step)) / 3


def hessian(grad: Callable[[np.ndarray], np.ndarray], x: np.ndarray, step=1e-4) -> np.ndarray:
    """Central differences of a gradient with one Richardson step, symmetrised."""

    def central(h: float) -> np.ndarray:
        return np.array([(grad(x + h * e) - grad(x - h * e)) / (2 * h) for e in np.eye(len(x))])

    h = (4 * central(step) - central(2 * step)) / 3
    return (h + h.T) / 2
