"""What a group of processes says to each other; alone, sums and gatherings change nothing.

Nothing is padded, every sum is a plain sum, and what does not commute is combined in an order set
by the ranks alone: numbers do not depend on who was faster.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from torchlpr.errors import PeerError
from torchlpr.ranks.shares import shares

__all__ = ["ALONE", "Ranks"]

T = TypeVar("T")


class Ranks:
    """A group of processes that all call the same functions in the same order.

    Args:
        group: a group of ``torch.distributed``, None for this process alone.

    Attributes:
        rank: number of this process, from 0.
        size: number of processes.
        neighbours: processes on this machine, which share its memory.
    """

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        self.group = group
        self.rank, self.size, self.neighbours = 0, 1, 1
        if group is not None:
            self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)
            self.neighbours = self.everyone(socket.gethostname()).count(socket.gethostname())

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes and prints."""
        return self.rank == 0

    def share(self, weights: Sequence[int] | Tensor) -> slice:
        """This rank's part of consecutive items, see :func:`shares`."""
        return shares(weights, self.size)[self.rank]

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum over the ranks, the same bits on each; the tensor itself where there is one."""
        if self.size == 1:
            return tensor
        carried = self._carried(tensor, copy=True)
        dist.all_reduce(carried, dist.ReduceOp.SUM, group=self.group)
        return carried.to(tensor.device)

    def gather(self, tensor: Tensor, dim: int = 0, first_only: bool = False) -> Tensor:
        """The tensors of all ranks joined in order; they may differ in length along ``dim``.

        Args:
            tensor: this rank's part.
            dim: dimension to join along.
            first_only: the other ranks get an empty tensor, and need no memory for it.

        Returns:
            The whole.
        """
        if self.size == 1:
            return tensor
        mine = self._carried(tensor.movedim(dim, 0))
        lengths = self.counts(len(mine))
        if first_only and not self.first:
            if len(mine):
                dist.send(mine, self._global(0), group=self.group)
            return tensor.narrow(dim, 0, 0)
        whole = mine.new_empty(sum(lengths), *mine.shape[1:])
        for rank, part in enumerate(whole.split(lengths)):
            if rank == self.rank:
                part.copy_(mine)
            if not part.numel():
                continue
            if not first_only:
                dist.broadcast(part, self._global(rank), group=self.group)
            elif rank:
                dist.recv(part, self._global(rank), group=self.group)
        return whole.movedim(0, dim).to(tensor.device)

    def exchange(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """Give each rank its part, and get one from each.

        Args:
            parts: one tensor for each rank; ``parts[b]`` of all ranks agree in all but the
                length of the first dimension.

        Returns:
            One tensor from each rank.
        """
        if self.size == 1:
            return list(parts)
        lengths = self.counts(len(parts[0]))
        mine = parts[self.rank]
        shapes = [torch.Size((n, *mine.shape[1:])) for n in lengths]
        sent = self._carried(torch.cat([part.flatten() for part in parts]))
        got = sent.new_empty(sum(shape.numel() for shape in shapes))
        dist.all_to_all_single(
            got,
            sent,
            [shape.numel() for shape in shapes],
            [part.numel() for part in parts],
            group=self.group,
        )
        split = got.to(mine.device).split([shape.numel() for shape in shapes])
        return [part.view(shape) for part, shape in zip(split, shapes, strict=True)]

    def combine(self, matrix: Tensor, merge: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Merge the matrices of all ranks two by two, in an order set by the ranks alone.

        Args:
            matrix: this rank's, shape (any number of rows, columns).
            merge: joins two of them; associative but for rounding.

        Returns:
            The result, the same bits on each rank.
        """
        step = 1
        while step < self.size:
            if self.rank % (2 * step):
                self._send(matrix, self.rank - step)
                break
            if self.rank + step < self.size:
                matrix = merge(matrix, self._receive(matrix, self.rank + step))
            step *= 2
        return self.from_first(matrix)

    def from_first(self, matrix: Tensor) -> Tensor:
        """The matrix that the first rank has; those of the others give the dtype and device."""
        if self.size == 1:
            return matrix
        shape = self.everyone(tuple(matrix.shape))[0]
        carried = self._carried(matrix if self.first else matrix.new_empty(shape), copy=True)
        dist.broadcast(carried, self._global(0), group=self.group)
        return carried.to(matrix.device)

    def by_first(self, make: Callable[[], T]) -> T:
        """What the first rank makes while the others wait, on all of them.

        Args:
            make: called on the first rank alone; its result is pickled.

        Returns:
            The result.
        """
        if self.size == 1:
            return make()
        made: list[T | None] = [None]
        with self.agreed():
            if self.first:
                made = [make()]
        dist.broadcast_object_list(made, self._global(0), group=self.group)
        return made[0]  # type: ignore[return-value]

    def counts(self, number: int) -> list[int]:
        """The whole numbers of all ranks, in order."""
        if self.size == 1:
            return [number]
        mine = self._carried(torch.tensor([number]))
        numbers = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(numbers, mine, group=self.group)
        return torch.cat(numbers).tolist()

    def everyone(self, value: T) -> list[T]:
        """The values of all ranks, in order; small ones that can be pickled."""
        if self.group is None:
            return [value]
        values: list[T | None] = [None] * self.size
        dist.all_gather_object(values, value, group=self.group)
        return values  # type: ignore[return-value]

    @contextmanager
    def agreed(self) -> Iterator[None]:
        """A block that succeeds on all ranks or fails on all, so that none waits for ever.

        Yields:
            Nothing; the block may hold collective calls if it cannot fail between them.

        Raises:
            PeerError: on the ranks that did not fail themselves.
        """
        if self.size == 1:
            yield
            return
        error: Exception | None = None
        try:
            yield
        except Exception as caught:  # to be raised again below, when the others know
            error = caught
        if not any(self.counts(error is not None)):
            return
        words = self.everyone(None if error is None else f"{error}" or type(error).__name__)
        if error is not None:
            # the command line says it once
            error.said_by_lower_rank = words[self.rank] in words[: self.rank]  # type: ignore[attr-defined]
            raise error
        failed = [rank for rank, word in enumerate(words) if word is not None]
        if failed:
            raise PeerError(f"rank {failed[0]} of {self.size} failed: {words[failed[0]]}")

    def rounds(self, items: Iterator[T]) -> Iterator[T | None]:
        """This rank's items, and then None until every rank has run out of its own.

        Args:
            items: any number, also none; an error in making one is raised on all ranks.

        Yields:
            An item or None, equally often on all ranks.
        """
        while True:
            with self.agreed():
                item = next(items, None)
            if not any(self.counts(item is not None)):
                return
            yield item

    def _send(self, matrix: Tensor, rank: int) -> None:
        shape = self._carried(torch.tensor(matrix.shape, device=matrix.device))
        dist.send(shape, self._global(rank), group=self.group)
        if matrix.numel():
            dist.send(self._carried(matrix), self._global(rank), group=self.group)

    def _receive(self, like: Tensor, rank: int) -> Tensor:
        shape = self._carried(torch.tensor(like.shape, device=like.device), copy=True)
        dist.recv(shape, self._global(rank), group=self.group)
        matrix = self._carried(like.new_empty(shape.tolist()))
        if matrix.numel():
            dist.recv(matrix, self._global(rank), group=self.group)
        return matrix.to(like.device)

    def _global(self, rank: int) -> int:
        assert self.group is not None
        return dist.get_global_rank(self.group, rank)

    def _carried(self, tensor: Tensor, copy: bool = False) -> Tensor:
        """A contiguous tensor on a device that the group's backend reaches."""
        known = dist.distributed_c10d.get_backend_config(self.group)  # such as cpu:gloo,cuda:nccl
        here = tensor.detach()
        if tensor.is_cuda and "cuda:nccl" not in known:  # gloo lacks some calls on CUDA
            here = here.cpu()
        elif not tensor.is_cuda and "cpu:" not in known:
            here = here.cuda()
        elif copy:
            here = here.clone()
        return here.contiguous()


ALONE = Ranks()
