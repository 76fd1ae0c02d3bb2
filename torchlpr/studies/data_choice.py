"""Which data a study runs on: the paper's, or others."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from torchlpr.errors import InputError

__all__ = ["check_data", "deal", "shared_file"]

CHOICES = ("surrogate", "original")
VARIABLE = "TORCHLPR_DATA"
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
