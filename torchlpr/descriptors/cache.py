"""Features on disk: computed once for given hyperparameters and structures, checked when read.

A key is a sha256 of everything that the features depend on, so that a file is never stale: another
hyperparameter, featomic version or coordinate is another file. Deleting the folder is always safe.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ase
import numpy as np
import torch
from torch import Tensor

from torchlpr.errors import InputError
from torchlpr.files import atomic_path
from torchlpr.structures.derivatives import Derivatives

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
        found = self._read(
            key,
            ("features",),
            lambda x: tuple(x[0].shape) == shape and x[0].dtype == torch.float64,
        )
        return None if found is None else found[0]

    def load_derivatives(self, key: str, n_features: int) -> Derivatives | None:
        """Read derivatives of features, if they are there and whole.

        Args:
            key: from :func:`cache_key`.
            n_features: number of features to expect.

        Returns:
            Derivatives, float64, or None if they must be computed; a damaged file gives a
            :class:`CacheWarning` too.
        """
        found = self._read(
            f"{key}-derivatives",
            ("centre", "moved", "values"),
            lambda x: x[2].shape[2] == n_features and x[2].dtype == torch.float64,
        )
        return None if found is None else Derivatives(*found)

    def _read(
        self, key: str, names: tuple[str, ...], fits: Callable[[list[Tensor]], bool]
    ) -> list[Tensor] | None:
        """Tensors of a file, or None if they must be computed."""
        path = self.path(key)
        if not path.exists():
            return None
        try:
            stored = torch.load(path, weights_only=True)
            tensors = [stored[name] for name in names]
            whole = fits(tensors) and stored["sha256"] == _checksum(key, *tensors)
            problem = "" if whole else "its checksum does not match"
        except Exception as error:  # a damaged file fails in torch, zip, pickle or the dictionary
            whole, problem = False, f"{type(error).__name__} on reading"
        if whole:
            return tensors
        warnings.warn(
            f"the cached features {path} are damaged ({problem}); computing them again",
            CacheWarning,
            stacklevel=5,
        )
        return None

    def save(self, key: str, features: Tensor) -> None:
        """Write features under a temporary name, then rename: a file is whole or absent.

        A folder that cannot be written to gives a :class:`CacheWarning` only.

        Args:
            key: from :func:`cache_key`.
            features: shape (atoms, features), float64, CPU.
        """
        self._write(key, {"features": features})

    def save_derivatives(self, key: str, derivatives: Derivatives) -> None:
        """Write derivatives of features, as :meth:`save` does features.

        Args:
            key: from :func:`cache_key`.
            derivatives: float64, CPU.
        """
        d = derivatives
        tensors = {"centre": d.centre, "moved": d.moved, "values": d.values}
        self._write(f"{key}-derivatives", tensors)

    def _write(self, key: str, tensors: dict[str, Tensor]) -> None:
        content = {**tensors, "sha256": _checksum(key, *tensors.values())}
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
                stacklevel=5,
            )


def _checksum(key: str, *tensors: Tensor) -> str:
    """Checksum of the numbers and of the key they belong to."""
    digest = hashlib.sha256(key.encode())
    for tensor in tensors:
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()
