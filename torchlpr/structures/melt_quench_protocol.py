"""The numbers of a melt-quench run."""

from __future__ import annotations

from dataclasses import dataclass

from torchlpr.errors import InputError

__all__ = ["DEFECT_CONTAINING", "DEFECT_FREE", "FEW_DEFECTS", "MeltQuenchProtocol", "defect_class"]

DEFECT_FREE = "defect_free"
FEW_DEFECTS = "few_defects"
DEFECT_CONTAINING = "defect_containing"


def defect_class(n_defects: int) -> str:
    """Class of a structure by its number of atoms that are not four-coordinated.

    Args:
        n_defects: under- and over-coordinated atoms.

    Returns:
        "defect_free" for none, "defect_containing" for more than four, else "few_defects".
    """
    if n_defects == 0:
        return DEFECT_FREE
    return DEFECT_CONTAINING if n_defects > 4 else FEW_DEFECTS


@dataclass(frozen=True)
class MeltQuenchProtocol:
    """How a trajectory goes from a crystal to one frame of the glass.

    A diamond cell is melted and quenched to the annealing temperature. There it stays, and every
    ``probe_ps`` a copy is relaxed: if the relaxed copy is of the wanted class it is taken to the
    final temperature and held, and it ends the trajectory if it is still of that class. So the
    search goes on only as long as it has to. Defects become rare during annealing: look for them
    at a higher temperature, after a faster quench. The volume is fixed throughout. A trajectory
    that is not successful ends with its last probe.

    Attributes:
        wanted: class of the frame to look for, "defect_free" or "defect_containing".
        cells: diamond cells of eight atoms along each edge.
        density_range: bounds of the density that a trajectory draws, g/cm3.
        time_step_ps: time step, ps.
        melt: temperature (K) and duration (ps) that destroy the crystal.
        liquid: temperature (K) and duration (ps) of the liquid.
        slow_below: temperature below which the quench is slow, K.
        fast_rate: quench rate above it, K/ps (1 K/ps is 1e12 K/s).
        slow_rate: quench rate below it, K/ps.
        anneal_temperature: temperature of the search, K.
        settle_ps: annealing before the first probe, ps.
        probe_ps: annealing between two probes, ps.
        max_probes: probes until a trajectory gives up.
        final_temperature: temperature of the frame, K.
        hold_ps: how long a frame stays at it, ps.
        cutoff: largest distance of a neighbour, Å.
    """

    wanted: str = DEFECT_FREE
    cells: int = 2
    density_range: tuple[float, float] = (2.22, 2.36)
    time_step_ps: float = 0.002
    melt: tuple[float, float] = (6000.0, 2.0)
    liquid: tuple[float, float] = (3000.0, 4.0)
    slow_below: float = 2600.0
    fast_rate: float = 100.0
    slow_rate: float = 25.0
    anneal_temperature: float = 1150.0
    settle_ps: float = 6.0
    probe_ps: float = 3.0
    max_probes: int = 40
    final_temperature: float = 300.0
    hold_ps: float = 2.0
    cutoff: float = 2.85

    def __post_init__(self) -> None:
        if self.wanted not in (DEFECT_FREE, DEFECT_CONTAINING):
            raise InputError(
                f"wanted must be {DEFECT_FREE!r} or {DEFECT_CONTAINING!r}, not {self.wanted!r}."
            )
        low, high = self.density_range
        if not 0 < low <= high:
            raise InputError(f"density_range must be 0 < low <= high, not {self.density_range}.")
        if min(*self.melt, *self.liquid) <= 0:
            raise InputError("melt and liquid must be a temperature and a duration above zero.")
        temperatures = (self.liquid[0], self.slow_below, self.anneal_temperature)
        if not (temperatures[0] >= temperatures[1] >= temperatures[2] > 0):
            raise InputError(
                "the temperatures of liquid, slow quench and annealing must not rise, "
                f"but they are {temperatures} K."
            )
        for name in (
            "cells", "time_step_ps", "fast_rate", "slow_rate", "settle_ps", "probe_ps",
            "max_probes", "final_temperature", "hold_ps", "cutoff",
        ):  # fmt: skip
            if not getattr(self, name) > 0:
                raise InputError(f"{name} must be above zero, not {getattr(self, name)}.")
