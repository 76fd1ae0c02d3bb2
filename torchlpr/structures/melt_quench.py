"""Amorphous silicon by melt-quench: seeded, parallel, and resumable.

The set that comes with torchlpr is made by the three commands in ``data/README.md``.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import ase.io
from tqdm import tqdm

from torchlpr.errors import InputError
from torchlpr.structures.lammps_engine import load_lammps
from torchlpr.structures.melt_quench_protocol import DEFECT_FREE, MeltQuenchProtocol
from torchlpr.structures.melt_quench_trajectory import run_trajectory

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
    for name, value, least in (
        ("n_trajectories", n_trajectories, 1),
        ("n_workers", n_workers, 1),
        ("seed", seed, 0),
        ("first", first, 0),
    ):
        if value < least:
            raise InputError(f"{name} must be at least {least}, not {value}.")
    load_lammps()
    protocol = protocol or MeltQuenchProtocol()
    folder = Path(out_dir)
    _claim(folder, protocol, seed)
    numbers = range(first, first + n_trajectories)
    files = [folder / f"trajectory_{number:05d}.xyz" for number in numbers]
    jobs = [(protocol, seed, n, f) for n, f in zip(numbers, files, strict=True) if not f.exists()]
    bar = tqdm(total=len(files), initial=len(files) - len(jobs), disable=not progress)
    with bar:
        for _ in _finished(jobs, n_workers):
            bar.update()
    return files


Job = tuple[MeltQuenchProtocol, int, int, Path]


def _finished(jobs: Sequence[Job], n_workers: int) -> Iterator[None]:
    """Runs the jobs and yields after each."""
    if n_workers == 1:
        for job in jobs:
            _run_job(job)
            yield
        return
    # Spawned, not forked: a forked copy of an initialised MPI is not usable.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(n_workers, mp_context=context) as pool:
        futures = [pool.submit(_run_job, job) for job in jobs]
        try:
            for future in as_completed(futures):
                future.result()
                yield
        finally:
            for future in futures:
                future.cancel()


def _run_job(job: Job) -> None:
    """Runs one trajectory and writes its file in one step, whole or not at all."""
    protocol, seed, number, file = job
    frame = run_trajectory(protocol, seed, number)
    partial = file.with_suffix(f".{os.getpid()}.partial")
    ase.io.write(partial, frame, format="extxyz")
    partial.replace(file)


def _claim(folder: Path, protocol: MeltQuenchProtocol, seed: int) -> None:
    """Notes protocol and seed in the folder, or compares them with what is noted."""
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / "protocol.json"
    mine = json.dumps({"seed": seed, **dataclasses.asdict(protocol)}, indent=1)
    if not note.exists():
        note.write_text(mine, encoding="utf-8")
    elif note.read_text(encoding="utf-8") != mine:
        raise InputError(f"{folder} holds another protocol or seed; choose another folder.")


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
