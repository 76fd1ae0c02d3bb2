"""The LightningModule: the objective's loss, Adam, and the learning rate on a plateau."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from torchlpr.objective import Objective
from torchlpr.structures.batch import AtomBatch

__all__ = ["PotentialModule"]


class PotentialModule(L.LightningModule):
    """Train a model of atomic energies on energies, and forces, with explicit L2 in the loss.

    The settings are those of Chong et al., J. Chem. Theory Comput. 19, 8020 (2023): Adam at
    0.005, halved when the loss has not fallen for ``patience`` epochs. There is no weight
    decay in the optimiser: the L2 term is part of the objective, which the curvature shares.

    Args:
        model: maps (features, types) to atomic energies.
        objective: the loss.
        n_structures: structures of the whole training set; a mini-batch's data term is scaled
            up to it, so that its expectation is the full loss.
        lr: Adam's learning rate.
        factor: factor of the learning rate at a plateau.
        patience: epochs without improvement before the rate falls.
        cooldown: epochs to wait after it fell.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        n_structures: int,
        lr: float = 0.005,
        factor: float = 0.5,
        patience: int = 100,
        cooldown: int = 100,
    ) -> None:
        super().__init__()
        self.model, self.objective, self.n_structures = model, objective, n_structures
        self.lr, self.factor, self.patience, self.cooldown = lr, factor, patience, cooldown

    def training_step(self, batch: AtomBatch, batch_idx: int) -> Tensor:
        """Loss of one batch, scaled to the whole training set.

        Args:
            batch: structures with energies.
            batch_idx: position in the epoch.

        Returns:
            The loss in eV^2, scalar.

        Raises:
            FloatingPointError: if the loss is not finite.
        """
        residuals = self._residuals(batch)
        data = self.objective.data_loss(residuals) * (self.n_structures / batch.n_structures)
        loss = data + self.objective.penalty(self.model.parameters())
        if not bool(torch.isfinite(loss)):
            raise FloatingPointError(
                f"the loss is {float(loss.detach())} in epoch {self.current_epoch}; lower the "
                f"learning rate (lr is {self.lr}) or look at the energies"
            )
        self._log("train/loss", loss.detach(), batch.n_structures)
        self._log_errors("train", residuals.detach(), batch.n_structures)
        return loss

    def validation_step(self, batch: AtomBatch, batch_idx: int) -> None:
        """Log the validation error.

        Args:
            batch: structures with energies.
            batch_idx: position in the epoch.
        """
        self._log_errors("validation", self._residuals(batch), batch.n_structures)

    def _residuals(self, batch: AtomBatch) -> Tensor:
        return self.objective.batch_residuals(self.model, batch)

    def _log_errors(self, name: str, residuals: Tensor, n_structures: int) -> None:
        energies, forces = residuals[:n_structures].square(), residuals[n_structures:].square()
        self._log(f"{name}/mse", energies.mean() / self.objective.energy_weight, n_structures)
        if len(forces):
            mean = forces.mean() / self.objective.force_weight
            self._log(f"{name}/force_mse", mean, len(forces))

    def _log(self, name: str, value: Tensor, size: int) -> None:
        self.log(name, value, on_step=False, on_epoch=True, batch_size=size)

    def on_train_epoch_end(self) -> None:
        """Step the plateau scheduler on the training loss of the epoch.

        Lightning would do so only after checkpoints are saved, and a resumed training would
        miss one step.
        """
        scheduler = self.lr_schedulers()
        assert isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)
        scheduler.step(self.trainer.callback_metrics["train/loss"])

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Nothing: :meth:`on_train_epoch_end` has done it."""

    def configure_optimizers(self) -> Any:
        """Adam, and ReduceLROnPlateau stepped once an epoch on the training loss.

        Returns:
            Lightning's dictionary of optimiser and scheduler.
        """
        optimizer = torch.optim.Adam(self.model.parameters(), lr=self.lr)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer,
            factor=self.factor,
            patience=self.patience,
            cooldown=self.cooldown,
            eps=1e-8,
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "monitor": "train/loss"},
        }
