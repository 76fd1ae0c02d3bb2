"""Adam on all members at once: elementwise, so each member trains as if it were alone.

Source: Kingma and Ba, Adam: a method for stochastic optimization, ICLR (2015), arXiv:1412.6980.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from torchlpr.committee.stacked import StackedLoss
from torchlpr.committee.tasks import generator
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


class _Adam:
    """Moments of all members' gradients; a member that has seen nothing stands still."""

    def __init__(self, weights: Tensor) -> None:
        self.weights = weights.detach().clone()
        self._first, self._second = torch.zeros_like(weights), torch.zeros_like(weights)
        self._steps = torch.zeros_like(self.weights[:, :1])

    def step(self, gradient: Tensor, rate: Tensor, moves: Tensor) -> None:
        """One step of each member.

        Args:
            gradient: shape (members, parameters).
            rate: shape (members,).
            moves: 1 for the members that take it, else 0, shape (members,).
        """
        moves = moves.unsqueeze(1)
        self._steps += moves
        taken = self._steps.clamp(min=1)
        self._first.lerp_(gradient, (1 - BETAS[0]) * moves)
        self._second.lerp_(gradient.square(), (1 - BETAS[1]) * moves)
        size = (self._second / (1 - BETAS[1] ** taken)).sqrt_().add_(EPSILON)
        rates = rate.unsqueeze(1) * moves / (1 - BETAS[0] ** taken)
        self.weights -= (rates * self._first).div_(size)


def adam_members(
    stack: StackedLoss, weights: Tensor, settings: AdamSettings, progress: bool = True
) -> Tensor:
    """Train all members, on full batches or on mini-batches that they share.

    Of a shared mini-batch each member takes the structures that it sees: about ``batch_size``, so
    that there are as many steps as there would be alone.

    Args:
        stack: their losses.
        weights: where they start, shape (members, parameters), float64.
        settings: of Adam; each member has its own learning rate on its own plateau.
        progress: whether to show a bar.

    Returns:
        Weights, shape (members, parameters).

    Raises:
        InputError: if the settings ask for a number of steps, another decay or an early stop.
        FloatingPointError: if a member's loss is not finite.
    """
    _check(settings)
    adam, plateau = _Adam(weights), _Plateau(settings, weights[:, 0])
    with tqdm(range(settings.epochs), desc="committee", disable=not progress) as bar:
        for epoch in bar:
            total, seen = torch.zeros_like(stack.seen), torch.zeros_like(stack.seen)
            for part in _parts(stack, settings, epoch):
                losses, gradient = part.value_and_gradient(adam.weights)
                if not bool(torch.isfinite(losses).all()):
                    raise FloatingPointError(
                        f"the loss of member {int((~torch.isfinite(losses)).nonzero()[0])} is not "
                        f"finite in epoch {epoch + 1}; lower the learning rate (lr is "
                        f"{settings.lr})"
                    )
                adam.step(gradient, plateau.rate, (part.seen > 0).to(gradient))
                total += losses * part.seen
                seen += part.seen
            plateau.step(total / seen)
            bar.set_postfix(loss=f"{float((total / seen).max()):.3e}", refresh=False)
    return adam.weights


def _check(settings: AdamSettings) -> None:
    """Refuse what members that train together cannot do."""
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


def _parts(stack: StackedLoss, settings: AdamSettings, epoch: int) -> Iterator[StackedLoss]:
    """The losses of an epoch's steps."""
    seen = int(stack.seen.max())
    steps = -(-seen // (settings.batch_size or seen))
    if steps == 1:
        yield stack
        return
    order = generator(settings.seed, epoch, purpose=2).permutation(stack.tasks.kept.shape[1])
    for chosen in np.array_split(order, steps):
        yield stack.on(torch.from_numpy(chosen).to(stack.seen.device))
