"""Checked arrays and classes of atoms, shared by the statistics and the plots."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from torchlpr.errors import InputError

__all__ = ["Floats", "Values", "as_coordinates", "as_floats", "as_rigidity", "class_members"]

Values: TypeAlias = "Tensor | npt.ArrayLike"
Floats: TypeAlias = "npt.NDArray[np.float64]"


def as_floats(values: Values, name: str, *, length: int | None = None, ndim: int = 1) -> Floats:
    """Copy-free view of numbers as a float64 array, refused where it cannot be drawn.

    Args:
        values: tensor on any device, array or list.
        name: what the numbers are, for the error message.
        length: required size of the first axis, None takes any.
        ndim: required number of axes.

    Returns:
        The numbers, float64, on the CPU.

    Raises:
        InputError: if the shape is wrong or a value is not a finite number.
    """
    if isinstance(values, Tensor):
        values = values.detach().to("cpu", torch.float64).numpy()
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} must be an array of numbers: {error}") from error
    if array.ndim != ndim or (length is not None and array.shape[0] != length):
        wanted = "any number of" if length is None else length
        raise InputError(
            f"{name} must have {ndim} axes and {wanted} entries along the first, "
            f"but its shape is {array.shape}"
        )
    if not np.isfinite(array).all():
        bad = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise InputError(f"{name} is {array[bad]} at index {bad[0]}; it must be finite")
    return array


def as_rigidity(lpr: Values, name: str = "lpr", *, length: int | None = None) -> Floats:
    """Rigidities, which are finite and positive and may therefore be shown on a log scale.

    Args:
        lpr: local prediction rigidity in eV^-2, shape (atoms,).
        name: what the numbers are, for the error message.
        length: required number of atoms, None takes any.

    Returns:
        The rigidities in eV^-2, shape (atoms,), float64.

    Raises:
        InputError: if there is no atom, or a value is not finite and positive.
    """
    array = as_floats(lpr, name, length=length)
    if array.size == 0:
        raise InputError(f"{name} has no atoms")
    if array.min() <= 0:
        atom = int(array.argmin())
        raise InputError(f"{name} of atom {atom} is {array[atom]}; a rigidity is positive")
    return array


def as_coordinates(coordinates: Values) -> Floats:
    """Points of a map; components beyond the second are left out.

    Args:
        coordinates: shape (atoms, components), at least two components.

    Returns:
        The first two components, shape (atoms, 2), float64.

    Raises:
        InputError: if there are no atoms or fewer than two components.
    """
    points = as_floats(coordinates, "map coordinates", ndim=2)
    if points.shape[0] == 0 or points.shape[1] < 2:
        raise InputError(f"a map needs atoms and two components, not the shape {points.shape}")
    return points[:, :2]


def class_members(classes: Values, atoms: int) -> list[tuple[str, npt.NDArray[np.intp]]]:
    """Atoms of each class, classes in ascending order.

    Args:
        classes: label of each atom (coordination number, species, config_type), shape (atoms,).
        atoms: required number of atoms.

    Returns:
        For each class its label as text and the indices of its atoms.

    Raises:
        InputError: if there is not one label for each atom.
    """
    labels = np.asarray(classes.tolist() if isinstance(classes, Tensor) else classes)
    if labels.shape != (atoms,):
        raise InputError(f"classes must have shape ({atoms},), one an atom, not {labels.shape}")
    if labels.dtype == object:
        labels = labels.astype(str)
    # numbers sort by value: 10-fold comes after 4-fold
    unique, inverse = np.unique(labels, return_inverse=True)
    names = [f"{u:g}" if isinstance(u, np.floating) else str(u) for u in unique]
    return [(name, np.flatnonzero(inverse == k)) for k, name in enumerate(names)]
