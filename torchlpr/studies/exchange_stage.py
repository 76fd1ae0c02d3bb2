"""One training set of a study that replaces structures: fit, rigidities and committees."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from torchlpr.committee import Committee
from torchlpr.models import LinearModel
from torchlpr.objective import Objective
from torchlpr.rigidity import Rigidity
from torchlpr.structures.batch import AtomBatch
from torchlpr.studies.exchange_results import Stage
from torchlpr.training import energy_rmse, fit

__all__ = ["ExchangeOptions", "train_stage"]

WHITE_DRAWS = 20  # of labels that are noise


@dataclass(frozen=True)
class ExchangeOptions:
    """Numbers of a study that replaces structures.

    Attributes:
        references: reference environments of the kernel, by farthest-point sampling.
        members: of the committees shown, which see a share of the training set each.
        fraction: that share.
        many: members of the committees that slopes and correlations are taken from.
        seed: of the choice of replaced structures and of the committees.
    """

    references: int = 500
    members: int = 10
    fraction: float = 0.8
    many: int = 1000
    seed: int = 0


def train_stage(
    model: LinearModel,
    train: AtomBatch,
    objective: Objective,
    held_out: Mapping[str, AtomBatch],
    atoms: AtomBatch,
    options: ExchangeOptions,
    sigma: float | None = None,
) -> Stage:
    """Fit a head to one training set, and ask it and its committees about some atoms.

    Args:
        model: the head; a copy is fitted.
        train: the training set.
        objective: the loss.
        held_out: sets to judge the fit by.
        atoms: those looked at.
        options: of the committees.
        sigma: noise of sample-then-optimise in eV, of largest likelihood by default.

    Returns:
        The findings; energies lack the baseline.
    """
    model = copy.deepcopy(model)
    result = fit(model, train, objective, progress=False)
    rigidity = Rigidity(model, train, objective)
    lpr, mu_fraction = rigidity.atoms(atoms)
    common: dict[str, Any] = {"members": options.many, "seed": options.seed, "progress": False}
    subsampled = Committee.train(
        model, train, objective, method="subsample", fraction=options.fraction, **common
    )
    drawn = Committee.train(model, train, objective, sigma=sigma, **common)
    few = subsampled.predict(atoms).atoms
    rmse = {name: energy_rmse(model, batch) for name, batch in held_out.items()}
    percent = {name: 100 * rmse[name] / _spread(batch) for name, batch in held_out.items()}
    return Stage(
        {"train": result.rmse} | rmse,
        percent,
        lpr,
        mu_fraction,
        few.members[: options.members],
        few.variance,
        _white(model, train, objective, atoms, options),
        drawn.predict(atoms).atoms.variance,
        options.many,
        drawn.facts["sigma"],
        rigidity,
    )


def _white(
    model: LinearModel,
    train: AtomBatch,
    objective: Objective,
    atoms: AtomBatch,
    options: ExchangeOptions,
) -> Tensor:
    """Variance of subsampled committees whose labels are noise, the same in every structure."""
    generator = torch.Generator().manual_seed(options.seed)
    variances = []
    for draw in range(WHITE_DRAWS):
        noise = torch.randn(train.n_structures, generator=generator, dtype=torch.float64)
        committee = Committee.train(
            model,
            replace(train, energies=noise),
            objective,
            max(2, options.many // WHITE_DRAWS),
            "subsample",
            fraction=options.fraction,
            seed=draw,
            progress=False,
        )
        variances.append(committee.predict(atoms).atoms.variance)
    return torch.stack(variances).mean(0)


def _spread(batch: AtomBatch) -> float:
    """Standard deviation of the energy per atom, eV."""
    return float((batch.labels() / batch.counts).std(correction=0))
