"""From trajectories of carbon or gallium arsenide to the files that come with torchlpr."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

import ase
import ase.io
from ase.calculators.singlepoint import SinglePointCalculator

from torchlpr.errors import InputError
from torchlpr.structures.amorphous_subsets import write_compressed

__all__ = ["main", "pack", "split_trajectories"]


def split_trajectories(
    trajectories: Sequence[Sequence[ase.Atoms]], test: int, validation: int
) -> list[ase.Atoms]:
    """Assigns whole trajectories to subsets.

    Trajectories are independent draws: the first go to "test", the next to "validation" and all
    others to "train".

    Args:
        trajectories: frames of each.
        test: trajectories held out.
        validation: trajectories that choose mu.

    Returns:
        The frames in order; ``info["subset"]`` is set.

    Raises:
        InputError: if there are too few trajectories.
    """
    if len(trajectories) <= test + validation:
        raise InputError(
            f"{len(trajectories)} trajectories are too few for {test + validation} held out"
        )
    for number, frames in enumerate(trajectories):
        held = "test" if number < test else "validation"
        for frame in frames:
            frame.info["subset"] = held if number < test + validation else "train"
    return [frame for frames in trajectories for frame in frames]


def pack(frames: Iterable[ase.Atoms]) -> list[ase.Atoms]:
    """Frames with what a study needs: geometry, energy and where they come from.

    Args:
        frames: with energies.

    Returns:
        Copies without forces.
    """
    packed = []
    for frame in frames:
        small = ase.Atoms(frame.symbols, frame.positions, cell=frame.cell, pbc=True)
        small.info = {k: v for k, v in frame.info.items() if k in KEPT}
        small.calc = SinglePointCalculator(small, energy=frame.get_potential_energy())
        packed.append(small)
    return packed


KEPT = ("class", "subset", "trajectory", "seed", "temperature_K")


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: ``python -m torchlpr.structures.disorder_subsets OUT FOLDER TEST VALIDATION``.

    Args:
        arguments: the arguments, by default those of the process; folder, test and validation
            may be repeated.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="file to write, .xyz.xz")
    parser.add_argument("sets", nargs="+", help="folder, trajectories to test and to validate by")
    options = parser.parse_args(arguments)
    frames = []
    for folder, test, validation in zip(*[iter(options.sets)] * 3, strict=True):
        paths = sorted(Path(folder).glob("*.xyz"))
        trajectories = [list(ase.io.iread(path)) for path in paths]
        frames += split_trajectories(trajectories, int(test), int(validation))
    write_compressed(options.out, pack(frames))


if __name__ == "__main__":
    main()
