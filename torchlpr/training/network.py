"""Training a network: Lightning with Adam on the full objective, resumable."""

from __future__ import annotations

import logging
import signal
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import lightning as L
from torch import nn

from torchlpr.errors import InputError
from torchlpr.files import make_folder
from torchlpr.objective import Objective
from torchlpr.ranks import ALONE, Ranks
from torchlpr.structures.batch import AtomBatch
from torchlpr.structures.datamodule import StructureDataModule
from torchlpr.training.adam_settings import AdamSettings
from torchlpr.training.callbacks import ResumableCheckpoint, TrainingLog
from torchlpr.training.early_stopping import EarlyStop
from torchlpr.training.environment import strategy_of
from torchlpr.training.epoch_module import EpochModule
from torchlpr.training.losses import packs
from torchlpr.training.module import PotentialModule
from torchlpr.training.resume import fingerprint

__all__ = ["train_network"]

CHECKPOINT = "training.ckpt"


def train_network(
    model: nn.Module,
    batch: AtomBatch,
    objective: Objective,
    settings: AdamSettings | None = None,
    validation: AtomBatch | None = None,
    out: str | Path | None = None,
    progress: bool = True,
    callbacks: Sequence[L.Callback] = (),
    ranks: Ranks = ALONE,
) -> list[tuple[float, ...]]:
    """Train a model in place.

    Several processes share every batch through Lightning's DDP strategy, and minimise the same
    loss as one process.

    Args:
        model: maps (features, types) to atomic energies.
        batch: training structures with energies.
        objective: the loss.
        settings: Adam's settings.
        validation: structures whose error is logged, and stops training where asked to.
        out: folder for the log ``metrics.csv`` and the checkpoint a killed training resumes
            from; None keeps everything in memory.
        progress: whether to show a bar.
        callbacks: further Lightning callbacks.
        ranks: processes that share the work, each with the same model and whole batches; the
            first writes.

    Returns:
        One row an epoch: epoch, loss (eV^2), training RMSE, validation RMSE (eV), learning rate,
        and with forces their training and validation RMSE (eV/Å).

    Raises:
        InputError: if training is to stop early without structures to validate on.
    """
    settings = settings or AdamSettings()
    if settings.early_stopping is not None and validation is None:
        raise InputError(
            f"early_stopping {settings.early_stopping} needs structures to validate on; give "
            "validation"
        )
    with ranks.agreed():
        folder = None if out is None else make_folder(out)
    strategy = strategy_of(ranks, batch.features.device)
    packed = packs(model, batch, validation, objective)
    whole = ranks.size == 1 and settings.batch_size is not None
    data = StructureDataModule(batch, validation, settings.batch_size, settings.seed, packed, whole)
    with_forces = objective.force_weight > 0
    table = folder / "metrics.csv" if folder and ranks.first else None
    epochs, steps = settings.length(batch.n_structures)
    log = TrainingLog(epochs, table, progress and ranks.first, with_forces)
    module = (EpochModule if whole else PotentialModule)(
        model,
        objective,
        batch.n_structures,
        settings.lr,
        settings.factor,
        settings.patience,
        settings.cooldown,
        settings.batch_size,
        0 if validation is None else validation.n_structures,
        settings.decay(steps),
        steps,
    )
    hooks: list[L.Callback] = [log, *callbacks]
    every_epoch = settings.early_stopping is not None
    if settings.early_stopping is not None:
        hooks.append(EarlyStop(settings.early_stopping))
    resume_from = None
    if folder is not None:
        path = folder / CHECKPOINT
        mark = fingerprint(model, batch, objective, settings)
        if settings.early_stopping is not None and validation is not None:  # has a say here
            mark += fingerprint(model, validation, objective, settings)
        hooks.append(ResumableCheckpoint(path, mark, log))
        resume_from = path if ranks.by_first(path.exists) else None
    with closing(log), _quiet_lightning():
        trainer = L.Trainer(
            max_epochs=epochs,
            accelerator="gpu" if batch.features.is_cuda else "cpu",
            **strategy,
            precision="32-true",  # Lightning's word for: leave the dtypes as they are
            callbacks=hooks,
            logger=False,
            enable_checkpointing=folder is not None,
            enable_progress_bar=False,
            enable_model_summary=False,
            check_val_every_n_epoch=1 if every_epoch else max(1, epochs // 200),
            limit_val_batches=None if validation is not None else 0,
            num_sanity_val_steps=0,
        )
        with _keyboard_interrupts():
            trainer.fit(module, data, ckpt_path=resume_from, weights_only=True)
    log.write()
    return log.rows


@contextmanager
def _keyboard_interrupts() -> Iterator[None]:
    """Let Ctrl-C through as what it is: Lightning turns it off and exits with code 1."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from None


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Keep Lightning's remarks on hardware and workers from the user of a full batch."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for remark in (
                ".*does not have many workers.*",
                ".*LeafSpec.* is deprecated.*",
                "GPU available but not used.*",
                ".*smaller than the logging interval.*",
            ):
                warnings.filterwarnings("ignore", message=remark)
            yield
    finally:
        logger.setLevel(level)
