"""Structures whose atoms all have the same environment: there the local energy is known."""

from __future__ import annotations

import torch
from torch import Tensor

from torchlpr.structures.batch import AtomBatch

__all__ = ["single_environment"]

# five decimals of an Å in a file blur a crystal by 3e-6; displacements of 1e-3 Å make 1e-3
TOLERANCE = 1e-5


def single_environment(batch: AtomBatch, tolerance: float = TOLERANCE) -> Tensor:
    """Which structures consist of one environment, repeated.

    By symmetry every atom of such a structure has the energy E/n, whatever the partition: they
    are the only places where a local energy can be compared with a reference. Diamond and its
    homogeneous deformations are such structures, and so is any cell of two like atoms, which has
    a centre of inversion; AB graphite, with two kinds of sites, is not.

    Source: the invariant points of Yoo et al., Phys. Rev. Mater. 3, 093802 (2019),
    doi:10.1103/PhysRevMaterials.3.093802.

    Args:
        batch: any structures.
        tolerance: largest distance of a feature vector from the structure's mean, relative to
            the length of the mean.

    Returns:
        Boolean, shape (structures,).
    """
    x, owner = batch.features.to(torch.float64), batch.structure
    counts = batch.counts.to(torch.float64)
    means = x.new_zeros(batch.n_structures, x.shape[1]).index_add_(0, owner, x)
    means /= counts.unsqueeze(1)
    distance = torch.linalg.vector_norm(x - means[owner], dim=1)
    length = torch.linalg.vector_norm(means, dim=1)
    different = distance > tolerance * length[owner]
    apart = torch.zeros_like(counts).index_add_(0, owner, different.to(counts))
    low, high = (
        batch.types.new_zeros(batch.n_structures).scatter_reduce_(
            0, owner, batch.types, reduce, include_self=False
        )
        for reduce in ("amin", "amax")
    )
    return (apart == 0) & (low == high)
