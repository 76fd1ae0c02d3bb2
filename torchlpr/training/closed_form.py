"""Heads linear in their parameters: the minimum in closed form, at every mu at once."""

from __future__ import annotations

import torch
from torch import Tensor

from torchlpr.curvature import training_row_chunks, training_rows
from torchlpr.curvature.triangles import fold_rows
from torchlpr.models import LinearInParameters
from torchlpr.objective import Objective
from torchlpr.structures.batch import AtomBatch

__all__ = ["RidgePath", "fit_linear"]


class RidgePath:
    r"""Minima of 1/2 |t - R w|^2 + 1/2 mu |w|^2 at any mu, from one decomposition.

    .. math:: w(\mu) = V \, \mathrm{diag}\frac{s}{s^2 + \mu} \, U^\top t

    The normal equations are never formed, so small mu keeps its digits.

    Args:
        rows: R, shape (M, P), float64.
        targets: t, shape (M,).
    """

    def __init__(self, rows: Tensor, targets: Tensor) -> None:
        u, self.singular_values, self._vh = torch.linalg.svd(rows, full_matrices=False)
        self._coordinates = u.mT @ targets

    def weights(self, mu: float) -> Tensor:
        """Minimiser at one mu.

        Args:
            mu: strength of the L2 term, positive.

        Returns:
            Weights, shape (P,).
        """
        s = self.singular_values
        return (s / (s.square() + mu) * self._coordinates) @ self._vh

    def effective_dof(self, mu: float) -> float:
        """Sum of s^2/(s^2 + mu): the number of weights that the rows determine."""
        power = self.singular_values.square()
        return float((power / (power + mu)).sum())


def ridge_path(model: LinearInParameters, batch: AtomBatch, objective: Objective) -> RidgePath:
    """Decompose the rows of a linear head.

    More rows than weights, as forces give, are folded into their triangle block by block: they
    need not be held at once, and no digit is lost.

    Args:
        model: the head; its weights play no part.
        batch: training structures with energies, and forces where they weigh.
        objective: gives the row weights; its mu plays no part.

    Returns:
        The path of minima over mu.
    """
    targets, n = objective.targets(batch), model.weight.numel()
    if len(targets) <= n:
        return RidgePath(training_rows(model, batch, objective), targets)
    triangle = targets.new_empty(0, n + 1)
    for where, rows in training_row_chunks(model, batch, objective):
        triangle = fold_rows(triangle, torch.cat([rows, targets[where].unsqueeze(1)], dim=1))
    return RidgePath(triangle[:, :n], triangle[:, n])


def fit_linear(model: LinearInParameters, batch: AtomBatch, objective: Objective) -> None:
    """Set a linear head's weights to the exact minimum of the objective, in place.

    Args:
        model: linear or sparse-kernel head.
        batch: training structures with energies.
        objective: the loss.
    """
    weights = ridge_path(model, batch, objective).weights(objective.mu)
    with torch.no_grad():
        model.weight.copy_(weights)
