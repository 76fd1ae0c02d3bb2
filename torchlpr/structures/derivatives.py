"""Derivatives of descriptors by positions, kept only for the atoms that feel each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from torchlpr.errors import InputError

__all__ = ["Derivatives"]


@dataclass(frozen=True, eq=False)
class Derivatives:
    r"""The nonzero blocks :math:`\partial x_k / \partial r_i` of some structures.

    With them forces are a matter of linear algebra,
    :math:`F_i = -\sum_k (\partial \tilde y_k / \partial x_k) \cdot (\partial x_k / \partial r_i)`,
    and no descriptor has to be differentiated again, however long a training is.

    Attributes:
        centre: atom k whose features change, shape (pairs,), int64; an atom is among its own.
        moved: atom i that is moved, periodic images along with it, ascending, shape (pairs,),
            int64.
        values: the blocks in 1/Å, shape (pairs, 3, features).
    """

    centre: Tensor
    moved: Tensor
    values: Tensor

    def __post_init__(self) -> None:
        pairs = len(self.values)
        if self.values.ndim != 3 or self.values.shape[1] != 3:
            raise InputError(
                f"derivatives must have shape (pairs, 3, features), not {tuple(self.values.shape)}"
            )
        for name in ("centre", "moved"):
            index = getattr(self, name)
            if tuple(index.shape) != (pairs,) or index.dtype != torch.int64:
                raise InputError(
                    f"{name} of the derivatives must be int64 of shape ({pairs},), not "
                    f"{index.dtype} of {tuple(index.shape)}"
                )
        if not bool((self.moved[1:] >= self.moved[:-1]).all()):
            raise InputError(
                "the derivatives must be ordered by the atom that is moved; use Derivatives.ordered"
            )

    @classmethod
    def ordered(cls, centre: Tensor, moved: Tensor, values: Tensor) -> Derivatives:
        """From blocks in any order.

        Args:
            centre: atoms whose features change, shape (pairs,).
            moved: atoms that are moved, shape (pairs,).
            values: in 1/Å, shape (pairs, 3, features).

        Returns:
            The derivatives, ordered by the moved atom.
        """
        order = torch.argsort(moved, stable=True)
        return cls(centre[order], moved[order], _taken(values, order))

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.centre)

    def check_against(self, features: Tensor, structure: Tensor) -> None:
        """Refuse derivatives that do not belong to the features of a batch.

        Args:
            features: shape (atoms, features).
            structure: structure of each atom, shape (atoms,).

        Raises:
            InputError: if widths, dtypes or devices differ, an atom does not exist, a pair joins
                two structures, or a number is not finite.
        """
        if self.values.shape[2] != features.shape[1]:
            raise InputError(
                f"the derivatives are of {self.values.shape[2]} features and the atoms have "
                f"{features.shape[1]}; compute both with one descriptor"
            )
        mine, theirs = self.values, features
        if (mine.dtype, mine.device) != (theirs.dtype, theirs.device):
            raise InputError(
                f"the derivatives are {mine.dtype} on {mine.device} and the features "
                f"{theirs.dtype} on {theirs.device}; convert both"
            )
        if not len(self):
            return
        low = min(int(self.centre.min()), int(self.moved[0]))
        high = max(int(self.centre.max()), int(self.moved[-1]))
        if low < 0 or high >= len(features):
            wrong = low if low < 0 else high
            raise InputError(f"the derivatives name atom {wrong} of {len(features)}")
        if not bool((structure[self.centre] == structure[self.moved]).all()):
            raise InputError("a pair of the derivatives joins atoms of two structures")
        if not bool(torch.isfinite(self.values.detach().sum())):
            pair = int((~torch.isfinite(self.values)).any(2).any(1).nonzero()[0])
            raise InputError(
                f"the features of atom {int(self.centre[pair])} have a derivative that is not "
                "finite; look at its geometry"
            )

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Derivatives:
        """Move to a device and a floating-point dtype; no copy where nothing changes."""
        return Derivatives(
            self.centre.to(device=device),
            self.moved.to(device=device),
            self.values.to(device=device, dtype=dtype),
        )

    def select(self, atoms: Tensor, n_atoms: int) -> Derivatives:
        """Those of whole structures.

        Args:
            atoms: the atoms chosen, in their new order, shape (chosen,).
            n_atoms: number of atoms that there are.

        Returns:
            The derivatives, with the atoms numbered anew; a view where the pairs are consecutive.
        """
        new = torch.full((n_atoms,), -1, dtype=torch.int64, device=atoms.device)
        new[atoms] = torch.arange(len(atoms), device=atoms.device)
        moved = new[self.moved]
        pairs = (moved >= 0).nonzero().squeeze(1)
        pairs = pairs[torch.argsort(moved[pairs], stable=True)]
        return Derivatives(new[self.centre[pairs]], moved[pairs], _taken(self.values, pairs))

    @staticmethod
    def cat(parts: Sequence[Derivatives | None], counts: Sequence[int]) -> Derivatives:
        """Join the derivatives of batches, at least one of which has some.

        Args:
            parts: of each batch, None where it has none.
            counts: atoms of each batch.

        Returns:
            The derivatives of the joined batch.
        """
        centre, moved, values, before = [], [], [], 0
        for part, count in zip(parts, counts, strict=True):
            if part is not None:
                centre.append(part.centre + before)
                moved.append(part.moved + before)
                values.append(part.values)
            before += count
        return Derivatives(torch.cat(centre), torch.cat(moved), torch.cat(values))

    def mapped(self, matrix: Tensor) -> Derivatives:
        """Those of the features x A.

        Args:
            matrix: A, shape (features, new features).

        Returns:
            The derivatives of the new features.
        """
        return replace(self, values=self.values @ matrix)

    def pairs_of(self, first: int, last: int) -> slice:
        """The pairs in which the moved atom is one of ``range(first, last)``."""
        ends = torch.tensor([first, last], device=self.moved.device)
        start, stop = torch.searchsorted(self.moved, ends).tolist()
        return slice(start, stop)


def _taken(values: Tensor, index: Tensor) -> Tensor:
    """``values[index]``, without a copy where the indices are consecutive."""
    if not len(index):
        return values[:0]
    first, last = int(index[0]), int(index[-1])
    if last - first + 1 == len(index) and bool((index[1:] > index[:-1]).all()):
        return values[first : last + 1]
    return values[index]
