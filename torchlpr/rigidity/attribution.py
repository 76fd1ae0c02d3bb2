r"""What a rigidity is made of: the shares of training structures, energies, forces and regulariser.

With v = H^-1 g and the rows r_m of R, each weighted as the loss weighs it,

.. math:: g^\top H^{-1} g = v^\top H v = \sum_m (r_m^\top v)^2 + v^\top \mathrm{diag}(\mu) \, v

so that each term, divided by the sum, is a share of the rigidity: LPR is the cheapest increase of
the loss for a unit change of the prediction, and the share is the part that this row pays. It is
also d ln(LPR)/d ln(c_m), the relative change of LPR with the weight of the row.
Source: derived here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from torchlpr.curvature import DenseRows, Factor, RowProducts, atomic_gradients, training_products
from torchlpr.curvature.factor import check_finite
from torchlpr.errors import InputError
from torchlpr.rigidity.prediction import quadratic_forms
from torchlpr.rigidity.rigidity import Rigidity
from torchlpr.structures.batch import AtomBatch

__all__ = ["Attribution", "attribute", "row_shares"]

# the matrix-free shape iterates to 1e-6, the exact ones are far better
SUM_ERROR = 1e-4


@dataclass(frozen=True)
class Attribution:
    """The shares in one rigidity; all of them together are one.

    Attributes:
        rigidity: 1/(g^T H^-1 g), 1/eV^2.
        energies: share of the energy of each training structure, shape (structures,).
        forces: share of the forces on its atoms, shape (structures,).
        regulariser: share of the regulariser: the mu-fraction.
    """

    rigidity: float
    energies: Tensor
    forces: Tensor
    regulariser: float

    @property
    def structures(self) -> Tensor:
        """Share of each training structure, energy and forces, shape (structures,)."""
        return self.energies + self.forces

    def half(self) -> int:
        """How few structures make up half of what the data contribute."""
        ordered = self.structures.sort(descending=True).values.cumsum(0)
        return int((ordered < 0.5 * ordered[-1]).sum()) + 1


def row_shares(
    factor: Factor, rows: RowProducts | Tensor, gradients: Tensor
) -> tuple[Tensor, Tensor]:
    """Shares of rows and of the regulariser in the rigidity of any predictions.

    Args:
        factor: of H = R^T R + diag(mu), in any shape.
        rows: R, shape (M, P), or its products.
        gradients: g of each prediction, shape (K, P).

    Returns:
        Shares of the rows, shape (K, M), and of the regulariser, shape (K,), that add up to one.
    """
    products = DenseRows(rows) if isinstance(rows, Tensor) else rows
    forms = quadratic_forms(factor, gradients)
    moved = products.forward(factor.solve(check_finite("gradient", gradients)))
    return moved.square() / forms.value.unsqueeze(1), forms.regulariser / forms.value


def attribute(
    rigidity: Rigidity, batch: AtomBatch, atom: int, train: AtomBatch | Iterable[AtomBatch]
) -> Attribution:
    """Shares of the training structures in the rigidity of one atomic energy.

    Exact for linear and kernel heads; for a network they are those of the Gauss-Newton Hessian
    at its weights. No row is stored: every shape of the factor can be asked.

    Args:
        rigidity: of the trained model.
        batch: any structures.
        atom: index of the atom in the batch.
        train: the structures that the rigidity was built with, at once or in parts; with the
            derivatives of their features where forces weigh.

    Returns:
        The shares, in the order of the training structures.

    Raises:
        InputError: if there is no such atom, or the shares do not add up to one because ``train``
            is not what the rigidity was built with.
    """
    if not 0 <= atom < len(batch):
        raise InputError(f"there is no atom {atom}: give 0 to {len(batch) - 1}")
    model, objective, subset = rigidity.model, rigidity.objective, rigidity.subset
    one = slice(atom, atom + 1)
    g = atomic_gradients(model, batch.features[one], batch.types[one], subset)
    forms = quadratic_forms(rigidity.factor, g)
    value, v = float(forms.value), rigidity.factor.solve(g)
    energies, forces = [g.new_zeros(0)], [g.new_zeros(0)]
    for part in [train] if isinstance(train, AtomBatch) else train:
        moved = training_products(model, part, objective, subset).forward(v).squeeze(0)
        shares, n = moved.square() / value, part.n_structures
        owner = part.structure[objective.force_atoms(part)].repeat_interleave(3)
        energies.append(shares[:n])
        forces.append(shares.new_zeros(n).index_add_(0, owner, shares[n:]))
    found = Attribution(
        1 / value, torch.cat(energies), torch.cat(forces), float(forms.regulariser) / value
    )
    total = float(found.structures.sum()) + found.regulariser
    if not abs(total - 1) <= SUM_ERROR:
        raise InputError(
            f"the shares of these {len(found.energies)} structures add up to {total:.6f} instead "
            "of 1: they are not the structures that the rigidity was built with; give those"
        )
    return found
