"""Atoms that share an environment, as those of a crystal do: each is evaluated once."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["distinct_environments"]

SAME = 1e-13  # largest difference of features, relative to the longest; rounding is ten times less
PROBES = 2
SPARED = 0.2  # share of the atoms that makes it worth it
BLOCK = 4096  # atoms compared at a time


def distinct_environments(features: Tensor, types: Tensor) -> tuple[Tensor, Tensor] | None:
    """One atom of every distinct environment.

    Args:
        features: shape (atoms, features).
        types: atomic numbers, shape (atoms,).

    Returns:
        Indices of representatives, shape (n,), and for each atom the number of its
        representative, shape (atoms,); None where fewer than a fifth of the atoms would be spared.
    """
    if len(features) < 2:
        return None
    generator = torch.Generator().manual_seed(0)
    probes = torch.randn(features.shape[1], PROBES, generator=generator, dtype=features.dtype)
    keys = features @ probes.to(features)
    scale = float(keys.abs().max()) or 1.0
    order = torch.argsort(keys[:, 0])
    order = order[torch.argsort(types[order], stable=True)]
    steps = (keys[order[1:]] - keys[order[:-1]]).abs().amax(1)
    other = (steps > 10 * SAME * scale) | (types[order[1:]] != types[order[:-1]])
    number = torch.cat([other.new_zeros(1), other]).cumsum(0)
    count = int(number[-1]) + 1
    if count > (1 - SPARED) * len(features):
        return None
    owner = torch.empty_like(number)
    owner[order] = number
    first = torch.full((count,), len(features), dtype=torch.int64, device=features.device)
    first.scatter_reduce_(0, owner, torch.arange(len(owner), device=owner.device), "amin")
    longest = float(torch.linalg.vector_norm(features[first], dim=1).max())
    pairs = zip(features.split(BLOCK), first[owner].split(BLOCK), strict=True)
    far = torch.cat([(x - features[other]).abs().amax(1) > SAME * longest for x, other in pairs])
    if bool(far.any()):  # neighbours by the probes alone: each stands for itself
        owner[far] = count + torch.arange(int(far.sum()), device=owner.device)
        first = torch.cat([first, far.nonzero().squeeze(1)])
    return first, owner
