r"""What each member minimises: its own structures, its own labels, its own prior.

.. math:: L_b(w) = \tfrac12 \sum_{m \in S_b} (t_{bm} - \tilde t_m(w))^2
                 + \tfrac12 \mu \, |w - w^0_b|^2
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from torchlpr.errors import InputError
from torchlpr.objective import Objective
from torchlpr.structures.batch import AtomBatch

__all__ = ["MemberTasks", "Method", "check_method", "draw_tasks", "generator"]

Method = Literal["sample-then-optimise", "subsample"]


@dataclass(frozen=True)
class MemberTasks:
    """The losses of all members.

    Attributes:
        kept: 1 where a member is trained on a structure, else 0, shape (members, structures).
        energies: total energies that each member is trained on in eV, shape
            (members, structures).
        centres: weights that each member's regulariser pulls to, shape (members, parameters).
    """

    kept: Tensor
    energies: Tensor
    centres: Tensor

    def select(self, members: Tensor) -> MemberTasks:
        """The losses of some members."""
        return replace(
            self,
            kept=self.kept[members],
            energies=self.energies[members],
            centres=self.centres[members],
        )


def check_method(method: str, members: int, fraction: float, structures: int) -> int:
    """Look at the settings before anything is computed.

    Args:
        method: "sample-then-optimise" or "subsample".
        members: number of members.
        fraction: share of the structures that each member of a subsampled committee sees.
        structures: number of training structures.

    Returns:
        Number of structures a member sees.

    Raises:
        InputError: if the method is unknown, there are fewer than two members, or a subsample
            is empty or everything.
    """
    if method not in get_args(Method):
        raise InputError(f"method {method!r} is unknown; use one of {', '.join(get_args(Method))}")
    if isinstance(members, bool) or not isinstance(members, int) or members < 2:
        raise InputError(f"a committee needs at least 2 members to have a variance, not {members}")
    if not structures:
        raise InputError("the training set is empty; give at least one structure")
    if method != "subsample":
        return structures
    if not 0 < fraction < 1:
        raise InputError(f"fraction must lie between 0 and 1, not {fraction}")
    size = round(fraction * structures)
    if not 0 < size < structures:
        raise InputError(
            f"a fraction of {fraction} of {structures} structures is {size} of them, so members "
            "would not differ; choose another fraction"
        )
    return size


def draw_tasks(
    method: Method,
    batch: AtomBatch,
    objective: Objective,
    n_parameters: int,
    members: int,
    size: int,
    sigma: float,
    seed: int,
) -> MemberTasks:
    """Draw the structures, labels and priors of all members.

    Args:
        method: "sample-then-optimise" or "subsample".
        batch: training structures with energies.
        objective: the loss.
        n_parameters: number P of weights.
        members: how many.
        size: structures a member of a subsampled committee sees.
        sigma: standard deviation of the noise on the rows, for sample-then-optimise, in eV.
        seed: of everything random; a member depends on the seed and its own number alone.

    Returns:
        The losses.
    """
    energies = batch.labels().to(torch.float64)
    kept = torch.ones(members, len(energies), dtype=torch.float64)
    labels = energies.expand(members, -1).clone()
    centres = torch.zeros(members, n_parameters, dtype=torch.float64)
    scale = objective.row_scale(batch.counts)
    for member in range(members):
        rng = generator(seed, member)
        if method == "subsample":
            kept[member, rng.permutation(len(energies))[size:]] = 0
            continue
        noise = torch.from_numpy(rng.normal(size=len(energies))).to(scale)
        labels[member] += sigma * noise / scale
        prior = torch.from_numpy(rng.normal(size=n_parameters))
        centres[member] = sigma / objective.mu**0.5 * prior
    return MemberTasks(kept.to(energies.device), labels, centres.to(energies.device))


def generator(seed: int, member: int, purpose: int = 0) -> np.random.Generator:
    """Random numbers of one member, or one epoch, for one purpose, independent of all others.

    Args:
        seed: of the committee, or of the order of mini-batches.
        member: its number, or that of the epoch.
        purpose: 0 for a member's task, 1 for its initial weights, 2 for an epoch's mini-batches.

    Returns:
        The generator.

    Raises:
        InputError: if the seed is negative or no whole number.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise InputError(f"seed must be a whole number from 0 on, not {seed!r}")
    return np.random.default_rng([seed, member, purpose])
