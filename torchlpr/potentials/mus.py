"""Strengths of the L2 term: several at once, and what they are compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from torchlpr.curvature import RowSpace, Sweep
from torchlpr.curvature.factor import UpdatableFactor
from torchlpr.curvature.row_matrix import gram_matrix
from torchlpr.rigidity.evaluation import Evaluation
from torchlpr.rigidity.prediction import checked_forms, quadratic_forms

__all__ = ["at_every_mu", "largest_eigenvalue"]


def at_every_mu(factor: UpdatableFactor, mus: Sequence[float]) -> Callable[[Tensor], Evaluation]:
    """Evaluation of gradients at several mu.

    Args:
        factor: in row space each mu has a factor of its own, which shares the rows: nothing of
            their size is made. In parameter space one decomposition serves all.
        mus: strengths, positive.

    Returns:
        From gradients, shape (K, P), to an evaluation of shape (mus, K).
    """
    if not isinstance(factor, RowSpace):
        shared = Sweep(factor, mus)
        return lambda gradients: Evaluation.of(checked_forms(shared.quadratic_forms(gradients)))
    factors = [factor.at(mu) for mu in mus]

    def evaluate(gradients: Tensor) -> Evaluation:
        parts = [Evaluation.of(quadratic_forms(one, gradients)) for one in factors]
        return Evaluation(*map(torch.stack, zip(*parts, strict=True)))

    return evaluate


def largest_eigenvalue(factor: UpdatableFactor, mu: float) -> float:
    """Largest eigenvalue of R^T R.

    Args:
        factor: of R^T R + mu I.
        mu: its strength.

    Returns:
        The eigenvalue, eV^2.
    """
    if isinstance(factor, RowSpace):
        return float(torch.linalg.eigvalsh(gram_matrix(factor.rows))[-1])
    largest = float(torch.linalg.svdvals(factor.state_dict()["triangle"])[0]) ** 2
    return max(0.0, largest - mu)
