"""A search of mu as a table and as a figure: errors, evidence, and what becomes of rigidity."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from torchlpr.analysis.figures import figure, save_figure
from torchlpr.analysis.plots_regulariser import plot_regulariser
from torchlpr.curvature import accumulate_batch, atomic_gradients, parameter_count
from torchlpr.curvature.gradients import chunk_size
from torchlpr.files import atomic_path
from torchlpr.objective import Objective
from torchlpr.structures.batch import AtomBatch
from torchlpr.training.grid_search import GridSearch

__all__ = ["lpr_quantiles", "search_table", "write_search_figure", "write_search_table"]

QUANTILES = (0.05, 0.5, 0.95)
LPR = ("lpr_5", "lpr_50", "lpr_95")
ATOMS = 1000  # their 5 % quantile is one between 3.6 and 6.4 % of all, at two standard errors
ERRORS = {
    "rmse_train": "training",
    "rmse_leave_one_out": "leave-one-out",
    "rmse_validation": "validation",
}


def search_table(
    search: GridSearch, model: nn.Module, train: AtomBatch, objective: Objective
) -> list[dict[str, float]]:
    """One row for each mu of a search.

    Args:
        search: of mu.
        model: the model that was searched for.
        train: its training structures.
        objective: the loss.

    Returns:
        mu (eV^2), rmse_train, rmse_leave_one_out and, where there is a validation set,
        rmse_validation (eV per atom), log_evidence (nats), noise (eV, a row's), effective_dof,
        and lpr_5, lpr_50 and lpr_95 (eV^-2), descending in mu.
    """
    columns: dict[str, Sequence[float]] = {
        "mu": search.mus,
        "rmse_train": search.rmse_train,
        "rmse_leave_one_out": search.criteria.rmse_leave_one_out.tolist(),
    }
    if search.rmse_validation is not None:
        columns["rmse_validation"] = search.rmse_validation
    for name in ("log_evidence", "noise", "effective_dof"):
        columns[name] = getattr(search.criteria, name).tolist()
    quantiles = lpr_quantiles(search, model, train, objective)
    columns |= zip(LPR, quantiles.mT.tolist(), strict=True)
    rows = zip(*columns.values(), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def lpr_quantiles(
    search: GridSearch, model: nn.Module, train: AtomBatch, objective: Objective
) -> Tensor:
    """LPR of the training atoms at every mu of a search, at the weights of that mu.

    Args:
        search: of mu.
        model: the model that was searched for.
        train: its training structures; of more than 1000 atoms, 1000 evenly spaced ones count.
        objective: the loss.

    Returns:
        Quantiles of 5, 50 and 95 %, shape (mus, 3), eV^-2.
    """
    count = min(ATOMS, len(train))
    atoms = torch.linspace(0, len(train) - 1, count, dtype=torch.float64).round().long()
    features, types = train.features[atoms], train.types[atoms]
    if not objective.force_weight:
        train = replace(train, forces=None, derivatives=None)
    wide = objective.n_rows(train) <= parameter_count(model)
    chunks = range(0, count, chunk_size(parameter_count(model)))
    rows, found = None, []
    for k, mu in enumerate(search.mus):
        one = search.models[k] if search.models else model
        if rows is None or search.models:  # those of a linear head serve all mu
            rows = accumulate_batch(one, train, objective, "row" if wide else "parameter")
        factor, values = rows.factor(mu), []
        for start in chunks:
            part = slice(start, start + chunks.step)
            gradients = atomic_gradients(one, features[part], types[part])
            values.append(factor.quadratic_form(gradients.to(torch.float64)).value)
        lpr = 1 / torch.cat(values)
        found.append(torch.quantile(lpr, lpr.new_tensor(QUANTILES)))
    return torch.stack(found).cpu()


def write_search_table(path: Path, table: Sequence[Mapping[str, float]]) -> None:
    """Write the rows as CSV, whole or not at all."""
    with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)


def write_search_figure(path: Path, table: Sequence[Mapping[str, float]], chosen: float) -> None:
    """Draw the rows over mu.

    Args:
        path: of the figure.
        table: as :func:`search_table` gives it.
        chosen: the mu in use.
    """
    columns = {name: [row[name] for row in table] for name in table[0]}
    fig, axes = figure(2, 2)
    plot_regulariser(
        axes.ravel().tolist(),
        columns["mu"],
        {word: columns[name] for name, word in ERRORS.items() if name in columns},
        columns["log_evidence"],
        columns["effective_dof"],
        torch.tensor([columns[name] for name in LPR], dtype=torch.float64).mT,
        chosen=chosen,
    )
    save_figure(fig, path)
