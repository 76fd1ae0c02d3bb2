"""Molecular dynamics and optimisation pulled towards atoms that the training set does not know."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from ase import Atoms
from ase.calculators.calculator import all_changes
from torch import Tensor

from torchlpr.errors import InputError
from torchlpr.export.calculator import Calculator
from torchlpr.export.lpr_gradient import weights_of
from torchlpr.export.run import Run
from torchlpr.rigidity.gradient import rigidity_by_features

__all__ = ["BiasedCalculator", "mean_log", "soft_minimum"]


def soft_minimum(lpr: Tensor, sharpness: float = 1.0) -> Tensor:
    r"""Logarithm of a smooth minimum.

    .. math:: -\frac1\beta \ln \langle \mathrm{LPR}^{-\beta} \rangle

    Args:
        lpr: rigidities in 1/eV^2, shape (atoms,).
        sharpness: beta; the larger, the closer to the minimum, which it never falls below.

    Returns:
        A number.
    """
    log = -sharpness * lpr.log()
    return -(torch.logsumexp(log, dim=0) - math.log(len(lpr))) / sharpness


def mean_log(lpr: Tensor) -> Tensor:
    """Mean logarithm of rigidities in 1/eV^2, shape (atoms,) to ()."""
    return lpr.log().mean()


class BiasedCalculator(Calculator):
    r"""A run whose energy is lowered where rigidity is low.

    .. math:: E_b = E + \kappa \, f(\mathrm{LPR})

    with f the logarithm of a soft minimum of the rigidities by default. With a positive kappa the
    dynamics explores: it is driven towards atoms that the training set does not know, up to where
    the energy stops it; with a negative one it stays with what is known. Forces and stress are
    the derivatives of E_b.

    Results as of :class:`Calculator`, energy, free_energy, forces and stress with the bias; and
    "bias" (eV), the second term, and "unbiased_energy" (eV). ``energies`` of the atoms are the
    model's own.

    Args:
        run: folder that ``torchlpr fit`` wrote, its checkpoint file, or an open run.
        kappa: strength of the bias in eV for a factor of e in rigidity.
        function: "soft-minimum", "mean-log", or a differentiable function of the rigidities,
            shape (atoms,), that gives a number.
        sharpness: of the soft minimum, see :func:`soft_minimum`.

    Raises:
        InputError: if kappa or the sharpness is no number, or the function is unknown.
    """

    implemented_properties: list[str] = [  # noqa: RUF012 (ASE wants a list)
        *Calculator.implemented_properties, "bias", "unbiased_energy"
    ]  # fmt: skip

    def __init__(
        self,
        run: str | Path | Run,
        kappa: float,
        function: Literal["soft-minimum", "mean-log"] | Callable[[Tensor], Tensor] = "soft-minimum",
        sharpness: float = 1.0,
    ) -> None:
        if not math.isfinite(kappa):
            raise InputError(f"kappa must be a finite number of eV, not {kappa}")
        if not (math.isfinite(sharpness) and sharpness > 0):
            raise InputError(f"sharpness must be positive, not {sharpness}")
        known: dict[str, Callable[[Tensor], Tensor]] = {
            "soft-minimum": partial(soft_minimum, sharpness=sharpness),
            "mean-log": mean_log,
        }
        if not callable(function) and function not in known:
            raise InputError(f"function {function!r} is unknown; use one of {[*known]}")
        super().__init__(run, lpr=False)
        self.kappa = kappa
        self.function: Callable[[Tensor], Tensor]
        self.function = function if callable(function) else known[function]
        self._weights = torch.empty(0)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Compute what ASE asks for into ``results``.

        Args:
            atoms: the structure.
            properties: names of results; forces and stress come together.
            system_changes: what ASE found changed.
        """
        structure = self.atoms if atoms is None else atoms
        assert structure is not None
        self._check_types(structure)
        batch = self.run.descriptor([structure], progress=False)
        rigidity = self._rigidity(structure, batch)
        value, self._weights = weights_of(self.function, torch.from_numpy(rigidity["lpr"]))
        super().calculate(atoms, properties, system_changes)
        energy, bias = self.results["energy"], self.kappa * value
        self.results |= rigidity
        self.results |= {"unbiased_energy": energy, "bias": bias}
        self.results |= {"energy": energy + bias, "free_energy": energy + bias}

    def _differentiate(self, x: Tensor, types: Tensor, atoms: slice) -> tuple[Tensor, Tensor]:
        """Energies of the atoms, and the derivative of the biased energy by their features."""
        local, sensitivity = super()._differentiate(x, types, atoms)
        weights = self.kappa * self._weights[atoms]
        return local, sensitivity + rigidity_by_features(self.run.rigidity, x, types, weights)
