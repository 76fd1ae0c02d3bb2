"""The plain-tensor door: rows, gradients and mu in, rigidities out."""

from __future__ import annotations

from torch import Tensor

from torchlpr.curvature import Factor, QuadraticForm, build
from torchlpr.curvature.factor import check_finite
from torchlpr.curvature.gauss_newton import Shape
from torchlpr.errors import InputError

__all__ = ["checked_forms", "checked_values", "prediction_rigidity", "quadratic_forms"]


def prediction_rigidity(
    rows: Tensor, gradients: Tensor, mu: float | Tensor, shape: Shape = "auto"
) -> Tensor:
    r"""Rigidity of any predictions that are differentiable in the weights.

    .. math:: \mathrm{PR}_k = \left(g_k^\top (R^\top R + \mu I)^{-1} g_k\right)^{-1}

    In the half convention L = 1/2 sum (residual)^2 + 1/2 mu |w|^2, where the rows R are the
    derivatives of the weighted residuals; then PR is the second derivative of the re-minimised
    loss with respect to the prediction. Differentiable with respect to ``rows`` and
    ``gradients``.

    Source: Chong et al., J. Chem. Theory Comput. 19, 8020 (2023), doi:10.1021/acs.jctc.3c00704.

    Args:
        rows: R, derivatives of the training predictions, shape (M, P), eV.
        gradients: g_k, derivatives of the predictions asked about, shape (K, P), eV.
        mu: strength of the L2 term, positive; a number, or one for each weight, shape (P,).
        shape: "auto", "row", "parameter", or "matrix-free" (to 1e-6, not differentiable), see
            :func:`torchlpr.curvature.build`.

    Returns:
        Rigidities in 1/eV^2, shape (K,), float64 whatever the input's dtype.

    Raises:
        InputError: if shapes disagree, a number is not finite, mu is not positive, or a
            gradient is zero (nothing the weights do moves that prediction: its rigidity is
            infinite).
    """
    if rows.ndim == 2 and gradients.ndim == 2 and rows.shape[1] != gradients.shape[1]:
        raise InputError(
            f"rows have {rows.shape[1]} parameters and gradients {gradients.shape[1]}; "
            "both must be derivatives with respect to the same weights"
        )
    return 1.0 / quadratic_forms(build(rows, mu, shape), gradients).value


def quadratic_forms(factor: Factor, gradients: Tensor) -> QuadraticForm:
    """Checked quadratic forms of gradients.

    Args:
        factor: the factorised Hessian.
        gradients: shape (K, P).

    Returns:
        Values and regulariser shares, shape (K,) each, values positive.

    Raises:
        InputError: if a gradient is not finite or zero.
    """
    return checked_forms(factor.quadratic_form(check_finite("gradient", gradients)))


def checked_forms(forms: QuadraticForm) -> QuadraticForm:
    """The forms, or an error naming the first that is zero.

    Args:
        forms: values of shape (..., K).

    Returns:
        The same.

    Raises:
        InputError: if a value is not positive.
    """
    checked_values(forms.value)
    return forms


def checked_values(values: Tensor) -> Tensor:
    """Quadratic forms g^T H^-1 g, or an error naming the first that is zero.

    Args:
        values: shape (..., K).

    Returns:
        The same.

    Raises:
        InputError: if one is not positive.
    """
    if not bool((values > 0).all()):
        k = int((values <= 0).nonzero()[0, -1])
        raise InputError(
            f"gradient {k} is zero (to double precision): that prediction does not depend on any "
            "weight, so its rigidity is infinite; leave it out"
        )
    return values
