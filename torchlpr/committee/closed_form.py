r"""Members of a linear or kernel committee: one decomposition, many right-hand sides.

With R = U S V^T every member is V diag(s/(s^2 + mu)) U^T of its own targets. A member that does
not see the rows S is the one trained on all rows with the targets t_S replaced by what it itself
predicts there,

    t_S - (I - A)_SS^-1 e_S,    A = R H^-1 R^T,    e = t - A t

(leave-many-out ridge), so that no row is ever taken out of the decomposition.

Source: Cook and Weisberg, Residuals and Influence in Regression, Chapman and Hall (1982).
"""

from __future__ import annotations

import torch
from torch import Tensor

from torchlpr.committee.tasks import MemberTasks
from torchlpr.curvature import energy_rows
from torchlpr.models import LinearInParameters
from torchlpr.objective import Objective
from torchlpr.structures.batch import AtomBatch

__all__ = ["solve_members"]


def solve_members(
    model: LinearInParameters, batch: AtomBatch, objective: Objective, tasks: MemberTasks
) -> Tensor:
    """Exact minima of all members' losses.

    Args:
        model: linear or sparse-kernel head; its weights play no part.
        batch: training structures.
        objective: the loss.
        tasks: what each member minimises.

    Returns:
        Weights, shape (members, parameters), float64.
    """
    rows = energy_rows(model, batch, objective)
    targets = tasks.energies * objective.row_scale(batch.counts)
    targets = targets - tasks.centres @ rows.mT  # [b, m]; what is left is centred on zero
    u, s, vh = torch.linalg.svd(rows, full_matrices=False)
    power = s.square()
    removed = (tasks.kept == 0).sum(1)
    if bool(removed.any()):
        targets = _predict_removed(u, objective.mu / (power + objective.mu), targets, tasks.kept)
    return tasks.centres + (s / (power + objective.mu) * (targets @ u)) @ vh


def _predict_removed(u: Tensor, left: Tensor, targets: Tensor, kept: Tensor) -> Tensor:
    """Replace the targets of removed rows by the predictions of members trained without them.

    Args:
        u: left singular vectors, shape (M, k).
        left: mu/(s^2 + mu), the share of each that the regulariser leaves over, shape (k,).
        targets: shape (members, M).
        kept: mask, as many zeros in each row, shape (members, M).

    Returns:
        Targets, shape (members, M).
    """
    # I - A; a square U spans everything, and then no difference is taken that could cancel
    complement = (u * left) @ u.mT
    if u.shape[0] > u.shape[1]:
        complement += torch.eye(len(u), dtype=u.dtype, device=u.device) - u @ u.mT
    out = torch.argsort(kept, dim=1, stable=True)[:, : int((kept[0] == 0).sum())]  # [b, removed]
    blocks = complement[out.unsqueeze(2), out.unsqueeze(1)]
    residuals = (targets @ complement).gather(1, out).unsqueeze(2)
    shift = torch.linalg.solve(blocks, residuals).squeeze(2)
    return targets.scatter(1, out, targets.gather(1, out) - shift)
