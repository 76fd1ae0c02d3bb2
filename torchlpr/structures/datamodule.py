"""Batches for Lightning: one resident batch, or mini-batches that a resumed training repeats."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset, Sampler

from torchlpr.errors import InputError
from torchlpr.structures.batch import AtomBatch

__all__ = ["EpochSampler", "StructureDataModule"]

Indices = list[int] | None


class EpochSampler(Sampler[Indices]):
    """Structure indices of each mini-batch, in an order set by the seed and the epoch alone.

    Lightning calls :meth:`set_epoch` before every epoch, so that no state of a random generator
    has to be saved for a resumed training to see the batches of an uninterrupted one.

    Attributes:
        n_structures: number of structures.
        batch_size: structures in a batch, the last one may have fewer; None is one batch of all.
        seed: seed of the shuffle, None keeps the structures in order.
        epoch: number of the epoch.
    """

    def __init__(self, n_structures: int, batch_size: int | None, seed: int | None) -> None:
        super().__init__()
        self.n_structures = n_structures
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the shuffle of an epoch.

        Args:
            epoch: number of the epoch, from 0.
        """
        self.epoch = epoch

    def __len__(self) -> int:
        """Number of batches in an epoch."""
        return 1 if self.batch_size is None else -(-self.n_structures // self.batch_size)

    def __iter__(self) -> Iterator[Indices]:
        if self.batch_size is None:
            yield None
            return
        order = np.arange(self.n_structures)
        if self.seed is not None:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(order)
        for start in range(0, self.n_structures, self.batch_size):
            yield order[start : start + self.batch_size].tolist()


class _Structures(Dataset[AtomBatch]):
    """A resident batch, whole or in part."""

    def __init__(self, batch: AtomBatch) -> None:
        self.batch = batch

    def __len__(self) -> int:
        return self.batch.n_structures

    def __getitem__(self, indices: Indices) -> AtomBatch:
        return self.batch if indices is None else self.batch.select(indices)


class StructureDataModule(LightningDataModule):
    """Training and validation structures for a Lightning Trainer.

    Features are computed once and stay in memory, so there are no workers and nothing is copied:
    the full batch is the same object in every epoch, moved to another device at most once.

    Batches keep their own dtype: leave ``precision`` of the Trainer at its default and make the
    model as precise as the features. Mini-batches are for one process; several would have to
    share them out without padding.

    Args:
        train: structures to train on, with energies.
        validation: structures to validate on, with energies, or None.
        batch_size: structures in a batch, None takes them all at once.
        seed: seed of the shuffle of the training structures.

    Raises:
        InputError: if a batch has no structures or no energies, or a number is out of range.
    """

    def __init__(
        self,
        train: AtomBatch,
        validation: AtomBatch | None = None,
        batch_size: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if batch_size is not None and batch_size < 1:
            raise InputError(f"batch_size must be at least 1 or None for all, not {batch_size}")
        if seed < 0:
            raise InputError(f"the seed must not be negative, not {seed}")
        for name, batch in (("train", train), ("validation", validation)):
            if batch is not None and batch.labels().numel() == 0:
                raise InputError(f"the {name} batch holds no structures; check the split")
        self.train = train
        self.validation = validation
        self.batch_size = batch_size
        self.seed = seed
        self._moved: dict[int, AtomBatch] = {}
        self._limit: float | None = None

    def setup(self, stage: str) -> None:
        """Look at the Trainer: refuse one that changes or repeats batches; called by Lightning.

        Args:
            stage: what is about to run, not used.

        Raises:
            InputError: if the Trainer converts batches to its own precision, or trains on
                mini-batches in several processes.
        """
        if self.trainer is None:
            return
        precision = self.trainer.precision
        if precision is not None and precision.endswith("-true") and precision != "32-true":
            raise InputError(
                f"the Trainer's precision={precision!r} would convert the batches; leave it at "
                "its default and give model and features the same dtype"
            )
        if self.batch_size is not None and self.trainer.world_size > 1:
            raise InputError(
                f"mini-batches of {self.batch_size} are for one process, not "
                f"{self.trainer.world_size}; train with devices=1 or batch_size=None"
            )
        if self.validation is None:
            # Lightning's own switch for no validation; it warns of an empty list of loaders
            self._limit = self.trainer.limit_val_batches
            self.trainer.limit_val_batches = 0

    def teardown(self, stage: str) -> None:
        """Give the Trainer its validation back; called by Lightning.

        Args:
            stage: what has run, not used.
        """
        if self.trainer is not None and self._limit is not None:
            self.trainer.limit_val_batches, self._limit = self._limit, None

    def train_dataloader(self) -> DataLoader[AtomBatch]:
        """Batches to train on, shuffled anew in every epoch.

        Returns:
            A loader of one full batch or of mini-batches.
        """
        return _loader(self.train, self.batch_size, self.seed)

    def val_dataloader(self) -> DataLoader[AtomBatch] | list[DataLoader[AtomBatch]]:
        """Batches to validate on, always in the same order.

        Returns:
            A loader as for training, or an empty list if there is nothing to validate on.
        """
        return [] if self.validation is None else _loader(self.validation, self.batch_size, None)

    def transfer_batch_to_device(
        self, batch: AtomBatch, device: torch.device, dataloader_idx: int
    ) -> AtomBatch:
        """Move a batch to the device of the model; called by Lightning.

        Args:
            batch: a full batch or a mini-batch.
            device: the device of the model.
            dataloader_idx: number of the loader, not used.

        Returns:
            The batch itself where it already is on the device; of a full batch the copy that was
            made the first time.
        """
        if batch.features.device == device:
            return batch
        if batch is not self.train and batch is not self.validation:
            return batch.to(device)
        moved = self._moved.get(id(batch))
        if moved is None or moved.features.device != device:
            moved = self._moved[id(batch)] = batch.to(device)
        return moved


def _loader(batch: AtomBatch, batch_size: int | None, seed: int | None) -> DataLoader[AtomBatch]:
    """A loader in this process that hands over what the dataset returns, untouched."""
    return DataLoader(
        _Structures(batch),
        batch_size=None,
        sampler=EpochSampler(batch.n_structures, batch_size, seed),
        collate_fn=_untouched,
    )


def _untouched(batch: Any) -> Any:
    """The batch itself, which PyTorch's typing takes for a list of samples."""
    return batch
