"""Ten networks of the paper's size together, against one after the other, in the same run.

Each member sees four fifths of the structures. The single trainings are those of `fit`: Adam on
the member's own structures, from the same weights and with the same mini-batches. Their losses
must agree at the end. TORCHLPR_COMMITTEE=1000,30,16 makes 1000 structures of 64 atoms and 30
epochs of mini-batches of 16, 1000,20 full batches.
"""

import copy
import functools
import os
import statistics
import time
from unittest import mock

import numpy as np
import pytest
import torch
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from torchlpr import (
    SOAP,
    AtomBatch,
    BehlerParrinelloMLP,
    Committee,
    CompositionBaseline,
    Objective,
)
from torchlpr.committee.tasks import draw_tasks, generator
from torchlpr.structures import datamodule
from torchlpr.structures.embedded import amorphous_silicon
from torchlpr.structures.epochs import EpochSampler
from torchlpr.training import AdamSettings, train_network

STRUCTURES, EPOCHS, *SIZE = map(int, os.environ.get("TORCHLPR_COMMITTEE", "1000,12,8").split(","))
MEMBERS, FRACTION, ROUNDS = 10, 0.8, 2
OBJECTIVE, ADAM = Objective(mu=1e-3), AdamSettings(EPOCHS, batch_size=SIZE[0] if SIZE else None)


class Shared(EpochSampler):
    """What a member sees of the mini-batches that members share."""

    def __init__(self, kept: torch.Tensor, *arguments, **options) -> None:
        super().__init__(*arguments, **options)
        self.kept, self.own = kept, kept.cumsum(0).long() - 1

    def _batches(self):
        if self.batch_size is None:
            yield None
            return
        steps = -(-self.n_structures // self.batch_size)
        order = generator(self.seed, self.epoch, purpose=2).permutation(len(self.kept))
        for chosen in map(torch.from_numpy, np.array_split(order, steps)):
            mine = chosen[self.kept[chosen] > 0]
            if len(mine):
                yield self.own[mine].tolist()


@functools.cache
def train() -> AtomBatch:
    """Amorphous silicon, again and again where more structures are asked for."""
    soap = SOAP(
        cutoff=5.0, max_radial=7, max_angular=8, width=0.5, smoothing=0.5, types=["Si"],
        normalize=True,
    )  # fmt: skip
    frames = amorphous_silicon()[: min(STRUCTURES, 100)]
    batch = soap(frames, progress=False)
    batch = AtomBatch.cat([batch] * -(-STRUCTURES // len(frames))).select(range(STRUCTURES))
    return CompositionBaseline.fit(batch).subtract(batch)


@functools.cache
def tasks() -> tuple[torch.Tensor, list[AtomBatch], torch.Tensor]:
    """Initial weights and structures of each member, and which they are."""
    batch, model = train(), BehlerParrinelloMLP(576, ["Si"], seed=0)
    seeds = [int(generator(0, b, purpose=1).integers(2**31)) for b in range(MEMBERS)]
    fresh = [BehlerParrinelloMLP(576, ["Si"], seed=s) for s in seeds]
    weights = torch.stack([parameters_to_vector(m.parameters()).detach() for m in fresh])
    size = round(FRACTION * STRUCTURES)
    p = sum(q.numel() for q in model.parameters())
    drawn = draw_tasks("subsample", batch, OBJECTIVE, p, MEMBERS, size, 0.0, 0)
    own = [batch.select(kept.nonzero().squeeze(1)) for kept in drawn.kept]
    return weights, own, drawn.kept


def together() -> list[torch.Tensor]:
    model = BehlerParrinelloMLP(576, ["Si"], seed=0)
    options = {"fraction": FRACTION, "settings": ADAM, "progress": False}
    return list(Committee.train(model, train(), OBJECTIVE, MEMBERS, "subsample", **options).weights)


def one_by_one() -> list[torch.Tensor]:
    trained = []
    for weights, batch, kept in zip(*tasks(), strict=True):
        model = BehlerParrinelloMLP(576, ["Si"], seed=0)
        vector_to_parameters(weights.clone(), model.parameters())
        with mock.patch.object(datamodule, "EpochSampler", functools.partial(Shared, kept)):
            train_network(model, batch, OBJECTIVE, ADAM, progress=False)
        trained.append(parameters_to_vector(model.parameters()).detach())
    return trained


def losses(members: list[torch.Tensor]) -> list[float]:
    model = copy.deepcopy(BehlerParrinelloMLP(576, ["Si"], seed=0)).requires_grad_(False)
    found = []
    for weights, batch in zip(members, tasks()[1], strict=True):
        vector_to_parameters(weights, model.parameters())
        data = OBJECTIVE.data_loss(OBJECTIVE.batch_residuals(model, batch))
        found.append(float(data + OBJECTIVE.penalty(model.parameters())))
    return found


def test_committee_of_ten(benchmark):
    tasks()
    seconds = {(way, clock): [] for way in (together, one_by_one) for clock in CLOCKS}
    final = {}

    def both():
        for way in (together, one_by_one):
            starts = {clock: clock() for clock in CLOCKS}
            trained = way()
            for clock, start in starts.items():
                seconds[way, clock].append(clock() - start)
            final[way] = losses(trained)

    size = f"mini-batches of {SIZE[0]}" if SIZE else "full batches"
    benchmark.group = f"ten networks, {STRUCTURES} structures, {EPOCHS} epochs of {size}"
    benchmark.pedantic(both, rounds=ROUNDS, warmup_rounds=1)
    assert final[together] == pytest.approx(final[one_by_one], rel=1e-9)
    for clock, name in CLOCKS.items():
        medians = [statistics.median(seconds[way, clock][1:]) for way in (one_by_one, together)]
        benchmark.extra_info[f"{name} alone / s"], benchmark.extra_info[f"{name} / s"] = medians
        benchmark.extra_info[f"{name} ratio"] = medians[0] / medians[1]
    print(benchmark.extra_info)


CLOCKS = {time.perf_counter: "wall", time.process_time: "processor"}
