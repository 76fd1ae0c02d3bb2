"""The site energies of Tersoff's silicon and carbon, from the formula.

LAMMPS only reports a bond's energy split between both of its ends, which makes the energy of an
atom depend on the neighbours of its neighbours. The formula has a split of shorter range, and a
short-ranged model can represent only that one.
"""

from __future__ import annotations

from dataclasses import dataclass

import ase
import numpy as np
from ase.neighborlist import neighbor_list
from numpy.typing import NDArray

from torchlpr.errors import InputError

__all__ = ["CARBON", "SILICON", "TersoffParameters", "tersoff_site_energies"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TersoffParameters:
    """One element's entry, in the names of ``pair_style tersoff`` of LAMMPS (eV and Å).

    Attributes:
        m: power of the distance difference in the bond order.
        gamma: factor of the angular function.
        lambda3: decay of the bond order with the distance difference, 1/Å.
        c: strength of the angular function.
        d: width of the angular function.
        cos_theta0: cosine at which the angular function is smallest.
        n: power of the bond order.
        beta: weight of the surroundings in the bond order.
        lambda2: decay of the attraction, 1/Å.
        b: strength of the attraction, eV.
        r: middle of the cutoff, Å.
        half_width: half the width of the cutoff, Å.
        lambda1: decay of the repulsion, 1/Å.
        a: strength of the repulsion, eV.
    """

    m: float
    gamma: float
    lambda3: float
    c: float
    d: float
    cos_theta0: float
    n: float
    beta: float
    lambda2: float
    b: float
    r: float
    half_width: float
    lambda1: float
    a: float


SILICON = TersoffParameters(
    m=3.0, gamma=1.0, lambda3=1.3258, c=4.8381, d=2.0417, cos_theta0=0.0, n=22.956,
    beta=0.33675, lambda2=1.3258, b=95.373, r=3.0, half_width=0.2, lambda1=3.2394, a=3264.7,
)  # fmt: skip
"""J. Tersoff, Phys. Rev. B 37, 6991 (1988), as in the ``Si.tersoff`` that comes with LAMMPS."""

CARBON = TersoffParameters(
    m=3.0, gamma=1.0, lambda3=0.0, c=38049.0, d=4.3484, cos_theta0=-0.57058, n=0.72751,
    beta=1.5724e-7, lambda2=2.2119, b=346.7, r=1.95, half_width=0.15, lambda1=3.4879, a=1393.6,
)  # fmt: skip
"""J. Tersoff, Phys. Rev. B 39, 5566 (1989), as in the ``SiC.tersoff`` that comes with LAMMPS."""


def tersoff_site_energies(structure: ase.Atoms, parameters: TersoffParameters = SILICON) -> Floats:
    r"""Site energies of the Tersoff potential, of the range of one cutoff.

    .. math:: E_i = \frac{1}{2} \sum_j f_c(r_{ij}) [A e^{-\lambda_1 r_{ij}}
        - b_{ij} B e^{-\lambda_2 r_{ij}}]

    where the bond order :math:`b_{ij}` is made by the neighbours of :math:`i` alone.
    Source: J. Tersoff, Phys. Rev. B 37, 6991 (1988), doi:10.1103/PhysRevB.37.6991.

    Args:
        structure: atoms of one element, with their cell and periodicity.
        parameters: the element's entry.

    Returns:
        Energy of each atom in eV, shape (atoms,); the sum is the energy of the structure.

    Raises:
        InputError: if the structure holds more than one element.
    """
    if len(set(structure.numbers)) > 1:
        raise InputError(f"the Tersoff site energies are for one element, not {structure.symbols}.")
    p = parameters
    i, r, vector = neighbor_list("idD", structure, p.r + p.half_width)
    window = _cutoff(r, p)
    order = _bond_order(i, r, vector, window, p)
    bond = window * (p.a * np.exp(-p.lambda1 * r) - order * p.b * np.exp(-p.lambda2 * r))
    return np.asarray(np.bincount(i, weights=0.5 * bond, minlength=len(structure)), np.float64)


def _cutoff(r: Floats, p: TersoffParameters) -> Floats:
    """Tersoff's smooth step, 1 below r - half_width and 0 above r + half_width."""
    phase = np.clip((r - p.r) / p.half_width, -1.0, 1.0)
    return 0.5 - 0.5 * np.sin(0.5 * np.pi * phase)


def _bond_order(
    i: NDArray[np.int64], r: Floats, vector: Floats, window: Floats, p: TersoffParameters
) -> Floats:
    """Bond order of each directed bond, shape (bonds,), from the other bonds of its first atom."""
    bond, other = _bonds_of_same_atom(i)
    cosine = np.sum(vector[bond] * vector[other], axis=1) / (r[bond] * r[other])
    ratio = (p.c / p.d) ** 2
    angular = p.gamma * (1 + ratio - p.c**2 / (p.d**2 + (cosine - p.cos_theta0) ** 2))
    radial = np.exp((p.lambda3 * (r[bond] - r[other])) ** p.m)
    zeta = np.bincount(bond, weights=window[other] * angular * radial, minlength=len(i))
    return np.asarray((1 + (p.beta * zeta) ** p.n) ** (-0.5 / p.n), np.float64)


def _bonds_of_same_atom(
    i: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All ordered pairs of different bonds that leave the same atom; i is sorted."""
    count = np.bincount(i)
    first = np.cumsum(count) - count
    bond = np.repeat(np.arange(len(i)), count[i])
    start = np.repeat(np.cumsum(count[i]) - count[i], count[i])
    other = np.arange(len(bond)) - start + first[i[bond]]
    different = bond != other
    return bond[different], other[different]
