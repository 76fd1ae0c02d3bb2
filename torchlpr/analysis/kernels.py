"""The kernel between atomic environments in which kernel maps are drawn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from torchlpr.analysis.maps import blocks
from torchlpr.errors import InputError

__all__ = ["NormalisedKernel"]


@dataclass(frozen=True)
class NormalisedKernel:
    r"""The kernel :math:`(\hat x \cdot \hat x')^\zeta` with some reference atoms.

    Attributes:
        reference: normalised features of the reference atoms, shape (references, features).
        types: atomic numbers of the reference atoms, shape (references,), where atoms of
            different species have kernel zero; else None.
        zeta: power, 1 or more.
    """

    reference: Tensor
    types: Tensor | None
    zeta: int

    @classmethod
    def between(
        cls, features: Tensor, types: Tensor | None, chosen: Tensor, zeta: int
    ) -> NormalisedKernel:
        """Take some atoms as reference.

        Args:
            features: features of all atoms, shape (atoms, features), not zero.
            types: atomic numbers of all atoms, shape (atoms,), or None.
            chosen: indices of the reference atoms, shape (references,).
            zeta: power.

        Returns:
            The kernel with them.

        Raises:
            InputError: if shapes disagree, zeta is not a positive whole number, or the features of
                an atom are all zero.
        """
        if zeta != int(zeta) or zeta < 1:
            raise InputError(f"zeta must be 1, 2, 3, ..., not {zeta}")
        if types is not None and types.shape != features.shape[:1]:
            raise InputError(f"types must have shape ({len(features)},), not {tuple(types.shape)}")
        _lengths(features)
        chosen = chosen.to(features.device)
        reference = features[chosen].to(torch.float64)
        return cls(
            reference / _lengths(reference),
            None if types is None else types.to(features.device)[chosen],
            int(zeta),
        )

    def __call__(self, features: Tensor, types: Tensor | None = None) -> Iterator[Tensor]:
        """Kernel with the reference atoms, some atoms at a time.

        Args:
            features: shape (atoms, features), not zero.
            types: atomic numbers, shape (atoms,), if the kernel keeps species apart.

        Yields:
            Rows of the kernel, shape (block, references), float64.

        Raises:
            InputError: if the number of features is another, types are given without need or
                missing, or the features of an atom are all zero.
        """
        if features.ndim != 2 or features.shape[1] != self.reference.shape[1]:
            raise InputError(
                f"the map takes {self.reference.shape[1]} features an atom, "
                f"but the features have shape {tuple(features.shape)}"
            )
        if (self.types is None) != (types is None):
            raise InputError("give types to project exactly if the map was made with types")
        start = 0
        for block in blocks(features):
            rows = ((block / _lengths(block, start)) @ self.reference.T) ** self.zeta
            stop = start + len(block)
            if types is not None and self.types is not None:
                rows *= types[start:stop, None].to(self.types) == self.types
            start = stop
            yield rows

    def square(self) -> Tensor:
        """Kernel of the reference atoms with themselves, shape (references, references)."""
        return torch.cat([*self(self.reference, self.types)])


def _lengths(features: Tensor, start: int = 0) -> Tensor:
    """Length of each row, shape (atoms, 1), if none is zero."""
    lengths = torch.linalg.vector_norm(features, dim=1, keepdim=True)
    if bool((lengths == 0).any()):
        atom = start + int((lengths[:, 0] == 0).nonzero()[0])
        raise InputError(f"all features of atom {atom} are zero, so its kernel is not defined")
    return torch.as_tensor(lengths)
