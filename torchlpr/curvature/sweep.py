"""A sweep over mu: one decomposition, and exact factors of their own below its reach."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from torchlpr.curvature.factor import QuadraticForm, UpdatableFactor
from torchlpr.errors import InputError

__all__ = ["Sweep"]


class Sweep:
    """Quadratic forms of one set of rows at several strengths of the regulariser.

    Args:
        factor: in row space or parameter space.
        mus: strengths, positive; a vector mu of the factor is multiplied by each.

    Raises:
        InputError: if a strength is not positive, or out of the reach of a factor that keeps
            no rows.
    """

    def __init__(self, factor: UpdatableFactor, mus: Sequence[float]) -> None:
        self.mus = [float(mu) for mu in mus]
        if not self.mus:
            raise InputError("a sweep needs at least one mu")
        for mu in self.mus:
            if not (math.isfinite(mu) and mu > 0):
                raise InputError(f"mu must be a positive number, not {mu}")
        self._spectrum = factor.spectrum()
        self._shared = [i for i, mu in enumerate(self.mus) if self._spectrum.accurate(mu)]
        beyond = set(range(len(self.mus))) - set(self._shared)
        self._own = {i: factor.at(self.mus[i]) for i in sorted(beyond)}

    def quadratic_forms(self, gradients: Tensor) -> QuadraticForm:
        """g^T H^-1 g at every mu.

        Args:
            gradients: shape (K, P), float64.

        Returns:
            Values and regulariser shares, shape (mus, K) each.
        """
        shared = [self.mus[i] for i in self._shared]
        forms = self._spectrum.quadratic_forms(gradients, shared)
        if not self._own:
            return forms
        value, share = (torch.empty(len(self.mus), len(gradients)).to(g) for g in forms)
        value[self._shared], share[self._shared] = forms
        for i, factor in self._own.items():
            value[i], share[i] = factor.quadratic_form(gradients)
        return QuadraticForm(value, share)
