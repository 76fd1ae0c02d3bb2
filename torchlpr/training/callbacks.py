"""Lightning callbacks: the training log with its progress bar, and checkpoints to resume from."""

from __future__ import annotations

import csv
import math
import time
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint
from tqdm.auto import tqdm

from torchlpr.errors import InputError
from torchlpr.files import atomic_path

__all__ = ["ResumableCheckpoint", "TrainingLog"]

COLUMNS = ("epoch", "loss", "rmse_train", "rmse_validation", "lr")
FORCE_COLUMNS = ("force_rmse_train", "force_rmse_validation")


class TrainingLog(L.Callback):
    """Loss, errors and learning rate of every epoch, as rows, a CSV file and a progress bar.

    The rows travel inside checkpoints, so that the log of a resumed training is the log of an
    uninterrupted one.

    Args:
        epochs: epochs to come in all.
        path: CSV file written at checkpoints and at the end, None keeps the rows in memory.
        progress: whether to show a bar.
        forces: whether there are errors of forces, which come last.
    """

    def __init__(
        self, epochs: int, path: Path | None = None, progress: bool = True, forces: bool = False
    ) -> None:
        self.path, self.rows, self.forces = path, list[tuple[float, ...]](), forces
        self._bar = tqdm(total=epochs, desc="training", unit="epoch", disable=not progress)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Add the epoch's row.

        Args:
            trainer: the running trainer.
            pl_module: the module in training.
        """
        seen = trainer.callback_metrics
        rmse = math.sqrt(float(seen["train/mse"]))
        validation = math.sqrt(float(seen.get("validation/mse", math.nan)))
        lr = trainer.optimizers[0].param_groups[0]["lr"]
        row = (trainer.current_epoch, float(seen["train/loss"]), rmse, validation, lr)
        forces = tuple(
            math.sqrt(float(seen[f"{name}/force_square"] / seen[f"{name}/force_count"]))
            if float(seen.get(f"{name}/force_count", 0))
            else math.nan
            for name in ("train", "validation")
        )
        # as many columns in every row: a mini-batch may have no structure with forces
        self.rows.append(row + forces if self.forces else row)
        self.show()

    def show(self) -> None:
        """Bring the bar up to the last row."""
        if self._bar.update(len(self.rows) - self._bar.n):
            _, loss, rmse, validation, lr, *_ = self.rows[-1]
            shown = {"loss": f"{loss:.3e}", "rmse": f"{rmse:.2e} eV", "lr": f"{lr:.1e}"}
            if math.isfinite(validation):
                shown["validation"] = f"{validation:.2e} eV"
            self._bar.set_postfix(shown, refresh=False)

    def write(self) -> None:
        """Write the CSV file, whole or not at all."""
        if self.path is not None:
            with atomic_path(self.path) as temporary, temporary.open("w", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(COLUMNS + FORCE_COLUMNS if self.forces else COLUMNS)
                writer.writerows(self.rows)

    def close(self) -> None:
        """End the bar, and with it its line on the screen."""
        self._bar.close()

    def state_dict(self) -> dict[str, Any]:
        """The rows, for the checkpoint."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the rows of the checkpoint back.

        Args:
            state_dict: as :meth:`state_dict` gave it.
        """
        self.rows = [tuple(row) for row in state_dict["rows"]]
        self._bar.update(len(self.rows))


class ResumableCheckpoint(Checkpoint):
    """Save the whole training state every few seconds, at the end of an epoch.

    As a ``Checkpoint`` Lightning calls it last, after the learning rate was stepped. Of several
    processes the first looks at the clock and writes.

    Args:
        path: checkpoint file, always whole.
        fingerprint: hash of data and settings; a checkpoint with another one is refused.
        log: its CSV file is written along.
        seconds: least time between two checkpoints.
    """

    def __init__(
        self, path: Path, fingerprint: str, log: TrainingLog, seconds: float = 15.0
    ) -> None:
        self.path, self.fingerprint, self.seconds = path, fingerprint, seconds
        self.training_log = log  # Lightning writes its own 'log' onto callbacks
        self._last = time.monotonic()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save when it is time to.

        Args:
            trainer: the running trainer.
            pl_module: the module in training.
        """
        due = trainer.global_rank == 0 and time.monotonic() - self._last >= self.seconds
        if trainer.world_size > 1:
            due = trainer.strategy.reduce_boolean_decision(due, all=False)
        if not due:
            return
        # the loss of these weights is known in the next epoch only: keep the last good ones
        squares = sum(float(p.detach().square().sum()) for p in pl_module.parameters())
        if not math.isfinite(squares):
            return
        if trainer.global_rank == 0:
            with atomic_path(self.path) as temporary:
                trainer.save_checkpoint(temporary)
        else:  # takes part, and writes nothing
            trainer.save_checkpoint(self.path)
        self.training_log.write()
        self._last = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """The fingerprint."""
        return {"fingerprint": self.fingerprint}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Refuse the checkpoint of another training.

        Args:
            state_dict: as :meth:`state_dict` gave it.

        Raises:
            InputError: if data or settings differ.
        """
        if state_dict["fingerprint"] != self.fingerprint:
            raise InputError(
                f"{self.path} belongs to a training on other data or with other settings; "
                "choose another output folder or remove that file"
            )
