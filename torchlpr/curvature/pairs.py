"""Some moved atoms with all the environments they take part in: what a force row is made of."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from torchlpr.structures.batch import AtomBatch
from torchlpr.structures.derivatives import Derivatives

__all__ = ["Pairs", "pairs_of_atoms"]


class Pairs(NamedTuple):
    """Derivatives of environments by the positions of n moved atoms, in float64.

    Attributes:
        features: of the environments, shape (environments, features).
        types: their atomic numbers, shape (environments,).
        centre: environment of each pair, shape (pairs,).
        moved: moved atom of each pair, in range(n), ascending, shape (pairs,).
        values: dx/dr in 1/Å, shape (pairs, 3, features).
        n_moved: n.
    """

    features: Tensor
    types: Tensor
    centre: Tensor
    moved: Tensor
    values: Tensor
    n_moved: int

    def of_type(self, z: int) -> Pairs:
        """Those whose environment is of one species, all environments kept."""
        chosen = self.types[self.centre] == z
        if bool(chosen.all()):
            return self
        return self._replace(
            centre=self.centre[chosen], moved=self.moved[chosen], values=self.values[chosen]
        )

    @property
    def counts(self) -> Tensor:
        """Pairs of each moved atom, shape (n,)."""
        return torch.bincount(self.moved, minlength=self.n_moved)

    def sum(self, values: Tensor) -> Tensor:
        """Sums over the pairs of each moved atom, shape (pairs, ...) to (n, ...)."""
        return values.new_zeros(self.n_moved, *values.shape[1:]).index_add_(0, self.moved, values)


def pairs_of_atoms(batch: AtomBatch, derivatives: Derivatives, atoms: Tensor) -> Pairs:
    """The pairs in which some atoms are moved.

    Args:
        batch: the structures.
        derivatives: of their features.
        atoms: the moved atoms, ascending, at least one.

    Returns:
        The pairs.
    """
    within = derivatives.pairs_of(int(atoms[0]), int(atoms[-1]) + 1)
    centre, moved, values = (
        getattr(derivatives, name)[within] for name in ("centre", "moved", "values")
    )
    if int(atoms[-1]) - int(atoms[0]) + 1 != len(atoms):  # others lie in between
        chosen = torch.isin(moved, atoms)
        centre, moved, values = centre[chosen], moved[chosen], values[chosen]
    environments, centre = torch.unique(centre, return_inverse=True)
    return Pairs(
        batch.features[environments].to(torch.float64),
        batch.types[environments],
        centre,
        torch.searchsorted(atoms, moved),
        values.to(torch.float64),
        len(atoms),
    )
