"""The LightningModule: the objective's loss, Adam, and the learning rate."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from torchlpr.objective import Objective
from torchlpr.structures.epochs import Batch
from torchlpr.training.losses import batch_loss, batch_residuals

__all__ = ["PotentialModule"]


class PotentialModule(L.LightningModule):
    """Train a model of atomic energies on energies, and forces, with explicit L2 in the loss.

    The default settings are those of Chong et al., J. Chem. Theory Comput. 19, 8020 (2023): Adam
    at 0.005, halved when the loss has not fallen for ``patience`` epochs. With ``decay`` the rate
    falls by that factor in every step instead. There is no weight decay in the optimiser: the L2
    term is part of the objective, which the curvature shares.

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
        decay: factor of the learning rate in each step, None for a rate that falls at plateaus.
        steps: steps after which training ends, be it inside an epoch; None for no such limit.
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
        decay: float | None = None,
        steps: int | None = None,
    ) -> None:
        super().__init__()
        self.decay, self.steps = decay, steps
        self._sums: dict[str, Tensor] = {}
        self._weight = 0
        self.model, self.objective, self.n_structures = model, objective, n_structures
        self.batch_size, self.n_validation = batch_size, n_validation
        self.lr, self.factor, self.patience, self.cooldown = lr, factor, patience, cooldown

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one batch, scaled to the whole training set.

        Args:
            batch: structures with energies.
            batch_idx: position in the epoch.

        Returns:
            The loss in eV^2, scalar.
        """
        whole = self._batch_length(batch_idx, batch.n_structures, self.n_structures)
        loss = self.loss(batch, whole)
        if self._is_last(batch_idx):
            self._log_sums()
        return loss

    def loss(self, batch: Batch, whole: int) -> Tensor:
        """Loss of one batch, scaled to the whole training set; added to the sums to be logged.

        Args:
            batch: structures with energies.
            whole: number of structures of the batch in all processes together.

        Returns:
            The loss in eV^2, scalar.

        Raises:
            FloatingPointError: if the loss is not finite.
        """
        scale = self._processes * self.n_structures / whole
        loss, residuals = batch_loss(self.model, batch, self.objective, scale)
        if self._processes == 1:
            self._check(loss.detach())
        errors = self._errors(residuals, batch.n_structures, whole)
        self._add({"loss": loss.detach(), **errors}, whole)
        return loss

    def _is_last(self, batch_idx: int) -> bool:
        """Whether this step is the last of its epoch."""
        if self._trainer is None:
            return False
        trainer = self.trainer
        return (
            batch_idx + 1 == trainer.num_training_batches or trainer.global_step + 1 == self.steps
        )

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """End the training after the last step.

        Lightning's own limit of steps would go through the end of an epoch again on resuming.

        Args:
            outputs: not used.
            batch: not used.
            batch_idx: not used.
        """
        if self.trainer.global_step == self.steps:
            self.trainer.should_stop = True

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the validation error, and the data term of the loss for each structure.

        Args:
            batch: structures with energies.
            batch_idx: position in the epoch.
        """
        whole = self._batch_length(batch_idx, batch.n_structures, self.n_validation)
        residuals = batch_residuals(self.model, batch, self.objective)
        scale = self._processes / whole
        self._log("validation/loss", self.objective.data_loss(residuals) * scale, whole)
        for name, value in self._errors(residuals, batch.n_structures, whole).items():
            self._log(f"validation/{name}", value, whole if name == "mse" else 1)

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

    def _errors(self, residuals: Tensor, n_structures: int, whole: int) -> dict[str, Tensor]:
        """What is to be averaged over processes, as Lightning does with unweighted values only."""
        energies, forces = residuals[:n_structures].square(), residuals[n_structures:].square()
        scale = self._processes / (whole * self.objective.energy_weight)
        errors = {"mse": energies.sum() * scale}
        if self.objective.force_weight:  # two sums, whose ratio is right however they are shared
            errors["force_square"] = forces.sum() / self.objective.force_weight
            errors["force_count"] = forces.new_tensor(float(len(forces)))
        return errors

    def _add(self, values: dict[str, Tensor], whole: int) -> None:
        """Add up what batches say: Lightning's own averages cost more than a small step."""
        for name, value in values.items():
            weighed = value if name.startswith("force") else value * whole
            self._sums[name] = self._sums[name] + weighed if name in self._sums else weighed
        self._weight += whole

    def _log_sums(self) -> None:
        """Log the means over the epoch, and begin anew."""
        for name, total in self._sums.items():
            self._log(f"train/{name}", total / self._weight, 1)
        self._sums, self._weight = {}, 0

    def _log(self, name: str, value: Tensor, size: int) -> None:
        several = self._processes > 1
        self.log(name, value, on_step=False, on_epoch=True, batch_size=size, sync_dist=several)

    def on_train_epoch_end(self) -> None:
        """Step the plateau scheduler, where there is one, on the training loss of the epoch.

        Lightning would do so only after checkpoints are saved, and a resumed training would
        miss one step.
        """
        loss = self.trainer.callback_metrics["train/loss"]
        if self._processes > 1:  # here all know it, and none is left waiting for another
            self._check(loss)
        scheduler = self.lr_schedulers()
        if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            scheduler.step(loss)

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Step a rate that falls in every step; :meth:`on_train_epoch_end` does it at plateaus."""
        if self.decay is not None:
            scheduler.step()

    def configure_optimizers(self) -> Any:
        """Adam, and its rate: at plateaus of the training loss once an epoch, or in every step.

        Returns:
            Lightning's dictionary of optimiser and scheduler.
        """
        optimizer = torch.optim.Adam(self.model.parameters(), lr=self.lr)
        if self.decay is not None:
            falling = torch.optim.lr_scheduler.ExponentialLR(optimizer, self.decay)
            each = {"scheduler": falling, "interval": "step"}
            return {"optimizer": optimizer, "lr_scheduler": each}
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
