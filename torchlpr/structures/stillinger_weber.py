"""Energies and forces of Stillinger and Weber's silicon, from the formula.

LAMMPS gives a third of each three-body term to each of its three atoms, which makes the energy of
an atom depend on the neighbours of its neighbours. The whole term at the atom in the middle has
the range of one cutoff, and a short-ranged model can represent only that split.
"""

from __future__ import annotations

import ase
import numpy as np
import torch
from ase.neighborlist import neighbor_list
from numpy.typing import NDArray
from torch import Tensor

from torchlpr.errors import InputError

__all__ = ["CUTOFF", "stillinger_weber"]

Floats = NDArray[np.float64]

EPSILON, SIGMA = 2.1683, 2.0951  # eV, Å
REACH, LAMBDA, GAMMA, COS_THETA0 = 1.80, 21.0, 1.20, -1 / 3
A, B, P = 7.049556277, 0.6022245584, 4  # and q = 0
CUTOFF = REACH * SIGMA
"""Where the potential ends, Å."""


def stillinger_weber(structure: ase.Atoms) -> tuple[Floats, Floats]:
    r"""Site energies and forces of silicon.

    .. math:: E_i = \frac{1}{2} \sum_j A \epsilon [B (\sigma/r_{ij})^4 - 1]
        e^{\sigma/(r_{ij} - a\sigma)} + \lambda \epsilon \sum_{j<k} (\cos\theta_{jik} + 1/3)^2
        e^{\gamma\sigma/(r_{ij} - a\sigma) + \gamma\sigma/(r_{ik} - a\sigma)}

    The split into atoms is a convention: half of a pair to each of its ends, and of an angle all
    to the atom in its middle. Sums and forces do not depend on it.

    Source: Stillinger and Weber, Phys. Rev. B 31, 5262 (1985), doi:10.1103/PhysRevB.31.5262, as
    in the ``Si.sw`` that comes with LAMMPS.

    Args:
        structure: silicon, with its cell and periodicity.

    Returns:
        Energy of each atom in eV, shape (atoms,), and forces in eV/Å, shape (atoms, 3), float64;
        the energies add up to the energy of the structure.

    Raises:
        InputError: if the structure holds another element.
    """
    if set(structure.numbers) - {14}:
        raise InputError(f"the Stillinger-Weber energies are silicon's, not {structure.symbols}'s")
    # at the cutoff itself the exponent has no value, its limit is no energy
    i, j, shift = neighbor_list("ijS", structure, CUTOFF - 1e-9)
    first, second = (torch.from_numpy(k) for k in (i, j))
    positions = torch.from_numpy(structure.positions.astype(float)).requires_grad_()
    images = torch.from_numpy(shift @ structure.cell.array)
    vectors = positions[second] - positions[first] + images
    energies = _site_energies(vectors, first, len(structure))
    (gradient,) = torch.autograd.grad(energies.sum(), positions)
    return energies.detach().numpy(), -gradient.numpy()


def _site_energies(vectors: Tensor, first: Tensor, n: int) -> Tensor:
    """Energies of the atoms, from the vectors to their neighbours, sorted by atom."""
    r = vectors.norm(dim=1)
    decay = SIGMA / (r - CUTOFF)
    pair = A * EPSILON * (B * (SIGMA / r) ** P - 1) * decay.exp()
    energies = r.new_zeros(n).index_add(0, first, 0.5 * pair)
    count = torch.bincount(first, minlength=n)
    number = torch.arange(len(first))
    behind = count.cumsum(0)[first] - number - 1  # later neighbours of the same atom
    one = number.repeat_interleave(behind)
    start = (behind.cumsum(0) - behind).repeat_interleave(behind)
    two = one + 1 + torch.arange(len(one)) - start
    cosine = (vectors[one] * vectors[two]).sum(1) / (r[one] * r[two])
    window = (GAMMA * decay).exp()
    angle = LAMBDA * EPSILON * (cosine - COS_THETA0).square() * window[one] * window[two]
    return energies.index_add(0, first[one], angle)
