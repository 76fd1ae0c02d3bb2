"""Plain-tensor batches: what every model, curvature and rigidity in torchlpr reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from torchlpr.errors import InputError

__all__ = ["AtomBatch"]

MAX_ATOMIC_NUMBER = 118


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
    """

    features: Tensor
    types: Tensor
    structure: Tensor
    energies: Tensor | None = None

    def __post_init__(self) -> None:
        _check(self)

    @classmethod
    def from_arrays(
        cls,
        features: object,
        types: object,
        structure: object,
        energies: object | None = None,
    ) -> AtomBatch:
        """Make a batch from anything that :func:`torch.as_tensor` reads (arrays, lists, tensors).

        Args:
            features: shape (atoms, features), floating point.
            types: atomic numbers, shape (atoms,).
            structure: structure index of each atom, shape (atoms,).
            energies: total energies in eV, shape (structures,).

        Returns:
            The batch; integer features become float64.

        Raises:
            InputError: if shapes disagree, a value is not finite, or an index has gaps.
        """
        x = _tensor("features", features)
        if not x.is_floating_point():
            x = x.to(torch.float64)
        return cls(
            x,
            _whole("types", types, x.device),
            _whole("structure", structure, x.device),
            None
            if energies is None
            else _tensor("energies", energies).to(dtype=torch.float64, device=x.device),
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

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> AtomBatch:
        """Move to a device and a floating-point dtype.

        Args:
            device: target device, None keeps it.
            dtype: dtype of the features, None keeps it; energies stay float64.

        Returns:
            The moved batch; no copy is made where nothing changes.
        """
        return replace(
            self,
            features=self.features.to(device=device, dtype=dtype),
            types=self.types.to(device=device),
            structure=self.structure.to(device=device),
            energies=None if self.energies is None else self.energies.to(device=device),
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
        chosen = _whole("structures", structures, self.structure.device)
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
        )

    @staticmethod
    def cat(batches: Sequence[AtomBatch]) -> AtomBatch:
        """Join batches into one; it has energies only if all of them have.

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
        return AtomBatch(
            torch.cat([b.features for b in batches]),
            torch.cat([b.types for b in batches]),
            torch.cat([b.structure + o for b, o in zip(batches, offsets, strict=True)]),
            torch.cat(energies) if len(energies) == len(batches) else None,
        )


def _tensor(name: str, values: object) -> Tensor:
    """Anything torch can read, or an error that names it."""
    try:
        return torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name} cannot be read as numbers: {error}") from error


def _whole(name: str, values: object, device: torch.device) -> Tensor:
    """Whole numbers as int64; fractions and booleans are refused rather than rounded."""
    given = _tensor(name, values)
    if given.dtype == torch.bool or (given.numel() and not bool((given == given.long()).all())):
        raise InputError(f"{name} must be whole numbers")
    return given.to(dtype=torch.int64, device=device)


def _check(batch: AtomBatch) -> None:
    """Refuse a batch whose tensors do not fit together."""
    if batch.features.ndim != 2:
        raise InputError(
            f"features must have shape (atoms, features), not {tuple(batch.features.shape)}"
        )
    if not batch.features.is_floating_point():
        raise InputError(f"features must be floating point, not {batch.features.dtype}")
    atoms = batch.features.shape[0]
    for name in ("types", "structure"):
        values = getattr(batch, name)
        if tuple(values.shape) != (atoms,):
            shape = tuple(values.shape)
            raise InputError(f"{name} must have shape ({atoms},) as features do, not {shape}")
        if values.dtype != torch.int64:
            raise InputError(f"{name} must be int64, not {values.dtype}")
    _check_indices(batch)
    sums = batch.features.detach().sum(dim=1)  # no mask as large as the features
    if not bool(torch.isfinite(sums).all()):
        atom = int((~torch.isfinite(sums)).nonzero()[0])
        raise InputError(f"features of atom {atom} are not finite; look at its geometry")
    if batch.energies is not None:
        if tuple(batch.energies.shape) != (batch.n_structures,):
            raise InputError(
                f"energies must have shape ({batch.n_structures},), one for each structure, "
                f"not {tuple(batch.energies.shape)}"
            )
        if not bool(torch.isfinite(batch.energies).all()):
            bad = int((~torch.isfinite(batch.energies)).nonzero()[0])
            raise InputError(f"the energy of structure {bad} is not finite")


def _check_indices(batch: AtomBatch) -> None:
    """Refuse atomic numbers that are none and structures numbered with gaps."""
    if not len(batch):
        return
    lowest, highest = int(batch.types.min()), int(batch.types.max())
    if lowest < 1 or highest > MAX_ATOMIC_NUMBER:
        wrong = lowest if lowest < 1 else highest
        raise InputError(f"{wrong} among the types is no atomic number")
    if int(batch.structure.min()) < 0:
        raise InputError("structure indices must not be negative")
    if batch.n_structures > len(batch):  # before anything is counted: an index may be huge
        raise InputError("structure indices have gaps; number the structures from 0 without gaps")
    if int(batch.counts.min()) == 0:
        gap = int((batch.counts == 0).nonzero()[0])
        raise InputError(f"structure {gap} has no atoms; number the structures without gaps")
