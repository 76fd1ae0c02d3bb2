"""The definition of rigidity in 80 decimal digits."""

import numpy as np
from mpmath import mp, mpf

__all__ = ["DIGITS", "prediction_rigidity"]

DIGITS = 80


def prediction_rigidity(rows, gradients, mu) -> np.ndarray:
    """1 / g^T (R^T R + diag(mu))^-1 g from the definition, rounded to float64 at the very end.

    Floats are taken as the exact binary numbers they are.
    """
    matrix, vectors = _exact(rows), _exact(gradients)
    parameters = len(vectors[0])
    diagonal = [mpf(float(m)) for m in np.broadcast_to(np.asarray(mu), (parameters,))]
    with mp.workdps(DIGITS):
        hessian = mp.matrix(parameters, parameters)
        for i in range(parameters):
            for j in range(i + 1):
                hessian[i, j] = hessian[j, i] = mp.fdot((row[i], row[j]) for row in matrix)
            hessian[i, i] += diagonal[i]
        lower = mp.cholesky(hessian).tolist()
        return np.array([float(1 / _squared_norm(_forward(lower, g))) for g in vectors])


def _exact(matrix) -> list[list[mpf]]:
    return [[mpf(float(x)) for x in row] for row in np.asarray(matrix)]


def _forward(lower, right) -> list:
    """Solve L y = g by forward substitution."""
    y: list = []
    for i, value in enumerate(right):
        y.append((value - mp.fdot(zip(lower[i][:i], y, strict=True))) / lower[i][i])
    return y


def _squared_norm(vector):
    return mp.fdot((x, x) for x in vector)
