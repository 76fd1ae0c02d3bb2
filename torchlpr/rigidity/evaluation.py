"""Rigidities as they are returned: with their validity, or between certified ends."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from torchlpr.curvature import Bounds, QuadraticForm

__all__ = ["Evaluation", "Interval"]


class Evaluation(NamedTuple):
    """Rigidities, each with its validity.

    Attributes:
        rigidity: 1/(g^T H^-1 g), 1/eV^2, shape (K,).
        mu_fraction: share r_k in (0, 1] of the regulariser in it, equal to
            d ln(rigidity)/d ln(mu), shape (K,). Near 1 the number is the regulariser's alone:
            the data say nothing about that prediction. Its error is absolute, from rounding of
            the gradients: about eps sqrt(r_k lambda_max / mu), lambda_max that of R^T R.
    """

    rigidity: Tensor
    mu_fraction: Tensor

    @classmethod
    def of(cls, forms: QuadraticForm) -> Evaluation:
        """From g^T H^-1 g and its regulariser's part."""
        return cls(1.0 / forms.value, forms.regulariser / forms.value)


class Interval(NamedTuple):
    """Rigidities between certified ends.

    Attributes:
        lower: lower end of the rigidity, 1/eV^2, shape (K,).
        upper: upper end; where the shape is an exact one, both are the rigidity itself.
        mu_fraction_lower: lower end of the mu-fraction, shape (K,).
        mu_fraction_upper: upper end of it.
    """

    lower: Tensor
    upper: Tensor
    mu_fraction_lower: Tensor
    mu_fraction_upper: Tensor

    @classmethod
    def of(cls, bounds: Bounds) -> Interval:
        """From the bounds of g^T H^-1 g and of its regulariser's part."""
        return cls(
            1.0 / bounds.upper,
            1.0 / bounds.lower,
            bounds.regulariser_lower / bounds.upper,
            (bounds.regulariser_upper / bounds.lower).clamp(max=1.0),
        )
