"""Derivatives of local prediction rigidities by positions and cell."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeAlias

import ase
import torch
from torch import Tensor

from torchlpr.descriptors.gradients import feature_gradients
from torchlpr.errors import InputError
from torchlpr.export.run import Run, load
from torchlpr.rigidity.gradient import rigidity_by_features

__all__ = ["LprGradient", "Target", "lpr_gradient", "weights_of"]

#: one atom, the weight of every atom in a sum, or a function of all rigidities
Target: TypeAlias = "int | Tensor | Callable[[Tensor], Tensor]"


class LprGradient(NamedTuple):
    """A scalar f of the rigidities of a structure, with its derivatives.

    Attributes:
        value: f; eV^-2 where it is a sum of rigidities.
        lpr: rigidity of every atom, 1/eV^2, shape (atoms,).
        positions: df/dr, per Å, shape (atoms, 3).
        strain: df by a homogeneous strain r -> r (1 + strain) of positions and cell, shape
            (3, 3); zero for structures that are not periodic.
    """

    value: float
    lpr: Tensor
    positions: Tensor
    strain: Tensor

    def cell(self, atoms: ase.Atoms) -> Tensor:
        """Derivative by the lattice vectors, the atoms keeping their fractional coordinates.

        Args:
            atoms: the structure, periodic in all directions.

        Returns:
            df/dh with the lattice vectors as rows of h, per Å, shape (3, 3).
        """
        h = torch.from_numpy(atoms.cell.array).to(torch.float64)
        return torch.linalg.solve(h.mT, self.strain)


def lpr_gradient(run: str | Path | Run, atoms: ase.Atoms, of: Target) -> LprGradient:
    r"""How rigidities change with positions and cell.

    .. math::
        \frac{\partial \mathrm{LPR}_k}{\partial r} = -2 \, \mathrm{LPR}_k^2 \,
        \frac{\partial (v_k^\top g(x_k))}{\partial x_k} \frac{\partial x_k}{\partial r},
        \qquad v_k = H^{-1} g_k

    The training set and the weights, and so H, stay as they are. Following the gradient upwards
    leads to environments the training set knows, downwards to such as it does not; without an
    energy that keeps atoms apart that has no end.

    Source: derived here; rigidity: Chong et al., J. Chem. Theory Comput. 19, 8020 (2023).

    Args:
        run: folder that ``torchlpr fit`` wrote, its checkpoint file, or an open run.
        atoms: the structure.
        of: number of an atom, for its LPR; weights c of the sum of c_k LPR_k, shape (atoms,); or
            a differentiable function of the rigidities, shape (atoms,), that gives a number.

    Returns:
        The value and its derivatives, float64.

    Raises:
        InputError: if there is no such atom, or not one weight for each.
    """
    opened = run if isinstance(run, Run) else load(run)
    batch = opened.descriptor([atoms], progress=False)
    lpr = opened.rigidity.local(batch)
    value, weights = weights_of(of, lpr)
    positions = torch.zeros(len(atoms), 3, dtype=torch.float64)
    strain = torch.zeros(3, 3, dtype=torch.float64)
    for part in feature_gradients(opened.descriptor, atoms):
        chosen = weights[part.atoms]
        if not bool(chosen.any()):
            continue
        sensitivity = rigidity_by_features(
            opened.rigidity, part.features, batch.types[part.atoms], chosen
        )
        by_positions, by_strain = part.pull_back(sensitivity)
        positions += by_positions
        strain += by_strain
    return LprGradient(value, lpr, positions, strain)


def weights_of(of: Target, lpr: Tensor) -> tuple[float, Tensor]:
    """The scalar, and its derivatives by the rigidities.

    Args:
        of: as :func:`lpr_gradient` takes it.
        lpr: rigidities, shape (atoms,).

    Returns:
        f, and df/dLPR of shape (atoms,).

    Raises:
        InputError: if there is no such atom, or not one weight for each, or no number comes out.
    """
    if callable(of):
        moving = lpr.detach().clone().requires_grad_(True)
        with torch.enable_grad():
            f = of(moving)
        if not isinstance(f, Tensor) or f.numel() != 1 or not f.requires_grad:
            raise InputError(
                "a function of the rigidities must give a tensor of one number that depends on "
                "them, made by torch"
            )
        (weights,) = torch.autograd.grad(f.sum(), moving)
        return float(f.detach()), weights
    if isinstance(of, int):
        if not -len(lpr) <= of < len(lpr):
            raise InputError(f"there is no atom {of} among {len(lpr)}")
        weights = torch.zeros_like(lpr)
        weights[of] = 1.0
        return float(lpr[of]), weights
    weights = torch.as_tensor(of, dtype=torch.float64)
    if tuple(weights.shape) != (len(lpr),):
        raise InputError(
            f"weights must have shape ({len(lpr)},), one for each atom, not {tuple(weights.shape)}"
        )
    return float(weights @ lpr), weights
