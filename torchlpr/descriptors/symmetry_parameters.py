r"""Standard parameters of symmetry functions from a cutoff and a number of functions.

Sources: Imbalzano et al., J. Chem. Phys. 148, 241730 (2018), doi:10.1063/1.5024611; Gastegger et
al., J. Chem. Phys. 148, 241709 (2018), doi:10.1063/1.5019667; Behler, J. Chem. Phys. 134, 074106
(2011), doi:10.1063/1.3553717. The last gives the functions, the others rules for their parameters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, get_args

import numpy as np

from torchlpr.descriptors.hypers import check_index, check_length
from torchlpr.errors import InputError

__all__ = ["Style", "angular_parameters", "radial_parameters"]

Style = Literal["imbalzano-centred", "imbalzano-shifted", "gastegger-centred", "gastegger-shifted"]
#: exponents of Imbalzano et al.
ZETAS = (1.0, 4.0, 16.0)


def radial_parameters(
    cutoff: float, n: int, style: Style = "gastegger-shifted", lower: float = 0.5
) -> list[tuple[float, float]]:
    r"""Widths and centres of radial functions exp(-eta (r - shift)^2).

    - ``imbalzano-centred``: eta_m = (N^{m/N} / cutoff)^2 for m = 0..N with N = n - 1, shift 0.
    - ``imbalzano-shifted``: shift_m = cutoff / n^{m/n} for m = 1..n, and eta_m the inverse square
      of the distance to the next larger shift.
    - ``gastegger-centred``: on an even grid r_m from ``lower`` to the cutoff eta_m = 1/(2 r_m^2),
      shift 0.
    - ``gastegger-shifted``: shifts on that grid, eta = 1/(2 (grid spacing)^2).

    Args:
        cutoff: radius of an environment in Å.
        n: number of functions.
        style: rule, see above.
        lower: first point of Gastegger's grid in Å; no neighbour comes closer.

    Returns:
        Pairs (eta in 1/Å^2, shift in Å), by increasing shift or eta.

    Raises:
        InputError: if the style is unknown, or there are too few functions for it.
    """
    cutoff, n = check_length("cutoff", cutoff), check_index("the number of radial functions", n)
    if style not in get_args(Style):
        raise InputError(f"style {style!r} is unknown; use one of {', '.join(get_args(Style))}")
    fewest = 3 if style == "imbalzano-centred" else 2  # two of those would be the same
    if n < fewest:
        raise InputError(f"a set of {style} functions has at least {fewest}, not {n}")
    if style == "imbalzano-centred":
        return _pairs(_etas(cutoff, n - 1, n), np.zeros(n))
    if style == "imbalzano-shifted":
        shifts = cutoff / n ** (np.arange(n + 1) / n)  # [0] is the cutoff itself
        etas = 1 / np.diff(shifts) ** 2
        return _pairs(etas[::-1], shifts[:0:-1])
    if not 0 < lower < cutoff:
        raise InputError(f"lower={lower} must lie between 0 and cutoff={cutoff}")
    grid = np.linspace(lower, cutoff, n)
    if style == "gastegger-centred":
        return _pairs(1 / (2 * grid[::-1] ** 2), np.zeros(n))
    return _pairs(np.full(n, 1 / (2 * (grid[1] - grid[0]) ** 2)), grid)


def angular_parameters(
    cutoff: float,
    n: int,
    zetas: Iterable[float] = ZETAS,
    lambdas: Sequence[float] = (-1.0, 1.0),
) -> list[tuple[float, float, float]]:
    """Parameters of angular functions: every eta with every zeta and lambda.

    Args:
        cutoff: radius of an environment in Å.
        n: number of values of eta, the smallest n of ``imbalzano-centred`` with N = n; 0 gives
            no functions.
        zetas: angular resolutions, at least 1.
        lambdas: signs of the cosine.

    Returns:
        Triples (eta in 1/Å^2, zeta, lambda).
    """
    cutoff, n = check_length("cutoff", cutoff), check_index("the number of angular etas", n)
    etas = map(float, _etas(cutoff, n, n)) if n else []
    shapes = [(float(zeta), float(sign)) for zeta in zetas for sign in lambdas]
    return [(eta, *shape) for eta in etas for shape in shapes]


def _etas(cutoff: float, intervals: int, n: int) -> np.ndarray:
    """The n smallest eta of Imbalzano's centred functions."""
    return (intervals ** (np.arange(n) / intervals) / cutoff) ** 2


def _pairs(etas: np.ndarray, shifts: np.ndarray) -> list[tuple[float, float]]:
    return [(float(eta), float(shift)) for eta, shift in zip(etas, shifts, strict=True)]
