"""The factor of a training set, in the shape that is asked for or the cheapest that fits."""

from __future__ import annotations

from torch import nn

from torchlpr.curvature import Factor, MatrixFreeSettings, build_matrix_free, training_products
from torchlpr.curvature.gauss_newton import Shape
from torchlpr.curvature.shared_build import build_shared, choose_shared_shape, shared_limit
from torchlpr.curvature.subsets import Subset
from torchlpr.objective import Objective
from torchlpr.ranks import Ranks
from torchlpr.structures.batch import AtomBatch

__all__ = ["ASKED", "factor_of"]

ASKED = "as asked"


def factor_of(
    model: nn.Module,
    subset: Subset,
    batch: AtomBatch,
    objective: Objective,
    shape: Shape,
    ranks: Ranks,
    memory_limit: int | None = None,
    matrix_free: MatrixFreeSettings | None = None,
) -> tuple[Factor, str]:
    """Build the Hessian of a training set.

    Args:
        model: maps (features, types) to atomic energies; must not change afterwards.
        subset: the weights that rows are taken by.
        batch: the training structures, the same on all ranks.
        objective: gives the row weights and mu.
        shape: the algorithm, or "auto".
        ranks: the processes.
        memory_limit: bytes of each rank, by default three quarters of what is free.
        matrix_free: tolerance and limits of the matrix-free shape.

    Returns:
        The factor, and why it has that shape.
    """
    if memory_limit is None and matrix_free is not None:
        memory_limit = matrix_free.memory_limit
    limit, why = shared_limit(memory_limit, batch.features.device, ranks), ASKED
    if shape == "auto":
        shape, why = choose_shared_shape(objective.n_rows(batch), len(subset), ranks, limit)
    if shape == "matrix-free":
        settings = matrix_free or MatrixFreeSettings(memory_limit=memory_limit)
        products = training_products(model, batch, objective, subset)
        return build_matrix_free(products, objective.mu, settings), why
    return build_shared(model, batch, objective, shape, ranks, limit, subset), why
