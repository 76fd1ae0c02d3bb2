"""Derivatives of all features of some structures by their positions, memory predicted first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import ase
import numpy as np
import torch
from torch import Tensor
from vesin import NeighborList

from torchlpr.bars import bar
from torchlpr.descriptors.geometry import Geometry
from torchlpr.descriptors.soap import SOAP
from torchlpr.descriptors.soap_gradients import soap_gradients
from torchlpr.descriptors.symmetry import SymmetryFunctions
from torchlpr.errors import InputError
from torchlpr.free_memory import format_bytes, memory_limit
from torchlpr.structures.derivatives import Derivatives

__all__ = ["feature_derivatives"]

Blocks = tuple[Tensor, Tensor, Tensor]
#: Å beyond the cutoff: a list of pairs that no rounding makes shorter than the descriptor's own
_SLACK = 1e-6


def feature_derivatives(
    descriptor: SOAP | SymmetryFunctions,
    structures: Sequence[ase.Atoms],
    progress: bool | None = None,
) -> Derivatives:
    """Derivatives of features by positions, structure after structure.

    SOAP has those of featomic, with its normalisation; symmetry functions have those of autograd,
    with their scaling.

    Args:
        descriptor: SOAP or symmetry functions.
        structures: of species that it knows, in the order of the batch.
        progress: show a progress bar; None shows one on terminals, after two seconds.

    Returns:
        The derivatives, float64 on the CPU.

    Raises:
        InputError: with sizes and alternatives, before anything is computed, if they do not fit
            into memory.
    """
    pairs = [_count_pairs(atoms, descriptor.cutoff) for atoms in structures]
    _check_memory(sum(pairs), max(pairs), descriptor.n_features, len(structures))
    centre = torch.empty(sum(pairs), dtype=torch.int64)
    moved = torch.empty_like(centre)
    values = torch.empty(sum(pairs), 3, descriptor.n_features, dtype=torch.float64)
    first_atom = np.concatenate([[0], np.cumsum([len(atoms) for atoms in structures])]).tolist()
    done = 0
    with bar(len(structures), "derivatives", "structure", progress) as shown:
        for atoms, (start, _) in zip(structures, pairwise(first_atom), strict=True):
            blocks = list(_blocks(descriptor, atoms))
            order = torch.argsort(torch.cat([which for _, which, _ in blocks]), stable=True)
            place = torch.empty_like(order)
            place[order] = torch.arange(done, done + len(order))
            for k, i, block in blocks:
                here, place = place[: len(k)], place[len(k) :]
                centre[here], moved[here], values[here] = k + start, i + start, block
            done += len(order)
            shown.update()
    return Derivatives(centre[:done], moved[:done], values[:done])


def _blocks(descriptor: SOAP | SymmetryFunctions, atoms: ase.Atoms) -> Iterator[Blocks]:
    """Centres, moved atoms and derivatives of one structure."""
    if isinstance(descriptor, SOAP):
        for part in soap_gradients(descriptor, atoms):
            yield part.blocks()
    else:
        yield _symmetry_blocks(descriptor, atoms)


def _symmetry_blocks(descriptor: SymmetryFunctions, atoms: ase.Atoms) -> Blocks:
    """By one backward pass a column: a vector to a neighbour concerns one centre only."""
    geometry = Geometry.from_structures([atoms], descriptor.cutoff)
    vectors = geometry.vectors().requires_grad_()
    features = descriptor.features(geometry, vectors)
    n = len(atoms)
    codes = geometry.first * n + geometry.second
    known, pair = torch.cat([codes, torch.arange(n) * (n + 1)]).unique(return_inverse=True)
    values = torch.zeros(len(known), 3, descriptor.n_features, dtype=torch.float64)
    for column, total in enumerate(features.sum(0)):
        (slope,) = torch.autograd.grad(total, vectors, retain_graph=True, materialize_grads=True)
        changes = torch.zeros(len(known), 3, dtype=torch.float64)
        changes.index_add_(0, pair[: len(codes)], slope)
        # the vector ends at the neighbour and begins at the centre
        own = torch.zeros(n, 3, dtype=torch.float64).index_add(0, geometry.first, slope)
        changes.index_add_(0, pair[len(codes) :], -own)
        values[:, :, column] = changes
    return known // n, known % n, values


def _count_pairs(atoms: ase.Atoms, cutoff: float) -> int:
    """Pairs of a centre and an atom that moves its features, the centre itself included."""
    finder = NeighborList(cutoff=cutoff + _SLACK, full_list=True)
    first, second = finder.compute(
        np.ascontiguousarray(atoms.positions),
        np.ascontiguousarray(atoms.cell.complete().array),
        np.asarray(atoms.pbc),
        "ij",
    )
    n = len(atoms)
    codes = np.concatenate([first.astype(np.int64) * n + second, np.arange(n) * (n + 1)])
    return len(np.unique(codes))


def _check_memory(pairs: int, most: int, n_features: int, structures: int) -> None:
    """Refuse what does not fit: all pairs, and a structure's blocks twice over."""
    needed, limit = 24 * n_features * (pairs + 3 * most), memory_limit()
    if needed <= limit:
        return
    fitting = int(structures * max(0, limit - 72 * n_features * most) / (24 * n_features * pairs))
    raise InputError(
        f"the derivatives of {n_features} features at {pairs} pairs of atoms take "
        f"{format_bytes(needed)}, more than the {format_bytes(limit)} that may be used: take about "
        f"{fitting} structures of {structures}, fewer features or a shorter cutoff, or train on "
        "energies alone"
    )
