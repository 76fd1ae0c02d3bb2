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

    Several processes minimise the same loss as one: DDP averages gradients, so that each of R
    processes takes R times the data term of its own structures, and the L2 term once.

    Args:
        model: maps (features, types) to atomic energies.
        objective: the loss.
        n_structures: structures of the whole training set; a mini-batch's data term is scaled
            up to it, so that its expectation is the full loss.
        lr: Adam's learning rate.
        factor: factor of the learning rate at a plateau.
        patience: epochs without improvement before the rate falls.
        cooldown: epochs to wait after it fell.
        batch_size: structures of a mini-batch in all processes together, None for all.
        n_validation: structures of the whole validation set.
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
        batch_size: int | None = None,
        n_validation: int = 0,
    ) -> None:
        super().__init__()
        self.model, self.objective, self.n_structures = model, objective, n_structures
        self.batch_size, self.n_validation = batch_size, n_validation
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
        whole = self._batch_length(batch_idx, batch.n_structures, self.n_structures)
        scale = self._processes * self.n_structures / whole
        loss = self.objective.data_loss(residuals) * scale
        loss = loss + self.objective.penalty(self.model.parameters())
        if self._processes == 1:
            self._check(loss.detach())
        self._log("train/loss", loss.detach(), whole)
        self._log_errors("train", residuals.detach(), batch.n_structures, whole)
        return loss

    def validation_step(self, batch: AtomBatch, batch_idx: int) -> None:
        """Log the validation error, and the data term of the loss for each structure.

        Args:
            batch: structures with energies.
            batch_idx: position in the epoch.
        """
        whole = self._batch_length(batch_idx, batch.n_structures, self.n_validation)
        residuals = self._residuals(batch)
        scale = self._processes / whole
        self._log("validation/loss", self.objective.data_loss(residuals) * scale, whole)
        self._log_errors("validation", residuals, batch.n_structures, whole)

    def _residuals(self, batch: AtomBatch) -> Tensor:
        return self.objective.batch_residuals(self.model, batch)

    @property
    def _processes(self) -> int:
        """Number of processes; one where there is no Trainer."""
        return 1 if self._trainer is None else self.trainer.world_size

    def _batch_length(self, batch_idx: int, mine: int, total: int) -> int:
        """Structures of a batch in all processes together."""
        if self._processes == 1:
            return mine
        if self.batch_size is None:
            return total
        return min(self.batch_size, total - batch_idx * self.batch_size)

    def _check(self, loss: Tensor) -> None:
        if not bool(torch.isfinite(loss)):
            raise FloatingPointError(
                f"the loss is {float(loss)} in epoch {self.current_epoch}; lower the "
                f"learning rate (lr is {self.lr}) or look at the energies"
            )

    def _log_errors(self, name: str, residuals: Tensor, n_structures: int, whole: int) -> None:
        """What is to be averaged over processes, as Lightning does with unweighted values only."""
        energies, forces = residuals[:n_structures].square(), residuals[n_structures:].square()
        scale = self._processes / (whole * self.objective.energy_weight)
        self._log(f"{name}/mse", energies.sum() * scale, whole)
        if self.objective.force_weight:  # two sums, whose ratio is right however they are shared
            count = forces.new_tensor(float(len(forces)))
            self._log(f"{name}/force_square", forces.sum() / self.objective.force_weight, 1)
            self._log(f"{name}/force_count", count, 1)

    def _log(self, name: str, value: Tensor, size: int) -> None:
        several = self._processes > 1
        self.log(name, value, on_step=False, on_epoch=True, batch_size=size, sync_dist=several)

    def on_train_epoch_end(self) -> None:
        """Step the plateau scheduler on the training loss of the epoch.

        Lightning would do so only after checkpoints are saved, and a resumed training would
        miss one step.
        """
        scheduler = self.lr_schedulers()
        assert isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)
        loss = self.trainer.callback_metrics["train/loss"]
        if self._processes > 1:  # here all know it, and none is left waiting for another
            self._check(loss)
        scheduler.step(loss)

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
