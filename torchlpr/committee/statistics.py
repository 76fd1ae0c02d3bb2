"""Mean and variance over members, and the error bar of the variance of a finite committee."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from torchlpr.errors import InputError

__all__ = ["MemberStatistics", "chi_square_quantile"]


class MemberStatistics(NamedTuple):
    """What a committee says about some energies.

    Attributes:
        members: energies of each member in eV, shape (members, K).
    """

    members: Tensor

    @property
    def mean(self) -> Tensor:
        """Mean over members in eV, shape (K,)."""
        return self.members.mean(0)

    @property
    def variance(self) -> Tensor:
        """Unbiased variance s^2 over members (divisor B - 1) in eV^2, shape (K,)."""
        return self.members.var(0, correction=1)

    def variance_interval(self, confidence: float = 0.68) -> tuple[Tensor, Tensor]:
        r"""Interval that holds the variance of an infinite committee.

        .. math:: \frac{(B-1) s^2}{\chi^2_{B-1}(1/2 + c/2)} \le \sigma^2 \le
                  \frac{(B-1) s^2}{\chi^2_{B-1}(1/2 - c/2)}

        Exact where members are independent and Gaussian. Ten members leave a factor of 1.6 up
        and 0.7 down: smaller differences between variances are noise.

        Args:
            confidence: probability c that the interval holds the true variance.

        Returns:
            Lower and upper ends in eV^2, shape (K,) each.

        Raises:
            InputError: if the confidence is not between 0 and 1.
        """
        if not 0 < confidence < 1:
            raise InputError(f"confidence must lie between 0 and 1, not {confidence}")
        freedom = len(self.members) - 1
        low, high = (
            freedom / chi_square_quantile(0.5 + side * confidence / 2, freedom) for side in (1, -1)
        )
        return low * self.variance, high * self.variance

    @property
    def log_variance_error(self) -> float:
        """Standard deviation of ln s^2 for Gaussian members, sqrt(trigamma((B - 1)/2))."""
        half = torch.tensor((len(self.members) - 1) / 2, dtype=torch.float64)
        return math.sqrt(float(torch.special.polygamma(1, half)))


def chi_square_quantile(probability: float, freedom: int) -> float:
    """Value below which a chi-square variable falls with a probability, by bisection.

    Args:
        probability: between 0 and 1.
        freedom: degrees of freedom, at least 1.

    Returns:
        The quantile.
    """
    half = torch.tensor(freedom / 2, dtype=torch.float64)

    def below(x: float) -> float:
        return float(torch.special.gammainc(half, torch.tensor(x / 2, dtype=torch.float64)))

    low, high = 0.0, float(freedom)
    while below(high) < probability:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        if middle in {low, high}:
            break
        low, high = (middle, high) if below(middle) < probability else (low, middle)
    return (low + high) / 2
