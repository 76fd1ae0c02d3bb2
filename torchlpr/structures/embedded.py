"""The structures that come with torchlpr, so that its studies run without a download."""

from __future__ import annotations

import io
import lzma
from importlib.resources import files

import ase
import ase.io

from torchlpr.errors import InputError

__all__ = ["AMORPHOUS_SILICON", "SUBSETS", "amorphous_silicon"]

SUBSETS = ("train", "validation", "test")

AMORPHOUS_SILICON = "amorphous_silicon.xyz.xz"
"""Name of the shipped file in ``torchlpr/structures/data``, whose README says how it was made."""


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
    if subset is not None and subset not in SUBSETS:
        raise InputError(f"subset must be one of {', '.join(SUBSETS)}, not {subset!r}.")
    packed = files("torchlpr.structures").joinpath("data").joinpath(AMORPHOUS_SILICON).read_bytes()
    text = io.StringIO(lzma.decompress(packed).decode("utf-8"))
    frames = ase.io.iread(text, index=":", format="extxyz")
    return [frame for frame in frames if subset in (None, frame.info["subset"])]
