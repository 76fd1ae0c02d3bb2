"""Plain-tensor batches: what every model, curvature and rigidity in torchlpr reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from torchlpr.errors import InputError
from torchlpr.structures.batch_checks import as_tensor, as_whole, check_batch
from torchlpr.structures.derivatives import Derivatives

__all__ = ["AtomBatch"]


@dataclass(frozen=True, eq=False)
class AtomBatch:
    """The atoms of several structures as flat tensors.

    Attributes:
        features: descriptor of each atomic environment, shape (atoms, features).
        types: atomic numbers, shape (atoms,), int64.
        structure: index of the structure that each atom belongs to, shape (atoms,), int64, in
            ``range(structures)`` and without gaps.
        energies: total energies in eV, shape (structures,), float64 whatever the features are
            (totals of thousands of eV lose meV in float32), or None where there are no labels.
        forces: in eV/Å, shape (atoms, 3), float64, not a number throughout a structure that has
            none; None where no structure has any.
        derivatives: of the features by positions, which training on forces and its rigidity need;
            None where they were not asked for.
    """

    features: Tensor
    types: Tensor
    structure: Tensor
    energies: Tensor | None = None
    forces: Tensor | None = None
    derivatives: Derivatives | None = None

    def __post_init__(self) -> None:
        check_batch(self)

    @classmethod
    def from_arrays(
        cls,
        features: object,
        types: object,
        structure: object,
        energies: object | None = None,
        forces: object | None = None,
        derivatives: Derivatives | None = None,
    ) -> AtomBatch:
        """Make a batch from anything that :func:`torch.as_tensor` reads (arrays, lists, tensors).

        Args:
            features: shape (atoms, features), floating point.
            types: atomic numbers, shape (atoms,).
            structure: structure index of each atom, shape (atoms,).
            energies: total energies in eV, shape (structures,).
            forces: in eV/Å, shape (atoms, 3), not a number where a structure has none.
            derivatives: of the features by positions.

        Returns:
            The batch; integer features become float64.

        Raises:
            InputError: if shapes disagree, a value is not finite, or an index has gaps.
        """
        x = as_tensor("features", features)
        if not x.is_floating_point():
            x = x.to(torch.float64)
        return cls(
            x,
            as_whole("types", types, x.device),
            as_whole("structure", structure, x.device),
            _labels("energies", energies, x.device),
            _labels("forces", forces, x.device),
            derivatives and derivatives.to(x.device, x.dtype),
        )

    def __len__(self) -> int:
        """Number of atoms."""
        return self.features.shape[0]

    @property
    def n_structures(self) -> int:
        """Number of structures."""
        return int(self.structure.max()) + 1 if len(self) else 0

    @property
    def counts(self) -> Tensor:
        """Number of atoms of each structure, shape (structures,), int64."""
        return torch.bincount(self.structure, minlength=self.n_structures)

    def labels(self) -> Tensor:
        """Total energies, where they are required.

        Returns:
            Total energies in eV, shape (structures,).

        Raises:
            InputError: if the batch has none.
        """
        if self.energies is None:
            raise InputError(
                "this batch has no energies, which are needed to train or to judge a fit; "
                "read the structures with the right energy_key"
            )
        return self.energies

    @property
    def has_forces(self) -> Tensor:
        """Which structures have forces, shape (structures,), boolean."""
        if self.forces is None:
            return torch.zeros(self.n_structures, dtype=torch.bool, device=self.types.device)
        missing = torch.zeros_like(self.counts)
        missing.index_add_(0, self.structure, torch.isnan(self.forces[:, 0]).long())
        return missing == 0

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> AtomBatch:
        """Move to a device and a floating-point dtype.

        Args:
            device: target device, None keeps it.
            dtype: dtype of features and derivatives, None keeps it; labels stay float64.

        Returns:
            The moved batch; no copy is made where nothing changes.
        """
        return replace(
            self,
            features=self.features.to(device=device, dtype=dtype),
            types=self.types.to(device=device),
            structure=self.structure.to(device=device),
            energies=None if self.energies is None else self.energies.to(device=device),
            forces=None if self.forces is None else self.forces.to(device=device),
            derivatives=None if self.derivatives is None else self.derivatives.to(device, dtype),
        )

    def select(self, structures: Sequence[int] | Tensor) -> AtomBatch:
        """Take some structures, in the given order.

        Args:
            structures: structure indices, each at most once.

        Returns:
            A batch of those structures, numbered anew.

        Raises:
            InputError: if an index is out of range or occurs twice.
        """
        chosen = as_whole("structures", structures, self.structure.device)
        outside = (chosen < 0) | (chosen >= self.n_structures)
        if bool(outside.any()):
            raise InputError(
                f"structure index {int(chosen[outside][0])} is outside 0..{self.n_structures - 1}"
            )
        new = torch.full((self.n_structures,), -1, dtype=torch.int64, device=chosen.device)
        new[chosen] = torch.arange(len(chosen), device=chosen.device)
        if int((new >= 0).sum()) != len(chosen):
            raise InputError("a structure index is repeated in the selection")
        renumbered = new[self.structure]
        atoms = (renumbered >= 0).nonzero().squeeze(1)
        # stable: atoms keep their order inside a structure, structures follow the selection
        atoms = atoms[torch.argsort(renumbered[atoms], stable=True)]
        return AtomBatch(
            self.features[atoms],
            self.types[atoms],
            renumbered[atoms],
            None if self.energies is None else self.energies[chosen],
            None if self.forces is None else self.forces[atoms],
            None if self.derivatives is None else self.derivatives.select(atoms, len(self)),
        )

    @staticmethod
    def cat(batches: Sequence[AtomBatch]) -> AtomBatch:
        """Join batches into one; it has energies only if all of them have.

        Where one has forces all have, those of the others not a number. There are derivatives if
        all batches have them, or all but those without forces where others have forces.

        Args:
            batches: at least one batch, all with the same number of features.

        Returns:
            The joined batch, structures numbered on.

        Raises:
            InputError: if there is no batch.
        """
        if not batches:
            raise InputError("there are no batches to join")
        widths = sorted({batch.features.shape[1] for batch in batches})
        if len(widths) > 1:
            raise InputError(f"batches with {widths} features cannot be joined")
        offsets, total = [], 0
        for batch in batches:
            offsets.append(total)
            total += batch.n_structures
        energies = [b.energies for b in batches if b.energies is not None]
        labelled = [b.forces is not None for b in batches]
        derived = [b.derivatives is not None for b in batches]
        # a batch without either takes no part in the force rows, whatever its derivatives are
        needed = labelled if any(labelled) else [True] * len(batches)
        complete = any(derived) and all(d >= n for d, n in zip(derived, needed, strict=True))
        return AtomBatch(
            torch.cat([b.features for b in batches]),
            torch.cat([b.types for b in batches]),
            torch.cat([b.structure + o for b, o in zip(batches, offsets, strict=True)]),
            torch.cat(energies) if len(energies) == len(batches) else None,
            torch.cat([_forces_or_gap(b) for b in batches]) if any(labelled) else None,
            Derivatives.cat([b.derivatives for b in batches], [len(b) for b in batches])
            if complete
            else None,
        )


def _labels(name: str, values: object | None, device: torch.device) -> Tensor | None:
    """Labels in float64, where there are any."""
    if values is None:
        return None
    return as_tensor(name, values, torch.float64).to(device)


def _forces_or_gap(batch: AtomBatch) -> Tensor:
    """The forces of a batch, or as many that are not a number."""
    if batch.forces is not None:
        return batch.forces
    gap: Tensor = torch.full((len(batch), 3), torch.nan, dtype=torch.float64)
    return gap.to(batch.features.device)
