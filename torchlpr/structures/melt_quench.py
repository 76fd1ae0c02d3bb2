"""Amorphous silicon by melt-quench: seeded, parallel, and resumable.

The set that comes with torchlpr is made by the three commands in ``data/README.md``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from torchlpr.structures.melt_quench_protocol import DEFECT_FREE, MeltQuenchProtocol
from torchlpr.structures.melt_quench_trajectory import run_trajectory
from torchlpr.structures.trajectory_files import run_trajectories

__all__ = ["generate_amorphous_silicon", "main"]


def generate_amorphous_silicon(
    out_dir: str | Path,
    n_trajectories: int,
    seed: int = 0,
    n_workers: int = 1,
    protocol: MeltQuenchProtocol | None = None,
    *,
    first: int = 0,
    progress: bool = True,
) -> list[Path]:
    """Runs melt-quench trajectories of Tersoff silicon, one file each.

    A trajectory whose file exists is not run again, so a run that was killed goes on where it
    stopped. A frame depends on the protocol, the seed and its number, not on the workers.
    A script that asks for several workers needs the usual ``if __name__ == "__main__"``.

    Args:
        out_dir: folder of the files, made if it is absent; one protocol and seed a folder.
        n_trajectories: how many trajectories to have in the end.
        seed: seed of the set.
        n_workers: processes; each runs one trajectory at a time on one core.
        protocol: the numbers of a run.
        first: number of the first trajectory.
        progress: show a progress bar.

    Returns:
        The files in the order of the trajectories, extended XYZ with one labelled frame each.

    Raises:
        InputError: if a number is out of range or the folder holds another protocol or seed.
        MissingExtraError: if LAMMPS is not installed.
    """
    return run_trajectories(
        run_trajectory,
        protocol or MeltQuenchProtocol(),
        out_dir,
        n_trajectories,
        seed,
        n_workers,
        first,
        progress,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: ``python -m torchlpr.structures.melt_quench FOLDER --trajectories 10``.

    Args:
        arguments: the arguments, by default those of the process.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of the files, one a trajectory")
    parser.add_argument("--trajectories", type=int, required=True)
    parser.add_argument("--first", type=int, default=0, help="number of the first trajectory")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--wanted", default=DEFECT_FREE, help="class of the frames to look for")
    default = MeltQuenchProtocol()
    for name in ("anneal_temperature", "slow_rate", "settle_ps", "probe_ps"):
        option = "--" + name.replace("_", "-")
        parser.add_argument(option, type=float, default=getattr(default, name))
    options = parser.parse_args(arguments)
    generate_amorphous_silicon(
        options.folder,
        options.trajectories,
        options.seed,
        options.workers,
        MeltQuenchProtocol(
            wanted=options.wanted,
            anneal_temperature=options.anneal_temperature,
            slow_rate=options.slow_rate,
            settle_ps=options.settle_ps,
            probe_ps=options.probe_ps,
        ),
        first=options.first,
    )


if __name__ == "__main__":
    main()
