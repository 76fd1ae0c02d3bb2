"""Heads that are linear in their parameters: energies are a basis times weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from torchlpr.structures.species import atoms_of_each_type, in_atom_order, normalise_types

__all__ = ["LinearInParameters", "LinearModel"]


class LinearInParameters(nn.Module, ABC):
    """A head with one weight vector w and atomic energies basis(x) . w.

    The basis is at once the design matrix of the closed-form fit and the gradient of each
    atomic energy with respect to the weights.
    """

    weight: nn.Parameter

    @abstractmethod
    def basis(self, features: Tensor, types: Tensor) -> Tensor:
        """Basis functions of each atom, shape (atoms, parameters)."""

    def forward(self, features: Tensor, types: Tensor) -> Tensor:
        """Atomic energies.

        Args:
            features: shape (atoms, features).
            types: atomic numbers, shape (atoms,).

        Returns:
            Atomic energies in eV, shape (atoms,).
        """
        basis = self.basis(features, types)
        return (basis @ self.weight.to(basis.dtype)).to(self.weight.dtype)


class LinearModel(LinearInParameters):
    r"""Linear head with separate weights for each species, no intercept.

    .. math:: \tilde y_k = x_k \cdot w_{z_k}

    Args:
        n_features: length of an atom's feature vector.
        types: atomic numbers or symbols of the species.
        dtype: floating-point type of the weights.
    """

    def __init__(
        self,
        n_features: int,
        types: Iterable[int | str],
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        self.n_features, self.types = n_features, normalise_types(types)
        self.weight = nn.Parameter(torch.zeros(len(self.types) * n_features, dtype=dtype))

    def basis(self, features: Tensor, types: Tensor) -> Tensor:
        """Features in the block of the atom's species, zero elsewhere.

        Args:
            features: shape (atoms, features).
            types: atomic numbers, shape (atoms,).

        Returns:
            Shape (atoms, species * features).
        """
        groups = atoms_of_each_type(types, self.types)
        if len(self.types) == 1:
            return features
        n = self.n_features
        parts = [
            nn.functional.pad(features[group], (s * n, (len(self.types) - 1 - s) * n))
            for s, group in enumerate(groups)
        ]
        return in_atom_order(parts, groups)

    def settings(self) -> dict[str, object]:
        """Plain constructor arguments, as checkpoints store them."""
        return {"n_features": self.n_features, "types": list(self.types)}
