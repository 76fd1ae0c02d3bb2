"""Trajectories, one file each: seeded, parallel over processes, and resumable."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import ase
import ase.io
from tqdm import tqdm

from torchlpr.errors import InputError
from torchlpr.structures.lammps_engine import load_lammps

__all__ = ["run_trajectories"]

Frames = ase.Atoms | list[ase.Atoms]
Runner = Callable[[Any, int, int], Frames]
Job = tuple[Runner, Any, int, int, Path]


def run_trajectories(
    runner: Runner,
    protocol: Any,
    out_dir: str | Path,
    n_trajectories: int,
    seed: int,
    n_workers: int,
    first: int,
    progress: bool,
) -> list[Path]:
    """Runs trajectories with LAMMPS, one file each; those whose file exists are not run again.

    Args:
        runner: a function of a module: frames from protocol, seed and number of the trajectory.
        protocol: a dataclass, the numbers of a run.
        out_dir: folder of the files, made if it is absent; one protocol and seed a folder.
        n_trajectories: how many to have in the end.
        seed: seed of the set.
        n_workers: processes; each runs one trajectory at a time on one core.
        first: number of the first trajectory.
        progress: show a progress bar.

    Returns:
        The files in the order of the trajectories, extended XYZ.

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
    folder = Path(out_dir)
    _claim(folder, protocol, seed)
    numbers = range(first, first + n_trajectories)
    files = [folder / f"trajectory_{number:05d}.xyz" for number in numbers]
    jobs = [
        (runner, protocol, seed, number, file)
        for number, file in zip(numbers, files, strict=True)
        if not file.exists()
    ]
    bar = tqdm(total=len(files), initial=len(files) - len(jobs), disable=not progress)
    with bar:
        for _ in _finished(jobs, n_workers):
            bar.update()
    return files


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
    runner, protocol, seed, number, file = job
    frames = runner(protocol, seed, number)
    partial = file.with_suffix(f".{os.getpid()}.partial")
    ase.io.write(partial, frames, format="extxyz")
    partial.replace(file)


def _claim(folder: Path, protocol: Any, seed: int) -> None:
    """Notes protocol and seed in the folder, or compares them with what is noted."""
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / "protocol.json"
    mine = json.dumps({"seed": seed, **dataclasses.asdict(protocol)}, indent=1)
    if not note.exists():
        note.write_text(mine, encoding="utf-8")
    elif note.read_text(encoding="utf-8") != mine:
        raise InputError(f"{folder} holds another protocol or seed; choose another folder.")
