"""Joining the processes that a launcher started, and parting from them."""

from __future__ import annotations

import datetime
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from torchlpr.errors import InputError
from torchlpr.ranks.group import ALONE, Ranks

__all__ = ["current_ranks", "launched", "processes"]

# a rank that dies closes its connections, which the others notice at once: this is for waiting
# while one rank trains
TIMEOUT = datetime.timedelta(days=2)
CONNECTING = datetime.timedelta(minutes=30)  # and for ranks that merge, which all do at one time
_GROUPS = itertools.count()  # of this process


def current_ranks() -> Ranks:
    """The processes of the default group that was initialised, by whomever; else this one alone."""
    if dist.is_available() and dist.is_initialized():
        return Ranks(dist.group.WORLD)
    return ALONE


def launched() -> bool:
    """Whether this process is one of several that torchrun (or its like) started."""
    return dist.is_available() and int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextmanager
def processes(timeout: datetime.timedelta = TIMEOUT) -> Iterator[Ranks]:
    """Join the processes that torchrun started, and part at the end.

    Gloo carries tensors of the CPU and NCCL those of CUDA devices, of which each process takes
    the one with its local rank. A group that is there already is used and left as it is.

    Args:
        timeout: the longest that a process waits for another that is at work.

    Yields:
        The ranks; this process alone if there are no others.

    Raises:
        InputError: if torchrun's variables are incomplete.
    """
    if not launched() or dist.is_initialized():
        yield current_ranks()
        return
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise InputError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']} but {missing[0]} is not set; start the "
            "processes with torchrun, or unset WORLD_SIZE"
        )
    backend = "gloo"
    if torch.cuda.is_available() and dist.is_nccl_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
        backend = "cpu:gloo,cuda:nccl"
    store, rank, size = next(rendezvous("env://", timeout=CONNECTING))
    # torchrun's store outlives a group, and a second one would meet the addresses of the first
    fresh = dist.PrefixStore(f"torchlpr {next(_GROUPS)}", store)
    dist.init_process_group(backend, store=fresh, rank=rank, world_size=size, timeout=CONNECTING)
    try:
        ranks = current_ranks()
        dist.distributed_c10d._set_pg_timeout(timeout, dist.group.WORLD)
        yield ranks
        ranks.counts(0)  # none closes its connections while another still talks
    finally:
        dist.destroy_process_group()
