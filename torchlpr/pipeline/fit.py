"""``torchlpr fit``: structures in, a self-contained run out; resumable."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from torchlpr.export import Run, load
from torchlpr.export.run import CHECKPOINT
from torchlpr.files import atomic_path
from torchlpr.models import (
    BehlerParrinelloMLP,
    CompositionBaseline,
    LinearModel,
    SparseKernelModel,
)
from torchlpr.models.inducing import select_inducing
from torchlpr.objective import Objective
from torchlpr.pipeline.claim import claimed
from torchlpr.pipeline.config import FitConfig, ModelConfig, TrainingConfig
from torchlpr.pipeline.data import describe, read_parts
from torchlpr.pipeline.figures import fit_figures, have_plots
from torchlpr.pipeline.regulariser import (
    search_table,
    write_search_figure,
    write_search_table,
)
from torchlpr.ranks import ALONE, Ranks
from torchlpr.rigidity import Rigidity
from torchlpr.structures.batch import AtomBatch
from torchlpr.training import (
    AdamSettings,
    FitResult,
    LBFGSSettings,
    LMSettings,
    energy_rmse,
    fit,
    force_rmse,
    mean_loss_objective,
)
from torchlpr.training.grid_search import GridSearch, search_mu

__all__ = ["fit_run", "write_json"]


def fit_run(config: FitConfig, out: str | Path, progress: bool = True, ranks: Ranks = ALONE) -> Run:
    """Train a model and keep everything that new structures need in one folder.

    A killed call goes on where it was when it is repeated with the same settings.

    Args:
        config: all settings.
        out: folder of the run: config.yaml, checkpoint.pt, summary.json, logs and figures.
        progress: whether to show bars.
        ranks: processes that share features, Adam's steps and the rigidity; the first does the
            rest, and writes. They see the same files.

    Returns:
        The run.
    """
    with ExitStack() as stack:
        folder = Path(out)
        with ranks.agreed():
            if ranks.first:
                stack.enter_context(claimed(folder, asdict(config)))
        if ranks.by_first((folder / CHECKPOINT).exists):
            with ranks.agreed():
                return load(folder, ranks)
        return _fit_into(folder, config, progress and ranks.first, ranks)


def _fit_into(folder: Path, config: FitConfig, progress: bool, ranks: Ranks) -> Run:
    clock = _Clock()
    with ranks.agreed():
        _fit_options(config.training)  # refuses what is no setting before anything is computed
    forces = config.objective.force_weight > 0
    with ranks.agreed():
        parts = read_parts(config.data, forces)
    clock.lap("read")
    descriptor, batches = describe(parts, config.descriptor, ranks, forces)
    clock.lap("features")
    baseline = ranks.by_first(lambda: CompositionBaseline.fit(batches["train"], descriptor.types))
    batches = {name: baseline.subtract(batch) for name, batch in batches.items()}
    sizes = descriptor.types, config.training.float32
    model = ranks.by_first(lambda: build_model(config.model, batches["train"], *sizes))
    trained = _minimise(config, model, batches, folder / "training", progress, ranks)
    result, objective, search = trained
    clock.lap("training")
    rigidity = Rigidity(model, batches["train"], objective, ranks=ranks)
    last = batches.get("test", batches["train"])
    lpr = rigidity.local(last)
    table = None
    if search is not None:
        found = search, model, batches["train"], objective
        table = ranks.by_first(lambda: search_table(*found))
    clock.lap("rigidity")
    metrics = {
        **_errors(model, batches),
        "mu": objective.mu,
        "mu_at_edge_of_grid": None if search is None else search.at_edge,
        "mu_rule": None if search is None else search.rule,
        "mu_unsettled": None if search is None else list(search.unsettled),
        "force_weight": objective.force_weight,
        "optimizer": result.optimizer,
        "structures": {name: batch.n_structures for name, batch in batches.items()},
        "parameters": sum(p.numel() for p in model.parameters()),
        "rigidity_algorithm": rigidity.reason,
        "lpr_quantiles": _quantiles(lpr),
        "lpr_of": "test" if "test" in batches else "train",
        "seconds": clock.laps,
    }
    run = Run(descriptor, baseline, rigidity, result.stationarity, metrics)
    with ranks.agreed():
        if ranks.first:
            fit_figures(folder, run, batches, result)
            if search is not None and table is not None:
                write_search_table(folder / "mu.csv", table)
                if have_plots():
                    write_search_figure(folder / "mu.png", table, search.best)
    summary = metrics | {
        "stationarity": result.stationarity.as_dict(),
        "verdict": result.stationarity.sentence(),
        "grid_search": table,
        "versions": run.versions,
    }
    with ranks.agreed():
        if ranks.first:
            write_json(folder / "summary.json", summary)
    run.save(folder / CHECKPOINT)  # last: its presence says that the run is complete
    return run


def build_model(
    config: ModelConfig, train: AtomBatch, types: tuple[int, ...], float32: bool = False
) -> nn.Module:
    """The model that a configuration names.

    Args:
        config: the model's settings.
        train: training structures: inducing environments of the kernel model are theirs.
        types: atomic numbers the model must know.
        float32: single precision of the weights.

    Returns:
        The untrained model.
    """
    dtype = torch.float32 if float32 else torch.float64
    n_features = train.features.shape[1]
    if config.kind == "linear":
        return LinearModel(n_features, types, dtype)
    if config.kind == "kernel":
        inducing = select_inducing(train, config.n_inducing, config.zeta)
        return SparseKernelModel(inducing, config.zeta, dtype)
    return BehlerParrinelloMLP(
        n_features, types, config.hidden, config.activation, config.bias, config.seed, dtype
    )


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write plain data as JSON, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")


def _minimise(
    config: FitConfig,
    model: nn.Module,
    batches: dict[str, AtomBatch],
    folder: Path,
    progress: bool,
    ranks: Ranks,
) -> tuple[FitResult, Objective, GridSearch | None]:
    mu = config.objective.mu
    start = 1.0 if mu == "auto" else float(mu)
    given = config.objective
    weights = given.energy_weight, given.per_atom, given.force_weight
    with ranks.agreed():
        if given.convention == "mean":
            energy, per_atom, force = weights
            objective = mean_loss_objective(batches["train"], start, force, energy, per_atom)
        else:
            objective = Objective(start, *weights)
    options = _fit_options(config.training) | {"progress": progress, "ranks": ranks}
    if mu != "auto":
        valid = batches.get("validation")
        result = fit(model, batches["train"], objective, validation=valid, out=folder, **options)
        return result, objective, None
    search = search_mu(
        model,
        batches["train"],
        batches.get("validation"),
        objective,
        config.objective.grid,
        rule=config.objective.rule,
        out=folder,
        **options,
    )
    return search.result, replace(objective, mu=search.best), search


def _fit_options(training: TrainingConfig) -> dict[str, Any]:
    values = asdict(training)
    values.pop("float32")
    optimizer, steps = values.pop("optimizer"), values.pop("steps")
    tolerance, epochs = values.pop("tolerance"), values.pop("lbfgs_epochs")
    lm = LMSettings(steps, tolerance, values.pop("newton_steps"))
    adam = AdamSettings(**values)
    # to auto, settings of Adam mean Adam: defaults are not meant
    given = optimizer != "auto" or adam != AdamSettings()
    return {
        "optimizer": optimizer,
        "lm_settings": lm,
        "lbfgs_settings": LBFGSSettings(epochs, tolerance=tolerance),
        "settings": adam if given else None,
    }


def _errors(model: nn.Module, batches: dict[str, AtomBatch]) -> dict[str, float]:
    """RMSE of the energy per atom, and in per cent of the targets' spread; RMSE of forces."""
    errors = {}
    for name, batch in batches.items():
        target = batch.labels() / batch.counts
        rmse = energy_rmse(model, batch)
        errors[f"rmse_{name}"] = rmse
        if len(target) > 1 and float(target.std()) > 0:
            errors[f"percent_rmse_{name}"] = 100 * rmse / float(target.std())
        forces = force_rmse(model, batch)
        if forces is not None:
            errors[f"force_rmse_{name}"] = forces
    return errors


def _quantiles(lpr: torch.Tensor) -> dict[str, float]:
    levels = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
    values = torch.quantile(lpr, torch.tensor(levels, dtype=lpr.dtype))
    return {f"{level:g}": float(value) for level, value in zip(levels, values, strict=True)}


class _Clock:
    """Wall time of each stage."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = round(now - self._last, 3)
        self._last = now
