"""How many neighbours each atom has."""

from __future__ import annotations

import ase
import numpy as np
from ase.neighborlist import neighbor_list
from numpy.typing import NDArray

from torchlpr.errors import InputError

__all__ = ["coordination_numbers"]


def coordination_numbers(structure: ase.Atoms, cutoff: float = 2.85) -> NDArray[np.int64]:
    """Number of neighbours of every atom, periodic images counted.

    The default cutoff is the one by which Chong et al., J. Chem. Theory Comput. 19, 8020 (2023),
    doi:10.1021/acs.jctc.3c00704, tell four-coordinated atoms of amorphous silicon from defects.

    Args:
        structure: the atoms, with their cell and periodicity.
        cutoff: largest distance of a neighbour, in Å.

    Returns:
        Neighbours of each atom, shape (atoms,). An atom's own periodic images count.

    Raises:
        InputError: if the cutoff is not positive and finite.
    """
    if not (np.isfinite(cutoff) and cutoff > 0):
        raise InputError(f"cutoff must be a positive distance in Å, not {cutoff}.")
    if len(structure) == 0:
        return np.zeros(0, dtype=np.int64)
    centres = neighbor_list("i", structure, float(cutoff))
    return np.bincount(centres, minlength=len(structure)).astype(np.int64)
