"""The one definition of the loss: what is trained is what is differentiated twice.

Half convention (SCIENCE of the method: Chong et al., J. Chem. Theory Comput. 19, 8020 (2023)):

    L(w) = 1/2 sum_A c_E (E_A/n_A - E~_A(w)/n_A)^2 + 1/2 sum_i c_F |F_i - F~_i(w)|^2
           + 1/2 mu |w|^2

Training takes :meth:`Objective.batch_residuals`; the curvature takes the very same row weights
(:meth:`Objective.row_scale`, :attr:`Objective.force_scale`) and mu, so that the Gauss-Newton
Hessian is R^T R + mu I. Energy rows come first, then three rows for each atom with a force.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from torchlpr.errors import InputError
from torchlpr.structures.batch import AtomBatch
from torchlpr.structures.derivative_products import pull_back

__all__ = ["Objective", "predict"]


@dataclass(frozen=True)
class Objective:
    """Regularised least squares on energies, and on forces where they weigh, half convention.

    A loss of means, mean_A (dE/n)^2 + f mean_i (dF_i)^2 + l |w|^2 over N structures and n_F
    components of forces, is this one times 2/N with force_weight = f N/n_F and mu = l N.

    Attributes:
        mu: strength of the L2 term 1/2 mu |w|^2, positive, eV^2 per squared weight unit.
        energy_weight: weight c_E of each energy row, dimensionless.
        per_atom: rows are energies per atom (each structure weighs the same whatever its size);
            False takes total energies.
        force_weight: weight c_F of each component of a force, Å^2; 0 for energies alone.
    """

    mu: float
    energy_weight: float = 1.0
    per_atom: bool = True
    force_weight: float = 0.0

    def __post_init__(self) -> None:
        for name in ("mu", "energy_weight", "force_weight"):
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
        if not (math.isfinite(self.force_weight) and self.force_weight >= 0):
            raise InputError(
                f"force_weight must be a positive number, or 0 for energies alone, not "
                f"{self.force_weight}"
            )

    def row_scale(self, counts: Tensor) -> Tensor:
        """Factor sqrt(c_E)/n_A that turns a total into a row.

        Args:
            counts: atoms of each structure, shape (structures,).

        Returns:
            Scale of each row, shape (structures,), float64.
        """
        scale = torch.full(counts.shape, math.sqrt(self.energy_weight), dtype=torch.float64)
        scale = scale.to(counts.device)
        return scale / counts if self.per_atom else scale

    @property
    def force_scale(self) -> float:
        """Factor sqrt(c_F) that turns a component of a force into a row, Å."""
        return math.sqrt(self.force_weight)

    def force_atoms(self, batch: AtomBatch) -> Tensor:
        """Atoms whose forces are rows: those with forces, or all where the batch has no forces.

        Args:
            batch: training structures, or structures that might become some.

        Returns:
            Indices of atoms, ascending; none where forces do not weigh.

        Raises:
            InputError: if forces weigh and the batch lacks the derivatives of its features.
        """
        atoms = torch.arange(len(batch), device=batch.types.device)
        if not self.force_weight:
            return atoms[:0]
        if batch.derivatives is None:
            raise InputError(
                f"forces weigh {self.force_weight}, but this batch has no derivatives of its "
                "features; describe the structures with derivatives=True, or set force_weight=0"
            )
        return atoms if batch.forces is None else atoms[~torch.isnan(batch.forces[:, 0])]

    def n_rows(self, batch: AtomBatch) -> int:
        """Number of rows of a batch: its structures, and three for each atom with a force."""
        return batch.n_structures + 3 * len(self.force_atoms(batch))

    def targets(self, batch: AtomBatch) -> Tensor:
        """Weighted labels of all rows, energies first.

        Args:
            batch: training structures with energies, and forces where they weigh.

        Returns:
            Shape (rows,), float64, eV.
        """
        energies = batch.labels() * self.row_scale(batch.counts)
        if not self.force_weight:
            return energies
        atoms = self.force_atoms(batch)
        return torch.cat([energies, self.force_scale * _forces(batch)[atoms].reshape(-1)])

    def batch_residuals(
        self, model: Callable[[Tensor, Tensor], Tensor], batch: AtomBatch
    ) -> Tensor:
        """Weighted residuals (predicted minus label) of all rows, energies first.

        Args:
            model: maps (features, types) to atomic energies; differentiable by its features
                where forces weigh.
            batch: training structures with energies, and forces where they weigh.

        Returns:
            Shape (rows,), eV, differentiable in the weights of the model as often as it is.
        """
        labels, counts = batch.labels(), batch.counts
        if not self.force_weight:
            local = model(batch.features, batch.types)
            return self.residuals(local, batch.structure, counts, labels)
        targets, atoms = _forces(batch), self.force_atoms(batch)
        local, forces = predict(model, batch)
        errors = (forces[atoms].to(targets.dtype) - targets[atoms]).reshape(-1)
        energies = self.residuals(local, batch.structure, counts, labels)
        return torch.cat([energies, self.force_scale * errors])

    def residuals(
        self, local: Tensor, structure: Tensor, counts: Tensor, energies: Tensor
    ) -> Tensor:
        """Weighted residuals sqrt(c_E) (E~_A - E_A)/n_A of the energy rows.

        Args:
            local: predicted atomic energies in eV, shape (..., atoms).
            structure: structure index of each atom, shape (atoms,).
            counts: atoms of each structure, shape (structures,).
            energies: total energies in eV, shape (..., structures).

        Returns:
            Residuals in eV, shape (..., structures), differentiable in ``local``.

        Raises:
            InputError: if energies and counts differ in shape.
        """
        if energies.shape != (*local.shape[:-1], len(counts)):
            raise InputError(
                f"energies have shape {tuple(energies.shape)} and atomic energies "
                f"{tuple(local.shape)}; one each of the {len(counts)} structures and "
                f"{len(structure)} atoms was expected"
            )
        atoms = local.to(energies.dtype)
        totals = torch.zeros_like(energies).index_add(-1, structure, atoms)
        return (totals - energies) * self.row_scale(counts).to(atoms)

    def data_loss(self, residuals: Tensor) -> Tensor:
        """1/2 sum of squared weighted residuals, shape (..., rows) to (...,), in eV^2."""
        return 0.5 * residuals.square().sum(-1)

    def penalty(self, parameters: Iterable[Tensor]) -> Tensor:
        """1/2 mu |w|^2 over the given parameters, in eV^2, scalar."""
        squares = [p.square().sum() for p in parameters]
        return 0.5 * self.mu * torch.stack(squares).sum() if squares else torch.zeros(())

    def as_dict(self) -> dict[str, float | bool]:
        """The plain settings, as checkpoints store them."""
        return asdict(self)


def predict(model: Callable[[Tensor, Tensor], Tensor], batch: AtomBatch) -> tuple[Tensor, Tensor]:
    r"""Atomic energies and forces, :math:`F_i = -\sum_k (dE/dx_k) \cdot (dx_k/dr_i)`.

    Args:
        model: maps (features, types) to atomic energies, each of its own atom's features.
        batch: structures with derivatives of their features.

    Returns:
        Energies in eV, shape (atoms,), and forces in eV/Å, shape (atoms, 3), both differentiable
        in the weights of the model.

    Raises:
        InputError: if there are no derivatives.
    """
    if batch.derivatives is None:
        raise InputError("forces need derivatives; describe the structures with derivatives=True")

    def total(features: Tensor) -> tuple[Tensor, Tensor]:
        local = model(features, batch.types)
        return local.sum(), local

    sensitivity, local = torch.func.grad(total, has_aux=True)(batch.features)
    return local, -pull_back(batch.derivatives, sensitivity)


def _forces(batch: AtomBatch) -> Tensor:
    if batch.forces is None:
        raise InputError(
            "this batch has no forces, which the objective weighs; read the structures with the "
            "right forces_key, or set force_weight=0"
        )
    return batch.forces
