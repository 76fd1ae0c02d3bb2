"""One melt-quench trajectory: from a crystal to a labelled frame of the glass."""

from __future__ import annotations

import ase
import numpy as np
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import atomic_masses
from ase.units import _amu
from numpy.typing import NDArray

from torchlpr.structures.coordination import coordination_numbers
from torchlpr.structures.lammps_engine import PeriodicCell
from torchlpr.structures.melt_quench_protocol import MeltQuenchProtocol, defect_class
from torchlpr.structures.tersoff_energy import tersoff_site_energies

__all__ = ["run_trajectory"]

Floats = NDArray[np.float64]

DECIMALS = 8
"""Decimals of a position in extended XYZ: labels are computed at what the file will hold."""


def run_trajectory(protocol: MeltQuenchProtocol, seed: int, trajectory: int) -> ase.Atoms:
    """Runs one trajectory; its result depends on the arguments alone.

    Args:
        protocol: the numbers of the run.
        seed: seed of the whole set.
        trajectory: number of the trajectory in the set.

    Returns:
        The frame at the final temperature, labelled with ``energy`` and ``forces``, the arrays
        ``local_energy``, ``local_energy_lmp`` and ``coordination``, and where it comes from.
    """
    random = np.random.default_rng([seed, trajectory])
    density = float(random.uniform(*protocol.density_range))
    start = _diamond(protocol.cells, density)
    edge = float(start.cell.lengths()[0])
    with PeriodicCell(start.positions, edge, protocol.time_step_ps) as cell:
        cell.draw_velocities(protocol.melt[0], _draw(random))
        _quench(cell, protocol)
        probes, positions = _search(cell, protocol, random, start)
        frame = start.copy()
        frame.positions = positions
        frame.wrap()
        frame.positions = np.round(frame.positions, DECIMALS)
        _label(frame, cell)
    frame.info.update(trajectory=trajectory, seed=seed, density_g_cm3=density, probes=probes)
    n_defects = _defects(frame, frame.positions, protocol)[0]
    frame.arrays["coordination"] = coordination_numbers(frame, protocol.cutoff)
    frame.info.update({"n_defects": n_defects, "class": defect_class(n_defects)})
    return frame


def _diamond(cells: int, density: float) -> ase.Atoms:
    """Cubic diamond of a density in g/cm3."""
    cubic_edge = (8 * atomic_masses[14] * _amu * 1e3 / density) ** (1 / 3) * 1e8
    return bulk("Si", "diamond", a=cubic_edge, cubic=True).repeat(cells)


def _draw(random: np.random.Generator) -> int:
    """A seed such as LAMMPS takes."""
    return int(random.integers(1, 10**8))


def _quench(cell: PeriodicCell, protocol: MeltQuenchProtocol) -> None:
    """Melts the crystal and takes the liquid to the annealing temperature."""
    hot, slow, cold = protocol.liquid[0], protocol.slow_below, protocol.anneal_temperature
    cell.run(protocol.melt[0], *protocol.melt)
    cell.run(hot, *protocol.liquid)
    cell.run(hot, slow, (hot - slow) / protocol.fast_rate)
    cell.run(slow, cold, (slow - cold) / protocol.slow_rate)
    cell.run(cold, cold, protocol.settle_ps)


def _search(
    cell: PeriodicCell, protocol: MeltQuenchProtocol, random: np.random.Generator, like: ase.Atoms
) -> tuple[int, Floats]:
    """Anneals until a frame of the wanted class is found: (probes used, positions)."""
    hot, cold = protocol.anneal_temperature, protocol.final_temperature
    for probe in range(1, protocol.max_probes + 1):
        cell.run(hot, hot, protocol.probe_ps)
        state = cell.get_state()
        cell.minimise()
        last = probe == protocol.max_probes
        if last or _defects(like, cell.get_state()[0], protocol)[1] == protocol.wanted:
            cell.draw_velocities(cold, _draw(random))
            cell.run(cold, cold, protocol.hold_ps)
            positions = cell.get_state()[0]
            if last or _defects(like, positions, protocol)[1] == protocol.wanted:
                break
        cell.set_state(*state)
    return probe, positions


def _defects(like: ase.Atoms, positions: Floats, protocol: MeltQuenchProtocol) -> tuple[int, str]:
    """Number of atoms that are not four-coordinated, and the class which that gives."""
    structure = ase.Atoms(like.numbers, positions=positions, cell=like.cell, pbc=True)
    n_defects = int(np.sum(coordination_numbers(structure, protocol.cutoff) != 4))
    return n_defects, defect_class(n_defects)


def _label(frame: ase.Atoms, cell: PeriodicCell) -> None:
    """Attaches energy, forces and both splits of the energy into atoms."""
    cell.set_state(frame.positions, np.zeros_like(frame.positions))
    energy, forces, halves = cell.evaluate()
    frame.arrays["local_energy"] = tersoff_site_energies(frame)
    frame.arrays["local_energy_lmp"] = halves
    frame.calc = SinglePointCalculator(frame, energy=energy, forces=forces)
