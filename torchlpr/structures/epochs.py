"""Mini-batches in an order that a resumed training repeats, one by one or an epoch at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch.utils.data import Dataset, DistributedSampler

from torchlpr.structures.batch import AtomBatch
from torchlpr.structures.packed import PackedBatch, PackedStructures

__all__ = ["Batch", "Epoch", "EpochSampler", "ResidentStructures"]

Indices = list[int] | None
Batch = AtomBatch | PackedBatch


class Epoch:
    """All mini-batches of an epoch, made one by one.

    Args:
        data: the resident structures.
        order: structure indices of each mini-batch.
    """

    def __init__(self, data: ResidentStructures, order: list[Indices]) -> None:
        self._data, self._order = data, order

    def __iter__(self) -> Iterator[Batch]:
        return map(self._data.batch_of, self._order)


class EpochSampler(DistributedSampler[Indices]):
    """Structure indices of each mini-batch, in an order set by the seed and the epoch alone.

    Of several processes each gets its part of every mini-batch, without padding: it may be empty.
    It is a ``DistributedSampler`` so that Lightning, which pads, does not put its own in its place.

    Lightning calls :meth:`set_epoch` before every epoch, so that no state of a random generator
    has to be saved for a resumed training to see the batches of an uninterrupted one.

    Attributes:
        n_structures: number of structures.
        batch_size: structures in a batch, the last one may have fewer; None is one batch of all.
        seed: seed of the shuffle, None keeps the structures in order.
        epoch: number of the epoch.
        rank: number of this process.
        size: number of processes.
        whole: whether the list of all mini-batches of an epoch is one item.
    """

    def __init__(
        self,
        n_structures: int,
        batch_size: int | None,
        seed: int | None,
        rank: int = 0,
        size: int = 1,
        whole: bool = False,
    ) -> None:
        # what the base class would sample is not used, and it would look for processes itself
        self.n_structures = n_structures
        self.batch_size = batch_size
        self.seed = seed  # type: ignore[assignment]
        self.epoch = 0
        self.rank, self.size, self.whole = rank, size, whole

    def set_epoch(self, epoch: int) -> None:
        """Choose the shuffle of an epoch.

        Args:
            epoch: number of the epoch, from 0.
        """
        self.epoch = epoch

    def __len__(self) -> int:
        """Number of items in an epoch."""
        return (
            1 if self.batch_size is None or self.whole else -(-self.n_structures // self.batch_size)
        )

    def __iter__(self) -> Iterator[Any]:
        if self.whole:  # nothing before the first item is asked for: the epoch is set after iter()
            yield list(self._batches())
        else:
            yield from self._batches()

    def _batches(self) -> Iterator[Indices]:
        if self.batch_size is None:
            yield None
            return
        order = np.arange(self.n_structures)
        if self.seed is not None:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(order)
        for start in range(0, self.n_structures, self.batch_size):
            yield order[start : start + self.batch_size][self.rank :: self.size].tolist()


class ResidentStructures(Dataset[Batch | Epoch]):
    """A resident batch, whole or in part.

    Args:
        batch: all structures.
        packed: whether to hand out packed structures.
    """

    def __init__(self, batch: AtomBatch, packed: bool) -> None:
        self.batch = batch
        self.packed = PackedStructures(batch) if packed else None

    def __len__(self) -> int:
        return self.batch.n_structures

    def __getitem__(self, item: Any) -> Batch | Epoch:
        if item is not None and item and not isinstance(item[0], int):
            return Epoch(self, item)
        return self.batch_of(item)

    def batch_of(self, indices: Indices) -> Batch:
        """The structures of one mini-batch.

        Args:
            indices: which, None for all.

        Returns:
            The batch.
        """
        if self.packed is not None:
            return self.packed.take(range(len(self)) if indices is None else indices)
        return self.batch if indices is None else self.batch.select(indices)
