"""The numbers of the runs that make amorphous carbon and molten gallium arsenide."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import ase
import numpy as np

from torchlpr.errors import InputError
from torchlpr.structures.coordination import coordination_numbers
from torchlpr.structures.lammps_engine import Potential

__all__ = ["ANY", "EQUAL", "OTHER", "POTENTIALS", "DisorderProtocol", "carbon_class"]

POTENTIALS = {
    "carbon": Potential("tersoff", "SiC.tersoff", ("C",)),
    "gallium arsenide": Potential(
        "bop save", "GaAs.bop.table", ("Ga", "As"), ("comm_modify cutoff 14.7",)
    ),
}
"""Tersoff, Phys. Rev. B 39, 5566 (1989); Murdick et al., Phys. Rev. B 73, 045206 (2006)."""

EQUAL, OTHER, ANY = "equal", "other", "any"
BONDED = 1.82
"""Cutoff of a carbon bond in Å, that of Chong et al. (2023), supporting information, section 2."""


def carbon_class(structure: ase.Atoms) -> str:
    """Class of amorphous carbon by its numbers of atoms with three and with four neighbours.

    Args:
        structure: carbon.

    Returns:
        "equal" if the two are the same, "other" if they differ by a third of the atoms or more,
        and "any" between, or where more than one atom in sixteen has another coordination.
    """
    counts = np.bincount(coordination_numbers(structure, BONDED), minlength=5)
    three, four = int(counts[3]), int(counts[4])
    if 16 * (len(structure) - three - four) > len(structure):
        return ANY
    if three == four:
        return EQUAL
    return OTHER if 3 * abs(three - four) >= len(structure) else ANY


@dataclass(frozen=True)
class DisorderProtocol:
    """How a trajectory goes from a crystal to frames of a liquid or of a glass.

    A diamond lattice is melted and kept liquid. Every ``probe_ps`` a copy is cooled; if the cooled
    copy is of the wanted class it is a frame. Volume and composition are fixed throughout.

    Attributes:
        material: "carbon" or "gallium arsenide".
        wanted: class of the frames, for carbon "equal" or "other"; "any" takes all.
        share: share of the first element.
        density_range: bounds of the density that a trajectory draws, atoms per Å^3.
        cells: diamond cells of eight atoms along each edge.
        time_step_ps: time step, ps.
        melt: temperature (K) and duration (ps) that destroy the crystal.
        liquid: temperature of the liquid, K.
        probe_ps: time between copies, ps.
        quench_ps: time in which a copy is cooled, ps.
        final_range: bounds of the temperature that a copy is cooled to, K.
        hold_ps: time at that temperature, ps.
        frames: frames to find.
        max_probes: copies at most; a trajectory may end with fewer frames, but has one.
    """

    material: str = "carbon"
    wanted: str = EQUAL
    share: float = 1.0
    density_range: tuple[float, float] = (0.165, 0.172)
    cells: int = 2
    time_step_ps: float = 0.0005
    melt: tuple[float, float] = (20000.0, 1.0)
    liquid: float = 12000.0
    probe_ps: float = 0.2
    quench_ps: float = 3.0
    final_range: tuple[float, float] = (300.0, 300.0)
    hold_ps: float = 0.2
    frames: int = 1
    max_probes: int = 40

    def __post_init__(self) -> None:
        if self.material not in POTENTIALS:
            raise InputError(
                f"material must be one of {', '.join(POTENTIALS)}, not {self.material!r}"
            )
        classes = (EQUAL, OTHER, ANY) if self.material == "carbon" else (ANY,)
        if self.wanted not in classes:
            raise InputError(f"wanted must be one of {', '.join(classes)}, not {self.wanted!r}")
        if not 0 <= self.share <= 1:
            raise InputError(f"share must lie between 0 and 1, not {self.share}")
        for name in ("density_range", "final_range"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise InputError(f"{name} must be 0 < low <= high, not {(low, high)}")
        numbers = asdict(self) | {"melt": min(self.melt)}
        for name in (
            "cells", "time_step_ps", "melt", "liquid", "probe_ps", "quench_ps", "hold_ps",
            "frames", "max_probes",
        ):  # fmt: skip
            if not numbers[name] > 0:
                raise InputError(f"{name} must be above zero, not {numbers[name]}")
