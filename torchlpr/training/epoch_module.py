"""An epoch of small steps in one call of Lightning's, whose bookkeeping takes as long as a step."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from torchlpr.structures.epochs import Epoch
from torchlpr.training.module import PotentialModule

__all__ = ["EpochModule"]


class EpochModule(PotentialModule):
    """Train on mini-batches in one process; the arguments are those of PotentialModule.

    Callbacks are asked at the begin and the end of each epoch, which is one batch to Lightning.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
        """All steps of an epoch, or those that are left of the last one.

        Args:
            batch: the mini-batches, an :class:`Epoch`.
            batch_idx: not used.
        """
        assert isinstance(batch, Epoch)
        assert self.batch_size is not None
        optimizer, scheduler = self.optimizers(use_pl_optimizer=False), self.lr_schedulers()
        assert isinstance(optimizer, torch.optim.Optimizer)
        assert not isinstance(scheduler, list)
        done = self.trainer.current_epoch * -(-self.n_structures // self.batch_size)
        for step, part in enumerate(batch, done):
            if step == self.steps:
                break
            optimizer.zero_grad()
            loss = self.loss(part, part.n_structures)
            loss.backward()
            optimizer.step()
            if scheduler is not None and not isinstance(scheduler, ReduceLROnPlateau):
                scheduler.step()
        self._log_sums()

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Nothing: the last step ends its epoch."""

    def configure_optimizers(self) -> Any:
        """Adam and its rate, which is stepped here.

        Returns:
            Lightning's dictionary of optimiser and scheduler.
        """
        made = super().configure_optimizers()
        return made | {"lr_scheduler": made["lr_scheduler"]["scheduler"]}
