r"""Levenberg-Marquardt on all members at once: batched systems, each with its own damping.

With residuals r, p = mu (w - w0), lambda = mu (1 + damping) and K = R R^T + lambda I the step is

    d = -R^T K^-1 (r - R p/lambda) - p/lambda

or, for more rows than weights, d = -(R^T R + lambda I)^-1 (R^T r + p).
"""

from __future__ import annotations

import torch
from torch import Tensor
from tqdm.auto import tqdm

from torchlpr.committee.stacked import StackedLoss
from torchlpr.training import LMSettings
from torchlpr.training.levenberg_marquardt import MAX_DAMPING

__all__ = ["descend_members"]

ROW_BYTES = 2**30  # rows of as many members as fit here are treated together


def descend_members(
    stack: StackedLoss, weights: Tensor, settings: LMSettings, progress: bool = True
) -> Tensor:
    """Bring all members to minima of their losses; no loss ever rises.

    Args:
        stack: their losses.
        weights: where they start, shape (members, parameters), float64.
        settings: when a member is done.
        progress: whether to show a bar.

    Returns:
        Weights, shape (members, parameters).
    """
    weights = weights.detach().clone()
    damping, growth = torch.ones_like(weights[:, 0]), torch.full_like(weights[:, 0], 2.0)
    active = torch.arange(len(weights), device=weights.device)
    with tqdm(total=settings.steps, desc="committee", disable=not progress) as bar:
        for _ in range(settings.steps):
            going = []
            for part in active.split(_members_at_once(stack, weights)):
                loss, gain, trial, norm = _propose(stack.select(part), weights[part], damping[part])
                limit = settings.tolerance * stack.objective.mu * weights[part].norm(dim=1)
                done = (norm <= limit) | (damping[part] > MAX_DAMPING)
                good = (gain > 0) & ~done
                weights[part] = torch.where(good.unsqueeze(1), trial, weights[part])
                less = (1 - (2 * gain - 1) ** 3).clamp(min=0.1)
                damping[part] *= torch.where(good, less, growth[part])
                growth[part] = torch.where(good, 2.0, growth[part] * 2)
                going.append(part[~done])
            active = torch.cat(going)
            bar.update()
            bar.set_postfix(loss=f"{float(loss.max()):.3e}", left=len(active), refresh=False)
            if not len(active):
                break
    return weights


def _members_at_once(stack: StackedLoss, weights: Tensor) -> int:
    one = 8 * stack.tasks.kept.shape[1] * weights.shape[1]
    return max(1, ROW_BYTES // one)


def _propose(
    stack: StackedLoss, weights: Tensor, damping: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Loss, ratio of actual to predicted decrease, trial weights and |grad| of each member."""
    mu = stack.objective.mu
    residuals, rows = stack.residuals(weights), stack.rows(weights)  # [b, m], [b, m, p]
    pull = mu * (weights - stack.tasks.centres)
    gradient = torch.einsum("bm,bmp->bp", residuals, rows) + pull
    strength = (mu * (1 + damping)).unsqueeze(1)
    step = _step(rows, residuals, pull, gradient, strength)
    predicted = 0.5 * (step * ((mu * damping).unsqueeze(1) * step - gradient)).sum(1)
    loss = stack.losses_of(residuals, weights)
    trial = weights + step
    gain = (loss - stack.losses(trial)) / predicted
    gain = torch.where(predicted > 0, gain, -torch.inf).nan_to_num(nan=-torch.inf)
    return loss, gain, trial, gradient.norm(dim=1)


def _step(
    rows: Tensor, residuals: Tensor, pull: Tensor, gradient: Tensor, strength: Tensor
) -> Tensor:
    m, p = rows.shape[1:]
    identity = torch.eye(min(m, p), dtype=rows.dtype, device=rows.device) * strength.unsqueeze(2)
    if m <= p:
        gram = torch.linalg.cholesky(rows @ rows.mT + identity)
        right = residuals - torch.einsum("bmp,bp->bm", rows, pull / strength)
        alpha = torch.cholesky_solve(right.unsqueeze(2), gram).squeeze(2)
        return -torch.einsum("bmp,bm->bp", rows, alpha) - pull / strength
    normal = torch.linalg.cholesky(rows.mT @ rows + identity)
    return -torch.cholesky_solve(gradient.unsqueeze(2), normal).squeeze(2)
