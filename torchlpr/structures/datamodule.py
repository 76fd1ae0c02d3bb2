"""Batches for Lightning: one resident batch, or mini-batches that a resumed training repeats."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from torchlpr.errors import InputError
from torchlpr.ranks import shares
from torchlpr.structures.batch import AtomBatch
from torchlpr.structures.epochs import Batch, Epoch, EpochSampler, ResidentStructures
from torchlpr.structures.packed import PackedBatch

__all__ = ["StructureDataModule"]


class StructureDataModule(LightningDataModule):
    """Training and validation structures for a Lightning Trainer.

    Features are computed once and stay in memory, so there are no workers and nothing is copied:
    the full batch is the same object in every epoch, moved to another device at most once.

    Batches keep their own dtype: leave ``precision`` of the Trainer at its default and make the
    model as precise as the features. Several processes share every batch without padding: a full
    batch is the structures of this process, about as many atoms as on every other one.

    Args:
        train: structures to train on, with energies.
        validation: structures to validate on, with energies, or None.
        batch_size: structures in a batch, None takes them all at once.
        seed: seed of the shuffle of the training structures.
        packed: hand out packed structures, where the loss is known for them: steps are several
            times faster, for a second copy of the derivatives.
        whole: hand out the mini-batches of a training epoch as one :class:`Epoch`.

    Raises:
        InputError: if a batch has no structures or no energies, or a number is out of range.
    """

    def __init__(
        self,
        train: AtomBatch,
        validation: AtomBatch | None = None,
        batch_size: int | None = None,
        seed: int = 0,
        packed: bool = False,
        whole: bool = False,
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
        self.packed, self.whole = packed, whole
        self.rank, self.size = 0, 1
        self._mine = {"train": train, "validation": validation}
        self._moved: dict[int, AtomBatch] = {}
        self._limit: float | None = None

    def setup(self, stage: str) -> None:
        """Look at the Trainer: refuse one that changes batches; called by Lightning.

        Args:
            stage: what is about to run, not used.

        Raises:
            InputError: if the Trainer converts batches to its own precision.
        """
        if self.trainer is None:
            return
        precision = self.trainer.precision
        if precision is not None and precision.endswith("-true") and precision != "32-true":
            raise InputError(
                f"the Trainer's precision={precision!r} would convert the batches; leave it at "
                "its default and give model and features the same dtype"
            )
        self.rank, self.size = self.trainer.global_rank, self.trainer.world_size
        self._mine = {"train": self.train, "validation": self.validation}
        if self.size > 1 and self.batch_size is None:
            self._mine = {name: self._share(batch) for name, batch in self._mine.items()}
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

    def train_dataloader(self) -> DataLoader[Batch | Epoch]:
        """Batches to train on, shuffled anew in every epoch.

        Returns:
            A loader of one full batch or of mini-batches.
        """
        return self._loader("train", self.seed)

    def val_dataloader(self) -> DataLoader[Batch | Epoch] | list[DataLoader[Batch | Epoch]]:
        """Batches to validate on, always in the same order.

        Returns:
            A loader as for training, or an empty list if there is nothing to validate on.
        """
        return [] if self.validation is None else self._loader("validation", None)

    def transfer_batch_to_device(
        self, batch: Batch | Epoch, device: torch.device, dataloader_idx: int
    ) -> Batch | Epoch:
        """Move a batch to the device of the model; called by Lightning.

        Args:
            batch: a full batch or a mini-batch; packed ones are on their device already.
            device: the device of the model.
            dataloader_idx: number of the loader, not used.

        Returns:
            The batch itself where it already is on the device; of a full batch the copy that was
            made the first time.
        """
        if isinstance(batch, (PackedBatch, Epoch)) or batch.features.device == device:
            return batch
        if all(batch is not resident for resident in self._mine.values()):
            return batch.to(device)
        moved = self._moved.get(id(batch))
        if moved is None or moved.features.device != device:
            moved = self._moved[id(batch)] = batch.to(device)
        return moved

    def _share(self, batch: AtomBatch | None) -> AtomBatch | None:
        """This process's structures of a full batch."""
        if batch is None:
            return None
        mine = shares(batch.counts, self.size)[self.rank]
        return batch.select(torch.arange(mine.start, mine.stop))

    def _loader(self, name: str, seed: int | None) -> DataLoader[Batch | Epoch]:
        """A loader in this process that hands over what the dataset returns, untouched."""
        batch = self._mine[name]
        assert batch is not None
        place = self.rank, self.size
        return DataLoader(
            ResidentStructures(batch, self.packed),
            batch_size=None,
            sampler=EpochSampler(
                batch.n_structures, self.batch_size, seed, *place, self.whole and name == "train"
            ),
            collate_fn=_untouched,
        )


def _untouched(batch: Any) -> Any:
    """The batch itself, which PyTorch's typing takes for a list of samples."""
    return batch
