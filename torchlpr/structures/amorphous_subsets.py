"""From melt-quench trajectories to the file that comes with torchlpr: classes and subsets."""

from __future__ import annotations

import argparse
import io
import lzma
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import ase
import ase.io

from torchlpr.errors import InputError
from torchlpr.structures.melt_quench_protocol import DEFECT_CONTAINING, DEFECT_FREE

__all__ = ["HELD_OUT", "assign_subsets", "main", "write_compressed"]

HELD_OUT: Mapping[str, Mapping[str, int]] = {
    DEFECT_FREE: {"test": 30, "validation": 20},
    DEFECT_CONTAINING: {"test": 30, "validation": 10},
}
"""Frames of each class in the subsets that are not for training."""


def assign_subsets(
    frames: Iterable[ase.Atoms], held_out: Mapping[str, Mapping[str, int]] = HELD_OUT
) -> list[ase.Atoms]:
    """Keeps the frames of the classes asked for and assigns each to a subset.

    Trajectories are independent draws, so the order of their numbers is as good as a shuffle:
    the first go to "test", the next to "validation" and all others to "train".

    Args:
        frames: one labelled frame a trajectory, with ``class`` and ``trajectory`` in ``info``.
        held_out: for each class to keep, the number of frames in each subset but "train".

    Returns:
        The frames kept, by class, then by number; ``info["subset"]`` is set.

    Raises:
        InputError: if two frames are of one trajectory, or a class has too few frames.
    """
    ordered = sorted(frames, key=lambda frame: int(frame.info["trajectory"]))
    numbers = [frame.info["trajectory"] for frame in ordered]
    if len(set(numbers)) < len(numbers):
        raise InputError("a trajectory's number occurs twice; generate with other first numbers.")
    kept: list[ase.Atoms] = []
    for name, sizes in held_out.items():
        members = [frame for frame in ordered if frame.info["class"] == name]
        if len(members) <= sum(sizes.values()):
            raise InputError(
                f"{len(members)} frames are {name}, too few for {sum(sizes.values())} held out."
            )
        labels = [subset for subset, size in sizes.items() for _ in range(size)]
        labels += ["train"] * (len(members) - len(labels))
        for frame, label in zip(members, labels, strict=True):
            frame.info["subset"] = label
        kept += members
    return kept


def write_compressed(path: str | Path, frames: Sequence[ase.Atoms]) -> None:
    """Writes extended XYZ, compressed by xz.

    Args:
        path: the file, which should end in ``.xyz.xz``.
        frames: what to write.
    """
    text = io.StringIO()
    ase.io.write(text, frames, format="extxyz")
    packed = lzma.compress(text.getvalue().encode("utf-8"), preset=9 | lzma.PRESET_EXTREME)
    Path(path).write_bytes(packed)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: ``python -m torchlpr.structures.amorphous_subsets OUT FOLDER [FOLDER ...]``.

    Args:
        arguments: the arguments, by default those of the process.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="file to write, .xyz.xz")
    parser.add_argument("folders", type=Path, nargs="+", help="folders of melt-quench files")
    options = parser.parse_args(arguments)
    paths = sorted(path for folder in options.folders for path in folder.glob("*.xyz"))
    frames = (frame for path in paths for frame in ase.io.iread(path))
    write_compressed(options.out, assign_subsets(frames))


if __name__ == "__main__":
    main()
