"""Rigidity by class of atoms, in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import NamedTuple

import numpy as np

from torchlpr.analysis.arrays import Values, as_rigidity, class_members
from torchlpr.errors import InputError

__all__ = ["ClassRatio", "ClassRigidity", "format_table", "lpr_by_class", "ratio_by_class"]


class ClassRigidity(NamedTuple):
    """Spread of the LPR of one class of atoms, in eV^-2."""

    label: str
    atoms: int
    minimum: float
    lower_quartile: float
    median: float
    upper_quartile: float
    maximum: float


class ClassRatio(NamedTuple):
    """Change of the LPR of one class of atoms between two training sets, dimensionless."""

    label: str
    atoms: int
    ratio_of_medians: float
    median_of_ratios: float


def lpr_by_class(lpr: Values, classes: Values) -> list[ClassRigidity]:
    """Median, quartiles and range of the LPR of each class.

    Args:
        lpr: local prediction rigidity in eV^-2, shape (atoms,).
        classes: label of each atom (coordination number, species, config_type), shape (atoms,).

    Returns:
        One row for each class, in ascending order of the labels.

    Raises:
        InputError: if shapes disagree or a rigidity is not finite and positive.
    """
    values = as_rigidity(lpr)
    rows = []
    for label, members in class_members(classes, len(values)):
        spread = np.percentile(values[members], [0, 25, 50, 75, 100])
        rows.append(ClassRigidity(label, len(members), *(float(s) for s in spread)))
    return rows


def ratio_by_class(before: Values, after: Values, classes: Values) -> list[ClassRatio]:
    """How much the LPR of each class rises from one training set to another.

    Args:
        before: LPR of each atom with the first training set, in eV^-2, shape (atoms,).
        after: LPR of the same atoms with the second training set, in eV^-2, shape (atoms,).
        classes: label of each atom, shape (atoms,).

    Returns:
        One row for each class, in ascending order of the labels: median after / median before,
        and the median of after / before atom by atom.

    Raises:
        InputError: if shapes disagree or a rigidity is not finite and positive.
    """
    first = as_rigidity(before, "lpr before")
    second = as_rigidity(after, "lpr after", length=len(first))
    rows = []
    for label, members in class_members(classes, len(first)):
        medians = float(np.median(second[members]) / np.median(first[members]))
        ratios = float(np.median(second[members] / first[members]))
        rows.append(ClassRatio(label, len(members), medians, ratios))
    return rows


def format_table(rows: Sequence[Sequence[object]], headers: Sequence[str]) -> str:
    """Plain-text table, every column right-aligned, for a terminal.

    Args:
        rows: cells; whole numbers are written in full, other numbers with four significant
            digits, None as a dash.
        headers: name of each column.

    Returns:
        The lines joined by newlines, without one at the end.

    Raises:
        InputError: if a row has another number of cells than there are headers.
    """
    for number, row in enumerate(rows):
        if len(row) != len(headers):
            raise InputError(f"row {number} has {len(row)} cells for {len(headers)} headers")
    cells = [list(headers), *([_cell(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in cells
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def _cell(value: object) -> str:
    """One cell as text."""
    if value is None:
        return "-"
    if isinstance(value, Real) and not isinstance(value, (bool, np.bool_, Integral)):
        return f"{float(value):.4g}"
    return str(value)
