"""Features on disk: computed once for given hyperparameters and structures, checked when read.

A key is a sha256 of everything that the features depend on, so that a file is never stale: another
hyperparameter, featomic version or coordinate is another file. Deleting the folder is always safe.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ase
import numpy as np
import torch
from torch import Tensor

from torchlpr.errors import InputError
from torchlpr.files import atomic_path

__all__ = ["CacheWarning", "FeatureCache", "cache_key"]

#: raise it whenever the meaning or order of rows or columns changes
FORMAT = 1


class CacheWarning(UserWarning):
    """A cache file could not be used or written; the features themselves are right."""


def cache_key(hypers: Mapping[str, Any], structures: Iterable[ase.Atoms]) -> str:
    """Name of the features of some structures.

    Args:
        hypers: plain hyperparameters of the descriptor.
        structures: their order, atomic numbers, positions, cell and pbc count, bit by bit.

    Returns:
        64 hexadecimal digits.
    """
    head = {"format": FORMAT, "featomic": version("featomic"), "hypers": dict(hypers)}
    digest = hashlib.sha256(json.dumps(head, sort_keys=True, allow_nan=False).encode())
    for atoms in structures:
        digest.update(len(atoms).to_bytes(8, "little"))
        digest.update(np.ascontiguousarray(atoms.numbers, dtype="<i8").tobytes())
        digest.update(np.ascontiguousarray(atoms.positions, dtype="<f8").tobytes())
        digest.update(np.ascontiguousarray(atoms.cell.array, dtype="<f8").tobytes())
        digest.update(np.ascontiguousarray(atoms.pbc, dtype="u1").tobytes())
    return digest.hexdigest()


class FeatureCache:
    """A folder with one file of features a key.

    Attributes:
        folder: where the files lie; it is made when the first one is written.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder).expanduser()

    def path(self, key: str) -> Path:
        """File of a key, whether it exists or not."""
        return self.folder / f"{key}.pt"

    def load(self, key: str, shape: tuple[int, int]) -> Tensor | None:
        """Read features, if they are there and whole.

        Args:
            key: from :func:`cache_key`.
            shape: (atoms, features) to expect.

        Returns:
            Features, float64, or None if they must be computed; a damaged file gives a
            :class:`CacheWarning` too.
        """
        path = self.path(key)
        if not path.exists():
            return None
        try:
            stored = torch.load(path, weights_only=True)
            features: Tensor = stored["features"]
            whole = (
                tuple(features.shape) == shape
                and features.dtype == torch.float64
                and stored["sha256"] == _checksum(key, features)
            )
            problem = "" if whole else "its checksum does not match"
        except Exception as error:  # a damaged file fails in torch, zip, pickle or the dictionary
            whole, problem = False, f"{type(error).__name__} on reading"
        if whole:
            return features
        warnings.warn(
            f"the cached features {path} are damaged ({problem}); computing them again",
            CacheWarning,
            stacklevel=4,
        )
        return None

    def save(self, key: str, features: Tensor) -> None:
        """Write features under a temporary name, then rename: a file is whole or absent.

        A folder that cannot be written to gives a :class:`CacheWarning` only.

        Args:
            key: from :func:`cache_key`.
            features: shape (atoms, features), float64, CPU.
        """
        content = {"features": features, "sha256": _checksum(key, features)}
        try:
            with atomic_path(self.path(key)) as temporary, temporary.open("xb") as file:
                torch.save(content, file)
        except (
            OSError,
            RuntimeError,
            InputError,
        ) as error:  # torch tells of a full disk by a RuntimeError
            warnings.warn(
                f"could not write the feature cache {self.folder} ({error}); going on without",
                CacheWarning,
                stacklevel=4,
            )


def _checksum(key: str, features: Tensor) -> str:
    """Checksum of the numbers and of the key they belong to."""
    digest = hashlib.sha256(key.encode())
    digest.update(features.contiguous().numpy().data)
    return digest.hexdigest()
