"""Models linear in their parameters: the minimum in closed form, at every mu at once."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from torchlpr.curvature import parameter_count, training_row_chunks, training_rows
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
        rows: R, shape (M, P), float64, or a triangle T with T^T T = R^T R.
        targets: t, shape (M,), or rotated as the triangle is.

    Attributes:
        singular_values: s, shape (min(M, P),), eV.
        left: U, shape (M, min(M, P)); of the triangle where it was given.
        right: V^T, shape (min(M, P), P).
        coordinates: U^T t, shape (min(M, P),), eV.
        outside: |t - U U^T t|^2, what no weights reach, eV^2.
    """

    def __init__(self, rows: Tensor, targets: Tensor) -> None:
        self.left, self.singular_values, self.right = torch.linalg.svd(rows, full_matrices=False)
        self.coordinates = self.left.mT @ targets
        self.outside = float((targets - self.left @ self.coordinates).square().sum())

    def weights(self, mu: float) -> Tensor:
        """Minimiser at one mu.

        Args:
            mu: strength of the L2 term, positive.

        Returns:
            Weights, shape (P,).
        """
        s = self.singular_values
        return (s / (s.square() + mu) * self.coordinates) @ self.right

    def loss(self, mu: float) -> float:
        """Value at the minimum, 1/2 |t - U U^T t|^2 + 1/2 sum mu/(s^2 + mu) (U^T t)^2, in eV^2."""
        inside = mu / (self.singular_values.square() + mu) * self.coordinates.square()
        return 0.5 * (self.outside + float(inside.sum()))

    def effective_dof(self, mu: float) -> float:
        """Sum of s^2/(s^2 + mu): the number of weights that the rows determine."""
        power = self.singular_values.square()
        return float((power / (power + mu)).sum())


def ridge_path(model: nn.Module, batch: AtomBatch, objective: Objective) -> RidgePath:
    """Decompose the rows of a linear head, or of another model linearised at its weights.

    A linearised model predicts f + R (v - w) at weights v, with the predictions f and rows R of
    the weights w that the model has: its targets are t - f + R w.

    More rows than weights, as forces give, are folded into their triangle block by block: they
    need not be held at once, and no digit is lost.

    Args:
        model: the head, whose weights play no part; or any differentiable model.
        batch: training structures with energies, and forces where they weigh.
        objective: gives the row weights; its mu plays no part.

    Returns:
        The path of minima over mu.
    """
    model, batch, targets, weights = linear_problem(model, batch, objective)
    n = parameter_count(model)
    if len(targets) <= n:
        rows = training_rows(model, batch, objective)
        return RidgePath(rows, targets if weights is None else targets + rows @ weights)
    triangle = targets.new_empty(0, n + 1)
    for where, rows in training_row_chunks(model, batch, objective):
        part = targets[where] if weights is None else targets[where] + rows @ weights
        triangle = fold_rows(triangle, torch.cat([rows, part.unsqueeze(1)], dim=1))
    return RidgePath(triangle[:, :n], triangle[:, n])


def linear_problem(
    model: nn.Module, batch: AtomBatch, objective: Objective
) -> tuple[nn.Module, AtomBatch, Tensor, Tensor | None]:
    """What a model that is linear, or linearised at its weights w, has to reproduce.

    Args:
        model: any differentiable model.
        batch: structures with energies, and forces where they weigh.
        objective: gives the row weights.

    Returns:
        The model and the batch to take rows R of (float64 where it is linearised), t or t - f of
        shape (M,), and w for the term R w that is still to be added, None where there is none.
    """
    if isinstance(model, LinearInParameters):
        return model, batch, objective.targets(batch), None
    twin = copy.deepcopy(model).to(torch.float64).requires_grad_(True).eval()
    double = batch.to(dtype=torch.float64)
    with torch.no_grad():
        errors = objective.batch_residuals(twin, double)
    return twin, double, -errors, parameters_to_vector(twin.parameters()).detach()


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
