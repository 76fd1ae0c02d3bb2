"""What the tensors of a batch must satisfy to fit together, and one sentence for each failure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torchlpr.errors import InputError

if TYPE_CHECKING:
    from torchlpr.structures.batch import AtomBatch

__all__ = ["as_tensor", "as_whole", "check_batch"]

MAX_ATOMIC_NUMBER = 118


def as_tensor(name: str, values: object, dtype: torch.dtype | None = None) -> Tensor:
    """Anything torch can read, or an error that names it.

    Args:
        name: what it is, for the error.
        values: array, list or tensor.
        dtype: to read it as; None takes what torch does, single precision for lists.

    Returns:
        The tensor.

    Raises:
        InputError: if torch cannot read it.
    """
    try:
        return torch.as_tensor(values, dtype=dtype)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name} cannot be read as numbers: {error}") from error


def as_whole(name: str, values: object, device: torch.device) -> Tensor:
    """Whole numbers as int64; fractions and booleans are refused rather than rounded.

    Args:
        name: what they are, for the error.
        values: array, list or tensor.
        device: where they go.

    Returns:
        The tensor.

    Raises:
        InputError: if there is anything but whole numbers.
    """
    given = as_tensor(name, values)
    if given.dtype == torch.bool or (given.numel() and not bool((given == given.long()).all())):
        raise InputError(f"{name} must be whole numbers")
    return given.to(dtype=torch.int64, device=device)


def check_batch(batch: AtomBatch) -> None:
    """Refuse a batch whose tensors do not fit together.

    Args:
        batch: the batch.

    Raises:
        InputError: naming the tensor and the structure or atom.
    """
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
    if batch.forces is not None:
        _check_forces(batch, batch.forces)
    if batch.derivatives is not None:
        batch.derivatives.check_against(batch.features, batch.structure)


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


def _check_forces(batch: AtomBatch, forces: Tensor) -> None:
    """Refuse forces of another shape, infinite ones, and structures that have some only."""
    if tuple(forces.shape) != (len(batch), 3):
        raise InputError(
            f"forces must have shape ({len(batch)}, 3), one for each atom, not "
            f"{tuple(forces.shape)}"
        )
    if bool(torch.isinf(forces).any()):
        atom = int(torch.isinf(forces).any(dim=1).nonzero()[0])
        raise InputError(f"the force on atom {atom} is not finite")
    unknown = torch.isnan(forces).sum(dim=1)
    missing = torch.zeros_like(batch.counts).index_add(0, batch.structure, unknown)
    partly = (missing != 0) & (missing != 3 * batch.counts)
    if bool(partly.any()):
        raise InputError(
            f"structure {int(partly.nonzero()[0])} has forces on some of its atoms only; give "
            "all of them, or none (not a number)"
        )
