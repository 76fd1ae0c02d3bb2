"""Amorphous carbon and molten gallium arsenide: seeded, parallel, and resumable.

The sets that come with torchlpr are made by the commands in ``data/README.md``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import ase
import numpy as np
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator

from torchlpr.structures.disorder_protocol import (
    ANY,
    POTENTIALS,
    DisorderProtocol,
    carbon_class,
)
from torchlpr.structures.lammps_engine import PeriodicCell
from torchlpr.structures.trajectory_files import run_trajectories

__all__ = ["generate_disordered", "main", "run_disordered"]

DECIMALS = 5
"""Decimals of a position in the shipped files: labels are computed at what they hold."""

RELAXATION_PS = 0.05


def generate_disordered(
    out_dir: str | Path,
    n_trajectories: int,
    protocol: DisorderProtocol,
    seed: int = 0,
    n_workers: int = 1,
    *,
    first: int = 0,
    progress: bool = True,
) -> list[Path]:
    """Runs trajectories of a liquid with quenched copies, one file each.

    A trajectory whose file exists is not run again, so a run that was killed goes on where it
    stopped. A frame depends on the protocol, the seed and its number, not on the workers.

    Args:
        out_dir: folder of the files, made if it is absent; one protocol and seed a folder.
        n_trajectories: how many trajectories to have in the end.
        protocol: the numbers of a run.
        seed: seed of the set.
        n_workers: processes; each runs one trajectory at a time on one core.
        first: number of the first trajectory.
        progress: show a progress bar.

    Returns:
        The files in the order of the trajectories, extended XYZ with energies.

    Raises:
        InputError: if a number is out of range or the folder holds another protocol or seed.
        MissingExtraError: if LAMMPS is not installed.
    """
    return run_trajectories(
        run_disordered, protocol, out_dir, n_trajectories, seed, n_workers, first, progress
    )


def run_disordered(protocol: DisorderProtocol, seed: int, trajectory: int) -> list[ase.Atoms]:
    """Runs one trajectory; its result depends on the arguments alone.

    Args:
        protocol: the numbers of the run.
        seed: seed of the whole set.
        trajectory: number of the trajectory in the set.

    Returns:
        The frames of the wanted class, at least one frame of any, with ``energy``, ``forces`` and
        where they come from.
    """
    random = np.random.default_rng([seed, trajectory])
    density = float(random.uniform(*protocol.density_range))
    like, kinds = _lattice(protocol, density, random)
    potential, edge = POTENTIALS[protocol.material], float(like.cell.lengths()[0])
    frames: list[ase.Atoms] = []
    with PeriodicCell(
        like.positions, edge, protocol.time_step_ps, potential, kinds, RELAXATION_PS
    ) as cell:
        cell.draw_velocities(protocol.melt[0], int(random.integers(1, 10**8)))
        cell.run(protocol.melt[0], *protocol.melt)
        cell.run(protocol.melt[0], protocol.liquid, 2 * protocol.probe_ps)
        for probe in range(1, protocol.max_probes + 1):
            cell.run(protocol.liquid, protocol.liquid, protocol.probe_ps)
            state = cell.get_state()
            final = float(random.uniform(*protocol.final_range))
            cell.run(protocol.liquid, final, protocol.quench_ps)
            cell.run(final, final, protocol.hold_ps)
            frame = _labelled(like, cell)
            found = carbon_class(frame) if protocol.material == "carbon" else ANY
            frame.info.update(trajectory=trajectory, seed=seed, temperature_K=round(final))
            frame.info["class"] = found
            wanted = protocol.wanted in {ANY, found}
            if wanted or (not frames and probe == protocol.max_probes):
                frames.append(frame)
            if wanted and len(frames) == protocol.frames:
                break
            cell.set_state(*state)
    return frames


def _lattice(
    protocol: DisorderProtocol, density: float, random: np.random.Generator
) -> tuple[ase.Atoms, list[int]]:
    """Diamond lattice of a density in atoms/Å^3, elements put on it at random."""
    symbols = POTENTIALS[protocol.material].elements
    lattice = bulk("C", "diamond", a=(8 / density) ** (1 / 3), cubic=True).repeat(protocol.cells)
    kinds = np.zeros(len(lattice), dtype=np.int64)
    others = round((1 - protocol.share) * len(lattice))
    kinds[random.permutation(len(lattice))[:others]] = 1
    lattice.symbols = [symbols[kind] for kind in kinds]
    return lattice, kinds.tolist()


def _labelled(like: ase.Atoms, cell: PeriodicCell) -> ase.Atoms:
    """The present frame, with the energy and forces of what a file will hold."""
    frame = like.copy()
    frame.positions = cell.get_state()[0]
    frame.wrap()
    frame.positions = np.round(frame.positions, DECIMALS)
    cell.set_state(frame.positions, np.zeros_like(frame.positions))
    energy, forces, _ = cell.evaluate()
    frame.calc = SinglePointCalculator(frame, energy=energy, forces=forces)
    return frame


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: ``python -m torchlpr.structures.disorder FOLDER --trajectories 10``.

    Args:
        arguments: the arguments, by default those of the process.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of the files, one a trajectory")
    parser.add_argument("--trajectories", type=int, required=True)
    parser.add_argument("--first", type=int, default=0, help="number of the first trajectory")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    default = DisorderProtocol()
    for field in fields(default):
        option, value = "--" + field.name.replace("_", "-"), getattr(default, field.name)
        if isinstance(value, tuple):
            parser.add_argument(option, type=float, nargs=2, default=value)
        else:
            parser.add_argument(option, type=type(value), default=value)
    options = vars(parser.parse_args(arguments))
    chosen = {field.name: options[field.name] for field in fields(default)}
    chosen = {name: tuple(v) if isinstance(v, list) else v for name, v in chosen.items()}
    generate_disordered(
        options["folder"],
        options["trajectories"],
        DisorderProtocol(**chosen),
        options["seed"],
        options["workers"],
        first=options["first"],
    )


if __name__ == "__main__":
    main()
