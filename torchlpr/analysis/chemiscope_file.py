"""Chemiscope files: structures, rigidities and their map, to look at in a browser."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ase
import numpy as np
from torch import Tensor

from torchlpr.analysis.arrays import Values, as_floats, as_rigidity
from torchlpr.errors import InputError
from torchlpr.extras import require
from torchlpr.files import atomic_path

__all__ = ["write_chemiscope"]

LOG_LPR = "log10 LPR"

# unit and description of the per-atom quantities of torchlpr, by name
KNOWN = {
    "lpr": ("eV^-2", "local prediction rigidity, half convention"),
    "local_energy": ("eV", "predicted energy of the atom"),
    "energy_uncertainty": ("eV", "standard deviation of the energy of the atom"),
    "mu_fraction": ("", "share of the inverse rigidity that the L2 term alone accounts for"),
    "coordination": ("", "number of neighbours"),
}


def write_chemiscope(
    path: str | Path,
    structures: Sequence[ase.Atoms],
    per_atom: Mapping[str, Values],
    *,
    map_coordinates: Values | None = None,
    cutoff: float = 5.0,
    name: str = "Local prediction rigidity",
    description: str = "",
) -> Path:
    """Write a file for chemiscope.org, with one point on the map for each atom.

    The map shows the given coordinates, or else LPR against the number of the structure. Points
    and atoms are coloured by log10 LPR if ``per_atom`` holds "lpr", or else by its first numbers.

    Args:
        path: name that ends in .json or .json.gz.
        structures: the structures; they are not modified.
        per_atom: quantities by name, each of shape (atoms,) or (atoms, components) over the atoms
            of all structures in order; text makes classes. "lpr", in eV^-2, also gives its
            decimal logarithm.
        map_coordinates: points of a map, shape (atoms, components).
        cutoff: radius of the environments that chemiscope shows, in Å.
        name: title.
        description: text below the title.

    Returns:
        The path.

    Raises:
        InputError: if the ending is another, sizes disagree, or a number is not finite.
        MissingExtraError: if chemiscope is not installed.
    """
    final = Path(path)
    if not final.name.endswith((".json", ".json.gz")):
        raise InputError(f"chemiscope reads .json and .json.gz, not {final.name!r}")
    if not structures or not per_atom:
        raise InputError("a chemiscope file needs structures and quantities of their atoms")
    chemiscope = require("chemiscope")
    # chemiscope needs two properties for its map, and users a way back to the structure
    owner = np.repeat(np.arange(len(structures)), [len(s) for s in structures])
    properties = {"structure": _entry("structure", owner, len(owner))}
    for key, values in per_atom.items():
        properties[key] = _entry(key, values, len(owner))
    if "lpr" in per_atom:
        logs = np.log10(as_rigidity(per_atom["lpr"], length=len(owner)))
        units = {"units": "log10(eV^-2)", "description": "decimal logarithm of the LPR"}
        properties[LOG_LPR] = {"target": "atom", "values": logs, **units}
    if map_coordinates is not None:
        points = as_floats(map_coordinates, "map coordinates", length=len(owner), ndim=2)
        about = "principal components of the features"
        properties["PC"] = {"target": "atom", "values": points, "description": about}
    data = chemiscope.create_input(
        structures=list(structures),
        metadata={"name": name, "description": description},
        properties=properties,
        environments=chemiscope.all_atomic_environments(list(structures), cutoff=cutoff),
    )
    color = _color(data["properties"], per_atom)
    x, y = ("PC[1]", "PC[2]") if "PC[2]" in data["properties"] else ("structure", color)
    data["settings"] = chemiscope.quick_settings(
        x=x,
        y=y,
        map_color=color,
        structure_color=color,
        periodic=any(structure.pbc.any() for structure in structures),
        # the cell as it is: quick_settings would repeat it 3 x 3 x 3 around each atom
        structure_settings={"supercell": [1, 1, 1]},
        target="atom",
    )
    # NaN is not JSON, and a browser would refuse the whole file
    text = json.dumps(data, allow_nan=False).encode()
    with atomic_path(final) as temporary:
        # no time stamp: the same data give the same bytes
        temporary.write_bytes(gzip.compress(text, mtime=0) if final.suffix == ".gz" else text)
    return final


def _entry(name: str, values: Values, atoms: int) -> dict[str, Any]:
    """One per-atom property in chemiscope's form."""
    raw = np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values)
    entry: dict[str, Any] = {"target": "atom"}
    if raw.dtype.kind in "USO":
        if raw.shape != (atoms,):
            raise InputError(f"{name} must have shape ({atoms},), one an atom, not {raw.shape}")
        entry["values"] = raw.astype(str)
    else:
        checked = as_floats(raw, name, length=atoms, ndim=2 if raw.ndim == 2 else 1)
        # whole numbers stay whole, so that chemiscope shows 4 and not 4.0
        entry["values"] = checked if raw.dtype.kind == "f" else raw.astype(np.int64)
    units, description = KNOWN.get(name, ("", ""))
    entry.update({"units": units} if units else {})
    entry.update({"description": description} if description else {})
    return entry


def _color(written: Mapping[str, Mapping[str, Any]], per_atom: Mapping[str, Values]) -> str:
    """The property that colours the atoms; several components are written as name[1], name[2]."""
    candidates = [LOG_LPR, *(n for key in per_atom for n in (key, f"{key}[1]"))]
    numeric = [n for n in candidates if n in written and not isinstance(_first(written[n]), str)]
    return numeric[0] if numeric else "structure"


def _first(entry: Mapping[str, Any]) -> object:
    """First value of a property."""
    return entry["values"][0]
