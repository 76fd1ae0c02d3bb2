"""How well errors agree with the uncertainties predicted for them."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from torchlpr.errors import InputError

__all__ = ["Reliability", "miscalibration_area", "reliability"]


class Reliability(NamedTuple):
    """Agreement of errors with N(0, sigma^2).

    Attributes:
        nll: mean negative log likelihood; lower is better.
        crps: mean continuous ranked probability score in eV; lower is better.
        area: miscalibration area between 0 (calibrated) and 1/2.
        within: shares of errors within one, two and three sigma; 0.683, 0.954, 0.997 expected.
        rms_z: root mean square of error/sigma; 1 expected.
    """

    nll: float
    crps: float
    area: float
    within: tuple[float, float, float]
    rms_z: float


def reliability(errors: Tensor, sigma: Tensor) -> Reliability:
    r"""Scores of Gaussian uncertainties.

    .. math:: \mathrm{NLL} = \overline{\tfrac12 \ln 2\pi\sigma^2 + \tfrac12 z^2}, \qquad
        \mathrm{CRPS} = \overline{\sigma\left[z\,(2\Phi(z)-1) + 2\varphi(z)
        - 1/\sqrt\pi\right]}, \qquad z = r/\sigma

    Args:
        errors: r, shape (N,), eV.
        sigma: predicted standard deviations, positive, shape (N,), eV.

    Returns:
        The scores.

    Raises:
        InputError: if there is no error, shapes disagree or a sigma is not positive.
    """
    r, s = errors.to(torch.float64), sigma.to(torch.float64)
    if r.shape != s.shape or not r.numel() or not bool((s > 0).all()):
        raise InputError("errors need one positive sigma each")
    z = r / s
    normal = torch.exp(-0.5 * z.square()) / math.sqrt(2 * math.pi)
    inner = torch.erf(z / math.sqrt(2))  # 2 Phi(z) - 1
    crps = s * (z * inner + 2 * normal - 1 / math.sqrt(math.pi))
    nll = 0.5 * (2 * math.pi * s.square()).log() + 0.5 * z.square()
    share = [float((z.abs() <= n).to(torch.float64).mean()) for n in (1, 2, 3)]
    return Reliability(
        float(nll.mean()),
        float(crps.mean()),
        miscalibration_area(z),
        (share[0], share[1], share[2]),
        float(z.square().mean().sqrt()),
    )


def miscalibration_area(z: Tensor) -> float:
    r"""Area between the observed and the expected share of errors within central intervals.

    .. math:: \int_0^1 \left| \hat F(p) - p \right| dp

    with F(p) the share of errors inside the interval that should hold the share p. Integrated
    exactly: F is a staircase.

    Source: Tran et al., Mach. Learn.: Sci. Technol. 1, 025006 (2020),
    doi:10.1088/2632-2153/ab7e1a.

    Args:
        z: errors over sigma, shape (N,).

    Returns:
        The area, between 0 and 1/2.
    """
    n = len(z)
    inside = torch.erf(z.abs().to(torch.float64) / math.sqrt(2)).sort().values
    ends = torch.cat([inside.new_zeros(1), inside, inside.new_ones(1)])
    level = torch.arange(n + 1, dtype=torch.float64, device=z.device) / n
    # antiderivative of |level - p|
    primitive = [0.5 * (p - level) * (p - level).abs() for p in (ends[:-1], ends[1:])]
    return float((primitive[1] - primitive[0]).sum())
