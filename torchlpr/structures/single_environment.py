"""Strained variants of a crystal, and whether all its atoms share one environment."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.geometry import cell_to_cellpar, cellpar_to_cell
from torch import Tensor

from torchlpr.errors import InputError
from torchlpr.structures.batch import AtomBatch

__all__ = ["SINGLE", "cell_variants", "environment_spread"]

SINGLE = 1e-10  # spread to which environments count as one and the same


def cell_variants(
    crystal: Atoms, n: int, seed: int = 0, angle: float = 10.0, length: float = 0.25
) -> list[Atoms]:
    """Random cells around a crystal's, at its volume and with its fractional coordinates.

    The three angles change by up to ``angle``, a and b by up to ``length``, all uniformly; c
    follows from the volume. Where a Wyckoff position relates all atoms by inversion and
    translation, as in diamond, they still share one environment.

    Source: Chong et al., J. Chem. Theory Comput. 19, 8020 (2023), section 5 of the supporting
    information.

    Args:
        crystal: periodic in three directions.
        n: how many variants.
        seed: of the random numbers.
        angle: largest change of an angle, degrees.
        length: largest change of a and of b, Angstrom.

    Returns:
        The variants, without energies.

    Raises:
        InputError: if the crystal is not periodic, a setting makes no sense, or no cell of such
            angles exists.
    """
    if not crystal.pbc.all() or abs(crystal.cell.volume) < 1e-6:
        raise InputError("variants of a cell need a crystal that is periodic in three directions")
    if isinstance(n, bool) or not isinstance(n, int) or n < 0:
        raise InputError(f"n must be a whole number from 0 on, not {n!r}")
    if not (0 <= angle < 90 and length >= 0):
        raise InputError(f"angle must be in 0..90 and length not negative, not {angle}, {length}")
    rng, variants = np.random.default_rng(seed), []
    lengths, angles = np.split(cell_to_cellpar(crystal.cell), 2)
    if length >= lengths[:2].min():
        raise InputError(
            f"a change of {length} is not smaller than the edge of {lengths[:2].min():.3g} Angstrom"
        )
    for _ in range(n):
        new = angles + rng.uniform(-angle, angle, 3)
        ab = lengths[:2] + rng.uniform(-length, length, 2)
        cosines = np.cos(np.radians(new))
        square = 1 - np.sum(cosines**2) + 2 * np.prod(cosines)
        if not square > 0:
            raise InputError(f"no cell has the angles {new.round(1).tolist()}; lower angle")
        c = abs(crystal.cell.volume) / (np.prod(ab) * np.sqrt(square))
        variant = Atoms(numbers=crystal.numbers, pbc=True, cell=cellpar_to_cell([*ab, c, *new]))
        variant.set_scaled_positions(crystal.get_scaled_positions(wrap=False))
        variants.append(variant)
    return variants


def environment_spread(batch: AtomBatch) -> Tensor:
    """How far the environments of a structure are from being one.

    Args:
        batch: features of some structures.

    Returns:
        max_i |x_i - mean| / |mean| over the atoms of each structure, zero for a single
        environment, infinite where there are several species, shape (structures,).
    """
    x, owner = batch.features, batch.structure
    total = x.new_zeros(batch.n_structures, x.shape[1]).index_add(0, owner, x)
    mean = total / batch.counts.to(x).unsqueeze(1)
    away = (x - mean[owner]).norm(dim=1) / mean.norm(dim=1)[owner]
    types = batch.types.to(x)
    low = types.new_full((batch.n_structures,), float("inf"))
    high = -low
    low.scatter_reduce_(0, owner, types, "amin")
    high.scatter_reduce_(0, owner, types, "amax")
    spread = away.new_zeros(batch.n_structures).scatter_reduce_(0, owner, away, "amax")
    return spread.masked_fill(low != high, float("inf"))
