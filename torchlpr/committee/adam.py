"""Adam on all members at once: elementwise, so each member trains as if it were alone.

Source: Kingma and Ba, Adam: a method for stochastic optimization, ICLR (2015), arXiv:1412.6980.
"""

from __future__ import annotations

import torch
from torch import Tensor
from tqdm.auto import tqdm

from torchlpr.committee.stacked import StackedLoss
from torchlpr.errors import InputError
from torchlpr.training import AdamSettings

__all__ = ["adam_members"]

BETAS, EPSILON = (0.9, 0.999), 1e-8  # of the paper, and of torch.optim.Adam


class _Plateau:
    """Learning rate of each member: falls where its loss has stood still for a while."""

    # of torch.optim.lr_scheduler.ReduceLROnPlateau: what counts as a fall of the loss, and the
    # smallest change of the rate
    THRESHOLD, SMALLEST = 1e-4, 1e-8

    def __init__(self, settings: AdamSettings, like: Tensor) -> None:
        self.settings = settings
        self.rate = torch.full_like(like, settings.lr)
        self.best = torch.full_like(like, torch.inf)
        self.bad = torch.zeros_like(like)
        self.rest = torch.zeros_like(like)

    def step(self, losses: Tensor) -> None:
        better = losses < self.best * (1 - self.THRESHOLD)
        self.best = torch.where(better, losses, self.best)
        self.bad = torch.where(better, 0.0, self.bad + 1)
        resting = self.rest > 0
        self.rest = (self.rest - 1).clamp(min=0)
        self.bad = self.bad.masked_fill(resting, 0.0)
        falls = self.bad > self.settings.patience
        lower = self.rate * self.settings.factor
        self.rate = torch.where(falls & (self.rate - lower > self.SMALLEST), lower, self.rate)
        self.rest = torch.where(falls, float(self.settings.cooldown), self.rest)
        self.bad = torch.where(falls, 0.0, self.bad)


def adam_members(
    stack: StackedLoss, weights: Tensor, settings: AdamSettings, progress: bool = True
) -> Tensor:
    """Train all members on their full batches.

    Args:
        stack: their losses.
        weights: where they start, shape (members, parameters), float64.
        settings: of Adam; each member has its own learning rate on its own plateau.
        progress: whether to show a bar.

    Returns:
        Weights, shape (members, parameters).

    Raises:
        InputError: if the settings ask for mini-batches, a number of steps, another decay or an
            early stop.
        FloatingPointError: if a member's loss is not finite.
    """
    if settings.batch_size is not None:
        raise InputError(
            f"a committee trains on full batches, not on batches of {settings.batch_size}; "
            "leave batch_size out"
        )
    if settings.iterations is not None or settings.final_lr is not None:
        raise InputError(
            "a committee trains for epochs and halves its learning rate at plateaus; leave "
            "iterations and final_lr out"
        )
    if settings.early_stopping is not None:
        raise InputError(
            f"members train for a number of epochs, not until early_stopping "
            f"{settings.early_stopping}; give as epochs those after which one model stopped"
        )
    weights = weights.detach().clone()
    first, second = torch.zeros_like(weights), torch.zeros_like(weights)
    plateau = _Plateau(settings, weights[:, 0])
    with tqdm(range(1, settings.epochs + 1), desc="committee", disable=not progress) as bar:
        for epoch in bar:
            losses, gradient = stack.value_and_gradient(weights)
            if not bool(torch.isfinite(losses).all()):
                raise FloatingPointError(
                    f"the loss of member {int((~torch.isfinite(losses)).nonzero()[0])} is not "
                    f"finite in epoch {epoch}; lower the learning rate (lr is {settings.lr})"
                )
            first.lerp_(gradient, 1 - BETAS[0])
            second.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
            size = (second / (1 - BETAS[1] ** epoch)).sqrt_().add_(EPSILON)
            rate = plateau.rate.unsqueeze(1) / (1 - BETAS[0] ** epoch)
            weights -= rate * first / size
            plateau.step(losses)
            bar.set_postfix(loss=f"{float(losses.max()):.3e}", refresh=False)
    return weights
