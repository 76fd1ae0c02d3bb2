"""Choosing the inducing environments of a sparse kernel model."""

from __future__ import annotations

import torch

from torchlpr.descriptors.fps import farthest_point_sampling
from torchlpr.errors import InputError
from torchlpr.structures.batch import AtomBatch

__all__ = ["select_inducing"]


def select_inducing(batch: AtomBatch, n: int, zeta: int = 2) -> AtomBatch:
    """At most n inducing environments by farthest-point sampling, as many for each species.

    Sampling a species stops early where a further environment's kernel is, to rounding, a
    combination of those before it: it would add nothing to the model and make K_MM singular.

    Args:
        batch: environments to choose from.
        n: how many in all at most.
        zeta: exponent of the kernel (x . x')^zeta.

    Returns:
        The chosen environments, each as a structure of its own, species by species.

    Raises:
        InputError: if n is smaller than the number of species.
    """
    species = sorted(set(batch.types.tolist()))
    if n < len(species):
        raise InputError(f"{n} inducing environments are too few for {len(species)} species")
    chosen = []
    for place, z in enumerate(species):
        members = (batch.types == z).nonzero().squeeze(1)
        share = n // len(species) + (place < n % len(species))
        points = batch.features[members].to(torch.float64)
        order = farthest_point_sampling(points, share, at_most=True)
        kernel = (points[order] @ points[order].mT) ** zeta
        chosen.append(members[order[: _independent(kernel)]])
    index = torch.cat(chosen)
    return AtomBatch(
        batch.features[index],
        batch.types[index],
        torch.arange(len(index), device=index.device),
    )


def _independent(kernel: torch.Tensor) -> int:
    """Length of the leading block whose Cholesky pivots stand clear of rounding."""
    factor, info = torch.linalg.cholesky_ex(kernel)
    good = factor.diagonal().square() > len(kernel) * torch.finfo(kernel.dtype).eps * kernel.max()
    limit = int(info) - 1 if int(info) else len(kernel)
    bad = (~good[:limit]).nonzero()
    return int(bad[0]) if len(bad) else limit
