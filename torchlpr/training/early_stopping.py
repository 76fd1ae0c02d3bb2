"""Early stopping: training ends where the validation error is least, not where the loss is."""

from __future__ import annotations

import math
from typing import Any

import lightning as L
from torch import Tensor

__all__ = ["EarlyStop"]


class EarlyStop(L.Callback):
    """Stop where the validation error has not fallen for some epochs, and go back to its minimum.

    Its state travels in checkpoints, so that a resumed training stops where an uninterrupted one
    does. Weights that stop early are no minimum of the objective.

    Args:
        patience: epochs without a lower error.
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.best, self.epoch, self.weights = math.inf, -1, dict[str, Tensor]()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Let a training that had stopped already be over.

        Args:
            trainer: the running trainer.
            pl_module: the module in training.
        """
        trainer.should_stop = self._is_over(trainer.current_epoch - 1)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look at the error of this epoch's weights.

        Args:
            trainer: the running trainer.
            pl_module: the module in training.
        """
        error = float(trainer.callback_metrics["validation/loss"])
        if error < self.best:
            self.best, self.epoch = error, trainer.current_epoch
            self.weights = {k: v.detach().clone() for k, v in pl_module.state_dict().items()}
        trainer.should_stop = trainer.should_stop or self._is_over(trainer.current_epoch)

    def _is_over(self, epoch: int) -> bool:
        return bool(self.weights) and epoch - self.epoch >= self.patience

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Go back to the weights of least error.

        Args:
            trainer: the trainer.
            pl_module: the trained module.
        """
        if self.weights:
            pl_module.load_state_dict(self.weights)

    def state_dict(self) -> dict[str, Any]:
        """The minimum so far, for the checkpoint."""
        return {"best": self.best, "epoch": self.epoch, "weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the minimum of the checkpoint back.

        Args:
            state_dict: as :meth:`state_dict` gave it.
        """
        self.best, self.epoch = state_dict["best"], state_dict["epoch"]
        self.weights = state_dict["weights"]
