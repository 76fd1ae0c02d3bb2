"""How two quantities of the same atoms go together: rank correlation and slope of logarithms."""

from __future__ import annotations

import numpy as np

from torchlpr.analysis.arrays import Floats, Values, as_floats, as_rigidity
from torchlpr.errors import InputError

__all__ = ["log_slope", "spearman"]


def spearman(x: Values, y: Values) -> float:
    """Rank correlation of two quantities; equal values share the mean of their ranks.

    Args:
        x: numbers, shape (n,).
        y: numbers, shape (n,).

    Returns:
        Spearman's coefficient, -1 to 1.

    Raises:
        InputError: if shapes disagree, there are fewer than two numbers, or all are equal.
    """
    first = as_floats(x, "x")
    ranks = [_ranks(first), _ranks(as_floats(y, "y", length=len(first)))]
    centred = [rank - rank.mean() for rank in ranks]
    norm = np.sqrt(np.square(centred[0]).sum() * np.square(centred[1]).sum())
    if not norm > 0:
        raise InputError("a rank correlation needs two numbers that differ, in x and in y")
    return float(centred[0] @ centred[1] / norm)


def log_slope(x: Values, y: Values) -> float:
    """Slope of log y against log x by least squares: the exponent if y is a power of x.

    Args:
        x: positive numbers, shape (n,).
        y: positive numbers, shape (n,).

    Returns:
        The slope.

    Raises:
        InputError: if shapes disagree, a number is not positive, or all x are equal.
    """
    logs = np.log(as_rigidity(x, "x"))
    centred = logs - logs.mean()
    if not np.ptp(logs) > 0:
        raise InputError("a slope needs two numbers x that differ")
    return float(centred @ np.log(as_rigidity(y, "y", length=len(logs))) / (centred @ centred))


def _ranks(values: Floats) -> Floats:
    """Ranks from 0 on."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    before = np.cumsum(counts) - counts
    return np.asarray((before + (counts - 1) / 2)[inverse], dtype=np.float64)
