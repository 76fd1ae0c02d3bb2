"""The one definition of the loss: what is trained is what is differentiated twice.

Half convention (SCIENCE of the method: Chong et al., J. Chem. Theory Comput. 19, 8020 (2023)):

    L(w) = 1/2 sum_A c (E_A/n_A - E~_A(w)/n_A)^2 + 1/2 mu |w|^2

Training takes :meth:`Objective.loss`; the curvature takes the very same row weights
(:meth:`Objective.row_scale`) and mu, so that the Gauss-Newton Hessian is R^T R + mu I.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from torchlpr.errors import InputError

__all__ = ["Objective"]


@dataclass(frozen=True)
class Objective:
    """Regularised least squares on total energies, in the half convention.

    Attributes:
        mu: strength of the L2 term 1/2 mu |w|^2, positive, eV^2 per squared weight unit.
        energy_weight: weight c of each energy row, dimensionless.
        per_atom: rows are energies per atom (each structure weighs the same whatever its size);
            False takes total energies.
    """

    mu: float
    energy_weight: float = 1.0
    per_atom: bool = True

    def __post_init__(self) -> None:
        for name in ("mu", "energy_weight"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise InputError(f"{name} must be a number, not {value!r}")
        if not (math.isfinite(self.mu) and self.mu > 0):
            raise InputError(
                f"mu must be a positive number, not {self.mu}: without the L2 term the weights "
                "that no training row touches have no minimum and no rigidity"
            )
        if not (math.isfinite(self.energy_weight) and self.energy_weight > 0):
            raise InputError(f"energy_weight must be a positive number, not {self.energy_weight}")

    def row_scale(self, counts: Tensor) -> Tensor:
        """Factor sqrt(c)/n_A that turns a total into a row.

        Args:
            counts: atoms of each structure, shape (structures,).

        Returns:
            Scale of each row, shape (structures,), float64.
        """
        scale = torch.full(counts.shape, math.sqrt(self.energy_weight), dtype=torch.float64)
        scale = scale.to(counts.device)
        return scale / counts if self.per_atom else scale

    def residuals(
        self, local: Tensor, structure: Tensor, counts: Tensor, energies: Tensor
    ) -> Tensor:
        """Weighted residuals sqrt(c) (E~_A - E_A)/n_A of the energy rows.

        Args:
            local: predicted atomic energies in eV, shape (atoms,).
            structure: structure index of each atom, shape (atoms,).
            counts: atoms of each structure, shape (structures,).
            energies: total energies in eV, shape (structures,).

        Returns:
            Residuals in eV, shape (structures,), differentiable in ``local``.

        Raises:
            InputError: if energies and counts differ in shape.
        """
        if energies.shape != counts.shape:
            raise InputError(
                f"energies have shape {tuple(energies.shape)}, one each of the {len(counts)} "
                "structures was expected"
            )
        atoms = local.to(energies.dtype)
        totals = atoms.new_zeros(len(counts)).index_add(0, structure, atoms)
        return (totals - energies) * self.row_scale(counts).to(atoms)

    def data_loss(self, residuals: Tensor) -> Tensor:
        """1/2 sum of squared weighted residuals, in eV^2, scalar."""
        return 0.5 * residuals.square().sum()

    def penalty(self, parameters: Iterable[Tensor]) -> Tensor:
        """1/2 mu |w|^2 over the given parameters, in eV^2, scalar."""
        squares = [p.square().sum() for p in parameters]
        return 0.5 * self.mu * torch.stack(squares).sum() if squares else torch.zeros(())

    def as_dict(self) -> dict[str, float | bool]:
        """The plain settings, as checkpoints store them."""
        return asdict(self)
