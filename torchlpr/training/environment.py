"""Lightning among processes that exist already: it starts none, and joins the group they have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments import ClusterEnvironment
from lightning.pytorch.strategies import DDPStrategy
from torch import nn

from torchlpr.errors import InputError
from torchlpr.ranks import Ranks

__all__ = ["RanksEnvironment", "strategy_of", "trained_by_first"]

T = TypeVar("T")


class RanksEnvironment(ClusterEnvironment):
    """Tells Lightning who is who.

    Args:
        ranks: the processes, all of the default group.
    """

    def __init__(self, ranks: Ranks) -> None:
        super().__init__()
        self.ranks = ranks

    @property
    def creates_processes_externally(self) -> bool:
        """True: they are there."""
        return True

    @property
    def main_address(self) -> str:
        """Not needed: the group is there."""
        return "127.0.0.1"

    @property
    def main_port(self) -> int:
        """Not needed: the group is there."""
        return 0

    @staticmethod
    def detect() -> bool:
        """False: Lightning shall not choose it by itself."""
        return False

    def world_size(self) -> int:
        """Number of processes."""
        return self.ranks.size

    def set_world_size(self, size: int) -> None:
        """Nothing: it is known."""

    def global_rank(self) -> int:
        """Number of this process."""
        return self.ranks.rank

    def set_global_rank(self, rank: int) -> None:
        """Nothing: it is known."""

    def local_rank(self) -> int:
        """Number of this process among those of its machine, by which it takes its device."""
        return self.ranks.rank % self.ranks.neighbours

    def node_rank(self) -> int:
        """Number of its machine."""
        return self.ranks.rank // self.ranks.neighbours


def strategy_of(ranks: Ranks, device: torch.device) -> dict[str, Any]:
    """The Trainer's arguments that say which processes and devices train.

    Args:
        ranks: the processes.
        device: of the training batch.

    Returns:
        devices, num_nodes and strategy.

    Raises:
        InputError: if the ranks are a part of all processes only, or machines have different
            numbers of them.
    """
    if ranks.size == 1:
        return {"devices": 1}
    if ranks.size != dist.get_world_size():
        raise InputError(
            f"Adam trains in all of the {dist.get_world_size()} processes, not in a group of "
            f"{ranks.size}; use current_ranks()"
        )
    if set(ranks.counts(ranks.neighbours)) != {ranks.neighbours}:
        raise InputError("the machines have different numbers of processes; give them equal ones")
    environment = RanksEnvironment(ranks)
    backend = "nccl" if device.type == "cuda" else "gloo"
    return {
        "devices": ranks.neighbours,
        "num_nodes": ranks.size // ranks.neighbours,
        "strategy": DDPStrategy(cluster_environment=environment, process_group_backend=backend),
    }


def trained_by_first(model: nn.Module, train: Callable[[], T], ranks: Ranks) -> T:
    """Train on the first rank while the others wait, and give all of them its weights.

    Args:
        model: the same on all ranks, changed in place.
        train: called on the first rank alone; changes the model.
        ranks: the processes.

    Returns:
        What ``train`` returned.
    """
    if ranks.size == 1:
        return train()

    def results() -> tuple[T, dict[str, Any]]:
        result = train()
        return result, {name: value.cpu() for name, value in model.state_dict().items()}

    result, weights = ranks.by_first(results)
    model.load_state_dict(weights)
    return result
