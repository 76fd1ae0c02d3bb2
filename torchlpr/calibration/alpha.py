r"""The scale alpha that turns rigidities into standard deviations.

    sigma_A = alpha / sqrt(PR_A)

where PR_A is the rigidity of the energy that the error r_A is of, in the same averaging.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from torchlpr.errors import InputError

__all__ = ["Alpha", "Method", "check_method", "fit_alpha"]

Method = Literal["likelihood", "absolute", "crps"]

BISECTIONS = 200  # of an interval in ln(alpha); ends at rounding long before


class Alpha(NamedTuple):
    """A calibrated scale.

    Attributes:
        value: alpha, in units of 1/sqrt(row weight): eV where a rigidity is in 1/eV^2 of a
            weight of one.
        error: its standard error from the spread of the data, no distribution assumed.
        n: number of errors it is from.
    """

    value: float
    error: float
    n: int


def check_method(method: str) -> None:
    """Refuse a method that there is not.

    Args:
        method: what the user gave.

    Raises:
        InputError: if it is unknown.
    """
    if method not in get_args(Method):
        raise InputError(f"method {method!r} is unknown; use one of {', '.join(get_args(Method))}")


def fit_alpha(errors: Tensor, rigidity: Tensor, method: Method = "likelihood") -> Alpha:
    r"""Scale of the uncertainties from errors at structures that were not trained on.

    With z = r sqrt(PR):

    - "likelihood": :math:`\alpha^2 = \overline{z^2}`, the maximum of the Gaussian likelihood;
    - "absolute": :math:`\alpha = \sqrt{\pi/2} \; \overline{|z|}`, less moved by outliers;
    - "crps": minimum of the mean continuous ranked probability score of N(0, alpha^2/PR), which
      weighs the structures with large uncertainties more.

    Source: Bigi et al., Mach. Learn.: Sci. Technol. 5, 045018 (2024), arXiv:2403.02251, for
    alpha by likelihood; Gneiting and Raftery, J. Am. Stat. Assoc. 102, 359 (2007), for the score.

    Args:
        errors: predicted minus reference, shape (N,), eV.
        rigidity: of the same predictions, shape (N,), 1/eV^2.
        method: "likelihood", "absolute" or "crps".

    Returns:
        Alpha with its standard error.

    Raises:
        InputError: if the method is unknown, shapes disagree, a number is not finite, a
            rigidity is not positive, or the errors are zero.
    """
    check_method(method)
    r, pr = errors.to(torch.float64), rigidity.to(torch.float64)
    if r.ndim != 1 or r.shape != pr.shape or not len(r):
        raise InputError(
            f"errors and rigidities must be vectors of one length, not {tuple(r.shape)} and "
            f"{tuple(pr.shape)}"
        )
    if not bool(torch.isfinite(r).all()) or not bool((torch.isfinite(pr) & (pr > 0)).all()):
        raise InputError("errors must be finite and rigidities positive; look at the structures")
    if not bool((r != 0).any()):
        raise InputError("all errors are zero: there is no scale of uncertainty in them")
    return METHODS[method](r, pr)


def _likelihood(r: Tensor, pr: Tensor) -> Alpha:
    squares = r.square() * pr
    alpha = math.sqrt(float(squares.mean()))
    return Alpha(alpha, _standard_error(squares) / (2 * alpha), len(r))


def _absolute(r: Tensor, pr: Tensor) -> Alpha:
    scaled = math.sqrt(math.pi / 2) * r.abs() * pr.sqrt()
    return Alpha(float(scaled.mean()), _standard_error(scaled), len(r))


def _crps(r: Tensor, pr: Tensor) -> Alpha:
    """Root of the derivative sum_A s_A (2 phi(r_A/(alpha s_A)) - 1/sqrt(pi)), which rises."""
    s = pr.rsqrt()
    z = (r / s).abs()

    def slopes(alpha: float) -> Tensor:
        normal = torch.exp(-0.5 * (z / alpha).square()) / math.sqrt(2 * math.pi)
        return s * (2 * normal - 1 / math.sqrt(math.pi))

    low, high = math.log(float(z[z > 0].min())) - 10, math.log(float(z.max())) + 10
    if float(slopes(math.exp(low)).sum()) >= 0:
        raise InputError(
            "so many errors are zero that the CRPS is best without uncertainty; "
            "use method='likelihood'"
        )
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if float(slopes(math.exp(middle)).sum()) > 0 else (middle, high)
    alpha = math.exp(high)
    omega = (z / alpha).square()
    curvature = (s * 2 * omega * torch.exp(-0.5 * omega) / math.sqrt(2 * math.pi) / alpha).sum()
    return Alpha(alpha, float(slopes(alpha).square().sum().sqrt() / curvature), len(r))


def _standard_error(values: Tensor) -> float:
    """Standard error of a mean; infinite for a single value."""
    return float(values.std() / math.sqrt(len(values))) if len(values) > 1 else math.inf


METHODS: dict[Method, Callable[[Tensor, Tensor], Alpha]] = {
    "likelihood": _likelihood,
    "absolute": _absolute,
    "crps": _crps,
}
