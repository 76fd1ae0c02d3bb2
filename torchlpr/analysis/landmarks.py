"""Landmark atoms on which a kernel map of many atoms rests."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from torchlpr.errors import InputError

__all__ = ["draw_landmarks"]


def draw_landmarks(atoms: int, landmarks: int | Tensor, types: Tensor | None = None) -> Tensor:
    """Take the given landmarks, or draw some with a fixed seed in proportion from each species.

    Args:
        atoms: number of atoms.
        landmarks: number of landmarks, or their indices.
        types: atomic numbers, shape (atoms,); every species gets a landmark.

    Returns:
        Indices of atoms, int64, on the CPU; up to one a species more than asked for.

    Raises:
        InputError: if the number is not positive or an index is out of range.
    """
    if isinstance(landmarks, Tensor):
        index = landmarks.cpu().to(torch.int64)
        if index.ndim != 1 or not bool(((index >= 0) & (index < atoms)).all()):
            raise InputError(f"landmarks must be indices of atoms, 0 to {atoms - 1}")
        return index
    if landmarks < 1:
        raise InputError(f"landmarks must be a positive number, not {landmarks}")
    draw = torch.Generator().manual_seed(0)
    kinds = torch.zeros(atoms) if types is None else types.cpu()
    chosen = []
    for kind in kinds.unique():
        members = (kinds == kind).nonzero()[:, 0]
        quota = min(len(members), math.ceil(landmarks * len(members) / atoms))
        chosen.append(members[torch.randperm(len(members), generator=draw)[:quota]])
    return torch.cat(chosen)
