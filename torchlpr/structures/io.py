"""Structures in and out of files, in one normal form and at full precision."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import ase.io
import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import all_properties
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.formats import filetype, open_with_compression
from numpy.typing import NDArray

from torchlpr.errors import InputError
from torchlpr.structures.labels import (
    as_energy,
    as_forces,
    energy_keys,
    energy_of,
    forces_keys,
    forces_of,
    require_energies,
    require_forces,
    results_of,
)
from torchlpr.structures.validation import validate

__all__ = ["energy_of", "forces_of", "read", "require_energies", "require_forces", "write"]

T = TypeVar("T")

# ASE reads these names into the calculator or takes them for the structure itself
RESERVED = {*all_properties, "positions", "numbers", "symbols", "species", "pos", "Z", "charge"}
RESERVED |= {"move_mask", "Lattice", "Properties", "pbc"}


def read(
    path: str | Path,
    energy_key: str | None = "energy",
    forces_key: str | None = "forces",
    *,
    index: int | str | slice = ":",
) -> list[Atoms]:
    """Read and validate structures from any file that :func:`ase.io.read` understands.

    In the structures returned, energy and forces are results of a SinglePointCalculator under
    ASE's own names, whatever their keys in the file, and nowhere else under those names:
    ``atoms.get_potential_energy()`` works, and ASE's writers, which refuse a name that occurs
    twice, write them. Use :func:`energy_of` and :func:`forces_of` to get at them.

    Args:
        path: the file.
        energy_key: name of the total energy in eV, looked up in ``atoms.info`` and then in the
            calculator; None drops any energy.
        forces_key: name of the forces in eV/Angstrom, looked up in ``atoms.arrays`` and then in
            the calculator; None drops any forces.
        index: which structures, as in ASE.

    Returns:
        The structures; without energies if the file has none under the default key.

    Raises:
        InputError: if the file is missing or unreadable, a key that is not the default is absent,
            or a structure is not valid (:func:`torchlpr.structures.validation.validate`).
    """
    structures = _parse(Path(path), index)
    # what goes by these keys is listed before the labels are renamed
    for key, label, keys in (
        (energy_key, "energy", energy_keys),
        (forces_key, "forces", forces_keys),
    ):
        if key not in {None, label} and not any(_has(atoms, key) for atoms in structures):
            there = ", ".join(keys(structures)) or "none"
            raise InputError(
                f"no structure of {path} has {key!r}; choose the {label}_key among: {there}"
            )
    for i, atoms in enumerate(structures):
        try:
            _normalise(atoms, energy_key, forces_key)
        except InputError as error:
            raise InputError(f"structure {i} of {path}: {error}") from error
    validate(structures, str(path))
    return structures


def write(path: str | Path, structures: Atoms | Sequence[Atoms], **per_atom_arrays: object) -> None:
    """Write structures with energies, forces and further per-atom arrays, all or nothing.

    In extended XYZ (``.xyz``, ``.extxyz``) every real number keeps all its digits, where ASE alone
    would keep eight decimals and lose a rigidity of 1e-9. A label whose structure was changed
    since it was calculated is left out.

    Args:
        path: the file; its suffix gives the format, as in ASE. An existing file is replaced only
            once the new one is complete.
        structures: the structures, or a single one; they stay as they are.
        **per_atom_arrays: one flat array over the atoms of all structures, shape (atoms,) or
            (atoms, k), or a list of one array a structure; NumPy or torch. Only extended XYZ
            holds them.

    Raises:
        InputError: if an array does not fit the structures, its name is one ASE uses, the format
            cannot hold it, or the file cannot be written.
    """
    path = Path(path)
    structures = [structures] if isinstance(structures, Atoms) else list(structures)
    if len(structures) == 0:
        raise InputError(f"there are no structures to write to {path}; give at least one")
    copies = [_writable(atoms) for atoms in structures]
    for name, values in per_atom_arrays.items():
        for atoms, part in zip(copies, _split(name, values, structures), strict=True):
            atoms.arrays[name] = part
    try:
        with TemporaryDirectory(prefix=".torchlpr-", dir=path.parent) as folder:
            # the full name, because ASE tells formats such as POSCAR by it
            temporary = Path(folder) / path.name
            _write(temporary, copies, list(per_atom_arrays))
            temporary.replace(path)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{path} cannot be written: {_one_line(error)}") from error


def _parse(path: Path, index: int | str | slice) -> list[Atoms]:
    """Structures as ASE reads them."""
    if not path.exists():
        raise InputError(f"{path} does not exist; check the name of the file")
    if path.is_dir():
        raise InputError(f"{path} is a directory; give the file in it that holds the structures")
    try:
        if path.stat().st_size == 0:
            raise InputError(f"{path} is empty; give a file with at least one structure")
        # a name such as a@2.xyz is a name, not an index
        found = ase.io.read(str(path), index, do_not_split_by_at_sign=True)
    except InputError:
        raise
    except Exception as error:  # each of ASE's readers fails in its own way
        raise InputError(
            f"{path} cannot be read with index {index!r}: {_one_line(error)}; "
            "check that ASE reads it and that the suffix tells its format"
        ) from error
    return [found] if isinstance(found, Atoms) else list(found)


def _one_line(error: Exception) -> str:
    """Kind and message of an error in one line without a full stop."""
    return " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".")


def _has(atoms: Atoms, key: str | None) -> bool:
    """Whether a structure holds anything under a key."""
    return key in atoms.info or key in atoms.arrays or key in results_of(atoms)


def _normalise(atoms: Atoms, energy_key: str | None, forces_key: str | None) -> None:
    """Move energy and forces into a SinglePointCalculator under ASE's names."""
    results = results_of(atoms)
    energy = _found(energy_key, atoms.info, results, as_energy)
    forces = _found(forces_key, atoms.arrays, results, lambda v: as_forces(v, len(atoms)))
    atoms.info.pop("energy", None)
    atoms.arrays.pop("forces", None)
    if energy_key != "energy":
        results.pop("free_energy", None)  # that of another potential
    _set_results(atoms, {**results, "energy": energy, "forces": forces})


def _found(
    key: str | None, first: dict[str, Any], second: dict[str, Any], convert: Callable[[Any], T]
) -> T | None:
    """Converted value of a key in the first dictionary that has it."""
    value = None if key is None else first.get(key, second.get(key))
    return None if value is None else convert(value)


def _set_results(atoms: Atoms, results: dict[str, Any]) -> None:
    """Give a structure a calculator that only remembers."""
    present = {name: value for name, value in results.items() if value is not None}
    atoms.calc = SinglePointCalculator(atoms) if present else None
    if present:
        # its constructor refuses names that are not ASE's, which other codes do use
        atoms.calc.results.update(present)


def _writable(atoms: Atoms) -> Atoms:
    """A copy in the normal form that ASE's writers accept, whatever calculator it had."""
    results = {**results_of(atoms), "energy": energy_of(atoms), "forces": forces_of(atoms)}
    copy = atoms.copy()
    for name in results:
        copy.info.pop(name, None)
        copy.arrays.pop(name, None)
    _set_results(copy, results)
    return copy


def _split(name: str, values: object, structures: Sequence[Atoms]) -> list[NDArray[Any]]:
    """One array a structure out of a flat array or a list of arrays."""
    if name in RESERVED or not name.isidentifier():
        raise InputError(
            f"{name!r} cannot name a per-atom array, ASE reads it otherwise; rename it"
        )
    counts = [len(atoms) for atoms in structures]
    if isinstance(values, list | tuple) and any(np.ndim(_plain(v)) > 0 for v in values):
        parts = [_plain(v) for v in values]
        if len(parts) != len(counts):
            raise InputError(
                f"{name} has {len(parts)} arrays for {len(counts)} structures; give one each"
            )
    else:
        flat = _plain(values)
        if flat.shape[:1] != (sum(counts),):
            raise InputError(
                f"{name} has shape {flat.shape}, but the structures have {sum(counts)} atoms; "
                "give one value or row for each atom"
            )
        parts = np.split(flat, np.cumsum(counts)[:-1])
    for i, (part, count) in enumerate(zip(parts, counts, strict=True)):
        if part.ndim not in {1, 2} or part.shape[0] != count or 0 in part.shape[1:]:
            raise InputError(
                f"{name} of structure {i} has shape {part.shape}, but the structure has {count} "
                f"atoms; give shape ({count},) or ({count}, k)"
            )
    return parts


def _plain(values: object) -> NDArray[Any]:
    """A NumPy array of anything array-like, tensors of any device and precision included."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        values = values.double() if values.is_floating_point() else values
    return np.asarray(values)


def _write(path: Path, structures: list[Atoms], names: list[str]) -> None:
    """Write to a file that nobody reads yet."""
    form = filetype(str(path), read=False)
    if form != "extxyz" and names:
        # ASE's other writers drop arrays they do not know, even the one of .traj, and say nothing
        raise InputError(
            f"{path.name} is of the format {form}, which cannot hold {names[0]}; "
            "write to a name that ends in .xyz"
        )
    if form != "extxyz":
        ase.io.write(str(path), structures)
        return
    with open_with_compression(str(path), "w") as file:
        file.writelines(map(_extxyz, structures))


def _extxyz(atoms: Atoms) -> str:
    """The text ASE writes for a structure, its real numbers replaced by all their digits."""
    buffer = StringIO()
    ase.io.write(buffer, atoms, format="extxyz")
    count, header, *rows = buffer.getvalue().rstrip("\n").split("\n")
    cells = [row.split() for row in rows]
    columns = {**atoms.calc.results, **atoms.arrays} if atoms.calc else dict(atoms.arrays)
    columns["pos"] = atoms.positions
    start = 0
    for name, kind, width in _properties(header):
        if kind == "R":
            values = np.asarray(columns[name], np.float64).reshape(len(atoms), width)
            for cell, value in zip(cells, values.tolist(), strict=True):
                cell[start : start + width] = [f"{v:.17g}" for v in value]
        start += width
    if any(len(cell) != start for cell in cells):
        raise InputError("a text array holds spaces, which extended XYZ cannot; remove it")
    return "\n".join([count, header, *map(" ".join, cells), ""])


def _properties(header: str) -> list[tuple[str, str, int]]:
    """Name, kind and number of columns of each property in the header of a structure."""
    match = re.search(r"Properties=(\S+)", header)
    fields = match.group(1).split(":") if match else []
    return [
        (name, kind, int(width))
        for name, kind, width in zip(fields[::3], fields[1::3], fields[2::3], strict=True)
    ]
