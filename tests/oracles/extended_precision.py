"""The definition of rigidity in 80 decimal digits."""

import numpy as np
from mpmath import mp, mpf

__all__ = ["DIGITS", "forms", "prediction_rigidity"]

DIGITS = 80


def prediction_rigidity(rows, gradients, mu) -> np.ndarray:
    """1 / g^T (R^T R + diag(mu))^-1 g from the definition, rounded to float64 at the very end.

    Floats are taken as the exact binary numbers they are.
    """
    with mp.workdps(DIGITS):
        lower, _ = _cholesky(_exact(rows), len(np.asarray(gradients)[0]), mu)
        return np.array([float(1 / _squared_norm(_forward(lower, g))) for g in _exact(gradients)])


def forms(rows, gradients, mu) -> tuple[np.ndarray, np.ndarray]:
    """g^T v and v^T diag(mu) v with v = (R^T R + diag(mu))^-1 g."""
    values, shares = [], []
    with mp.workdps(DIGITS):
        lower, diagonal = _cholesky(_exact(rows), len(np.asarray(gradients)[0]), mu)
        for g in _exact(gradients):
            half = _forward(lower, g)
            v = _backward(lower, half)
            values.append(float(_squared_norm(half)))
            shares.append(float(mp.fsum(m * x * x for m, x in zip(diagonal, v, strict=True))))
    return np.array(values), np.array(shares)


def _cholesky(matrix, parameters: int, mu) -> tuple[list, list]:
    """Lower factor of R^T R + diag(mu), and the exact mu."""
    diagonal = [mpf(float(m)) for m in np.broadcast_to(np.asarray(mu), (parameters,))]
    hessian = mp.matrix(parameters, parameters)
    for i in range(parameters):
        for j in range(i + 1):
            hessian[i, j] = hessian[j, i] = mp.fdot((row[i], row[j]) for row in matrix)
        hessian[i, i] += diagonal[i]
    return mp.cholesky(hessian).tolist(), diagonal


def _exact(matrix) -> list[list[mpf]]:
    return [[mpf(float(x)) for x in row] for row in np.asarray(matrix)]


def _forward(lower, right) -> list:
    """Solve L y = g by forward substitution."""
    y: list = []
    for i, value in enumerate(right):
        y.append((value - mp.fdot(zip(lower[i][:i], y, strict=True))) / lower[i][i])
    return y


def _backward(lower, right) -> list:
    """Solve L^T y = g by backward substitution."""
    n = len(right)
    y: list = [mpf(0)] * n
    for i in reversed(range(n)):
        rest = mp.fdot((lower[j][i], y[j]) for j in range(i + 1, n))
        y[i] = (right[i] - rest) / lower[i][i]
    return y


def _squared_norm(vector):
    return mp.fdot((x, x) for x in vector)
