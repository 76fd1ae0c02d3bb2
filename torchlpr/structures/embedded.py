"""The structures that come with torchlpr, so that its studies run without a download."""

from __future__ import annotations

import io
import lzma
from importlib.resources import files

import ase
import ase.io

from torchlpr.errors import InputError

__all__ = [
    "AMORPHOUS_CARBON",
    "AMORPHOUS_SILICON",
    "GALLIUM_ARSENIDE",
    "SUBSETS",
    "amorphous_carbon",
    "amorphous_silicon",
    "gallium_arsenide",
]

SUBSETS = ("train", "validation", "test")

AMORPHOUS_SILICON = "amorphous_silicon.xyz.xz"
AMORPHOUS_CARBON = "amorphous_carbon.xyz.xz"
GALLIUM_ARSENIDE = "gallium_arsenide.xyz.xz"
"""Names of the files in ``torchlpr/structures/data``; its README says how they were made."""


def amorphous_silicon(subset: str | None = None) -> list[ase.Atoms]:
    """Amorphous silicon, 64 atoms a cell at 300 K, with the Tersoff potential's energies.

    Every frame is the end of a melt-quench trajectory of its own, so no two frames of different
    subsets are related. ``info`` tells ``class`` ("defect_free": all atoms have four neighbours
    within 2.85 Å; "defect_containing": more than four atoms do not), ``n_defects``, ``subset``,
    ``trajectory`` and ``density_g_cm3``. The calculator holds the energy (eV) and the forces
    (eV/Å). The arrays hold ``coordination`` and two ways to split the energy into atoms (eV), each
    of which adds up to it: ``local_energy`` gives half of a directed bond to the atom whose
    neighbours make its bond order (range 3.2 Å), ``local_energy_lmp`` is LAMMPS'
    ``compute pe/atom`` (range 6.4 Å).

    Args:
        subset: "train", "validation" or "test"; all frames if None.

    Returns:
        The frames in the order of the file; each call makes new ones.

    Raises:
        InputError: if there is no such subset.
    """
    return _read(AMORPHOUS_SILICON, subset)


def amorphous_carbon(subset: str | None = None) -> list[ase.Atoms]:
    """Amorphous carbon, 64 atoms a cell at 300 K, with the Tersoff potential's energies.

    ``info`` tells ``class`` ("equal": as many atoms with three as with four neighbours within
    1.82 Å; "other": the numbers differ by a third of the atoms or more), ``subset`` and
    ``trajectory``. No trajectory is in two subsets. The calculator holds the energy (eV).

    Args:
        subset: "train", "validation" or "test"; all frames if None.

    Returns:
        The frames in the order of the file; each call makes new ones.

    Raises:
        InputError: if there is no such subset.
    """
    return _read(AMORPHOUS_CARBON, subset)


def gallium_arsenide(subset: str | None = None) -> list[ase.Atoms]:
    """Molten gallium arsenide of several compositions, 64 atoms a cell, 1500 K to 2500 K.

    The energies (eV, in the calculator) are those of a bond-order potential, zero for free atoms.
    ``info`` tells ``temperature_K``, ``subset`` and ``trajectory``. No trajectory is in two
    subsets.

    Args:
        subset: "train", "validation" or "test"; all frames if None.

    Returns:
        The frames in the order of the file; each call makes new ones.

    Raises:
        InputError: if there is no such subset.
    """
    return _read(GALLIUM_ARSENIDE, subset)


def _read(name: str, subset: str | None) -> list[ase.Atoms]:
    """Frames of a shipped file."""
    if subset is not None and subset not in SUBSETS:
        raise InputError(f"subset must be one of {', '.join(SUBSETS)}, not {subset!r}.")
    packed = files("torchlpr.structures").joinpath("data").joinpath(name).read_bytes()
    text = io.StringIO(lzma.decompress(packed).decode("utf-8"))
    frames = ase.io.iread(text, index=":", format="extxyz")
    return [frame for frame in frames if subset in (None, frame.info["subset"])]
