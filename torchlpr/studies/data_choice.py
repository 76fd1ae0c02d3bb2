"""Which data a study runs on: the paper's, or others."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import ase
import numpy as np

from torchlpr.errors import InputError

__all__ = ["SUBSETS", "Sets", "check_data", "deal", "hold_out", "of_class", "shared_file"]

CHOICES = ("surrogate", "original")
VARIABLE = "TORCHLPR_DATA"
SUBSETS = ("train", "validation", "test")
HELD_OUT = 100  # structures to test on, and as many to validate on, where there are so many
Sets = dict[str, list[ase.Atoms]]
T = TypeVar("T")


def check_data(choice: str) -> None:
    """Refuse what is no choice.

    Args:
        choice: "surrogate" or "original".

    Raises:
        InputError: if it is another.
    """
    if choice not in CHOICES:
        raise InputError(f"data must be one of {', '.join(CHOICES)}, not {choice!r}")


def deal(frames: Sequence[T], n: int, seed: int) -> list[T]:
    """Some frames at random.

    Args:
        frames: to choose from.
        n: how many.
        seed: of the choice.

    Returns:
        The chosen ones in random order.

    Raises:
        InputError: if there are too few.
    """
    if not 0 < n <= len(frames):
        raise InputError(f"{n} of {len(frames)} structures cannot be chosen; change share")
    return [frames[k] for k in np.random.default_rng(seed).permutation(len(frames))[:n]]


def of_class(sets: Mapping[str, Sequence[ase.Atoms]], name: str) -> Sets:
    """Of each subset the structures of one class.

    Args:
        sets: structures whose ``info`` tells their ``class``.
        name: the class.

    Returns:
        The subsets.
    """
    return {s: [f for f in frames if f.info["class"] == name] for s, frames in sets.items()}


def hold_out(frames: Sequence[ase.Atoms], most: int) -> Sets:
    """Split structures that come in random order.

    Args:
        frames: the structures.
        most: of them to train on.

    Returns:
        "test" and "validation", a fifth at most each, and "train".
    """
    held = min(HELD_OUT, len(frames) // 5)
    return {
        "test": list(frames[:held]),
        "validation": list(frames[held : 2 * held]),
        "train": list(frames[2 * held :][:most]),
    }


def shared_file(name: str, what: str) -> Path:
    """A file of the data sets that do not come with the package.

    Args:
        name: path inside the folder that the environment variable ``TORCHLPR_DATA`` names.
        what: it holds, for the error.

    Returns:
        The file.

    Raises:
        InputError: if the variable is not set or the file is not there.
    """
    folder = os.environ.get(VARIABLE)
    if not folder:
        raise InputError(
            f"this study needs {what}, which does not come with torchlpr; set {VARIABLE} to the "
            f"folder that holds {name}"
        )
    path = Path(folder) / name
    if not path.is_file():
        raise InputError(f"{path}, {what}, is not there; set {VARIABLE} to the folder that has it")
    return path
