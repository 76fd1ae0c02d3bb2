"""Another shape of a Hessian that is there already, or the part of it that some weights have."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from torchlpr.curvature import (
    DenseRows,
    Factor,
    MatrixFree,
    ModelRows,
    RowSpace,
    Subset,
    build,
    choose_shape,
)
from torchlpr.curvature.factor import qr_triangle
from torchlpr.curvature.force_products import TrainingRows
from torchlpr.curvature.gauss_newton import Shape, check_shape
from torchlpr.curvature.parameter_space import ParameterSpace
from torchlpr.errors import InputError
from torchlpr.free_memory import memory_limit as available
from torchlpr.rigidity.building import ASKED, factor_of
from torchlpr.rigidity.kept import Kept
from torchlpr.structures.batch import AtomBatch

__all__ = ["recast_factor"]

SHAPES = {"row space": "row", "parameter space": "parameter", "matrix-free": "matrix-free"}


def recast_factor(kept: Kept, subset: Subset, shape: Shape) -> tuple[Factor, str]:
    """The factor of the same training set in another shape, or of fewer weights.

    Exact, from what the present factor holds: rows are cut, the triangle of H is cut and made a
    triangle again, and what the matrix-free shape keeps of the training set is built anew.

    Args:
        kept: model, objective and the factor.
        subset: weights among those of the factor.
        shape: the algorithm; "auto" keeps the present one where no weight is left out, and else
            takes the cheapest exact one.

    Returns:
        The new factor, and why it has that shape.

    Raises:
        InputError: if the factor has not got the weights, does not keep what the shape needs, or
            memory does not suffice.
    """
    check_shape(shape)
    places, factor = _places(kept.subset, subset), kept.factor
    present = SHAPES.get(factor.shape_name)
    if places is None and shape in ("auto", present):
        return factor, kept.reason.removeprefix(f"{factor.shape_name}, ")
    if shape == "column" or present is None:
        raise InputError(
            f"a rigidity in {factor.shape_name} cannot be recast to shape={shape!r} where columns "
            "are shared among ranks; load it in one process"
        )
    if isinstance(factor, ParameterSpace):
        return _cut_triangle(factor, places, shape)
    if isinstance(factor, RowSpace):
        return _from_rows(factor.rows, factor.mu, places, shape, kept.memory_limit)
    assert isinstance(factor, MatrixFree)  # the only other one that has a name here
    if isinstance(factor.rows, DenseRows):
        return _from_rows(factor.rows.rows, factor.mu, places, shape, kept.memory_limit)
    batch, objective = _training_set(factor), kept.objective
    if batch.derivatives is None:  # no structure had forces
        objective = replace(objective, force_weight=0.0)
    data = batch, objective, shape, kept.ranks, kept.memory_limit
    return factor_of(kept.model, subset, *data, factor.settings)


def _places(present: Subset, wanted: Subset) -> Tensor | None:
    """Where the wanted weights lie among those of the factor, None for all of them."""
    inside = torch.isin(wanted.indices, present.indices)
    if not bool(inside.all()):
        raise InputError(
            f"{int((~inside).sum())} of these {len(wanted)} weights are not among the "
            f"{len(present)} that this rigidity is with respect to; choose among those, or build "
            "it anew"
        )
    if len(wanted) == len(present):
        return None
    return torch.searchsorted(present.indices, wanted.indices)


def _cut_triangle(
    factor: ParameterSpace, places: Tensor | None, shape: Shape
) -> tuple[Factor, str]:
    """H of some weights is (T^T T) in their rows and columns, so T's columns are all it takes."""
    if shape not in ("auto", "parameter"):
        raise InputError(
            f"shape={shape!r} needs the rows, of which a rigidity in parameter space keeps only "
            "the triangle; use shape='parameter', or build it anew from the training structures"
        )
    assert places is not None  # parameter space of all weights is what it was
    triangle, mu = factor.state_dict()["triangle"], factor.mu
    chosen = places.to(triangle.device)
    cut = qr_triangle(triangle[:, chosen])
    why = "cut from the triangle that is kept" if shape == "auto" else ASKED
    return ParameterSpace(cut, mu[chosen] if mu.ndim else mu, factor.n_rows), why


def _from_rows(
    rows: Tensor, mu: Tensor, places: Tensor | None, shape: Shape, limit: int | None
) -> tuple[Factor, str]:
    why = ASKED
    if places is not None:
        chosen = places.to(rows.device)
        rows, mu = rows[:, chosen], mu[chosen] if mu.ndim else mu
    if shape == "auto":
        bytes_ = available(limit, rows.device) + 8 * rows.numel()
        shape, why = choose_shape(len(rows), rows.shape[1], memory_limit=bytes_)
    return build(rows, mu, shape, memory_limit=limit), why


def _training_set(factor: MatrixFree) -> AtomBatch:
    """The structures whose rows a matrix-free factor multiplies."""
    rows = factor.rows
    if isinstance(rows, ModelRows):
        return replace(rows.batch, derivatives=None)
    assert isinstance(rows, TrainingRows)  # the only other one that models have
    batch = rows.forces.batch
    forces = batch.features.new_full((len(batch), 3), torch.nan)
    forces[rows.forces.atoms] = 0.0  # their values play no part, only which there are
    return replace(batch, forces=forces)
