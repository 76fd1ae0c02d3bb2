r"""What an inexact alpha does to the residual form, and what takes it away.

With K = I + R diag(1/mu) R^T, r = g - R^T alpha and any alpha, the residual form is

    g^T H^-1 g ~ r^T diag(1/mu) r + |alpha|^2,   of which the first is the regulariser's share

With e = R diag(1/mu) r - alpha, which is zero for the exact alpha, its error is e^T K^-1 e, at
most |e|^2. Where K is ill-conditioned it is computed, driven down by refinement and subtracted.
The share has an error of first order, (2 alpha + K^-1 e + e)^T K^-1 e, which goes the same way.
What remains is the rounding of r: about eps sqrt(f lambda_max / mu) of a mu-fraction f, as the
rounding of g itself would do.
"""

from __future__ import annotations

from torch import Tensor

__all__ = ["MAX_REFINEMENTS", "REFINE_LIMIT", "VALUE_ERROR", "corrected"]

# beyond this eps * cond(K) may show in alpha, and the computed error bound is asked for
REFINE_LIMIT = 1e7
VALUE_ERROR = 1e-11  # of g^T H^-1 g, which an error of alpha enters squared
MAX_REFINEMENTS = 5


def corrected(
    value: Tensor, share: Tensor, alpha: Tensor, error: Tensor, step: Tensor
) -> tuple[Tensor, Tensor]:
    """The residual form for alpha + step, without its residual: the step enters the value squared.

    Args:
        value: g^T H^-1 g by the residual form, shape (k,).
        share: of the regulariser in it, shape (k,).
        alpha: where they were computed, shape (k, M).
        error: R diag(1/mu) r - alpha, shape (k, M).
        step: K^-1 error, shape (k, M).

    Returns:
        Value and share at alpha + step.
    """
    gained = (error * step).sum(1)
    return value - gained, share - gained - ((2 * alpha + step) * step).sum(1)
