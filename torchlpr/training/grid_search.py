"""Choosing mu by the error on a validation set."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from torchlpr.curvature import structure_gradients
from torchlpr.errors import InputError
from torchlpr.models import LinearInParameters
from torchlpr.objective import Objective
from torchlpr.structures.batch import AtomBatch
from torchlpr.training.closed_form import ridge_path
from torchlpr.training.fit import FitResult, energy_rmse, fit

__all__ = ["GridSearch", "default_grid", "search_mu"]

# a network's fit costs minutes where a linear head's costs nothing
NETWORK_GRID = (1e-3, 1e-4, 1e-5, 1e-6)


@dataclass(frozen=True)
class GridSearch:
    """Validation error over the regulariser.

    Attributes:
        mus: the values tried, descending.
        rmse_validation: validation error of the energy per atom at each, eV.
        rmse_train: training error at each, eV.
        best: the mu of the smallest validation error; of equal ones the largest.
        result: the fit at the best mu.
    """

    mus: tuple[float, ...]
    rmse_validation: tuple[float, ...]
    rmse_train: tuple[float, ...]
    best: float
    result: FitResult

    @property
    def at_edge(self) -> bool:
        """Whether the best value is the first or last tried, so that the grid was too narrow."""
        return len(self.mus) > 1 and self.best in {self.mus[0], self.mus[-1]}


def default_grid(model: nn.Module, train: AtomBatch, objective: Objective) -> tuple[float, ...]:
    """Values of mu worth trying: a decade apart, descending.

    For heads linear in their parameters they are 1e-1 to 1e-14 of the largest eigenvalue of
    R^T R, so that they follow the scale of the features; for networks 1e-3 to 1e-6.

    Args:
        model: the model to be fitted.
        train: training structures.
        objective: gives the row weights.

    Returns:
        The grid.
    """
    if not isinstance(model, LinearInParameters):
        return NETWORK_GRID
    rows = structure_gradients(model, train, objective.row_scale(train.counts))
    largest = float(torch.linalg.matrix_norm(rows, 2)) ** 2
    return tuple(largest * 10.0**-k for k in range(1, 15))


def search_mu(
    model: nn.Module,
    train: AtomBatch,
    validation: AtomBatch,
    objective: Objective,
    mus: Sequence[float] | None = None,
    *,
    out: str | Path | None = None,
    progress: bool = True,
    **fit_options: object,
) -> GridSearch:
    """Fit at every mu and leave the model at the best one, in place.

    Args:
        model: maps (features, types) to atomic energies; every fit starts from its weights.
        train: training structures with energies.
        validation: structures with energies, not among the training structures.
        objective: the loss; its mu plays no part.
        mus: values to try, :func:`default_grid` if None.
        out: folder in which each network's fit keeps its checkpoints.
        progress: whether to show bars.
        **fit_options: further options of :func:`torchlpr.fit`, for networks.

    Returns:
        The errors over mu.

    Raises:
        InputError: if there is no value to try or no validation structure.
    """
    if not len(validation.labels()):
        raise InputError("the validation set is empty; give validation structures or a fixed mu")
    grid = tuple(sorted(mus or default_grid(model, train, objective), reverse=True))
    if not grid:
        raise InputError("the grid of mu is empty; give at least one value")
    if isinstance(model, LinearInParameters):
        return _search_path(model, train, validation, objective, grid)
    trials, fits = [], []
    for mu in grid:
        trials.append(copy.deepcopy(model))
        fits.append(
            fit(
                trials[-1],
                train,
                replace(objective, mu=mu),
                validation=validation,
                out=None if out is None else Path(out) / f"mu-{mu:.1e}",
                progress=progress,
                **fit_options,  # type: ignore[arg-type]
            )
        )
    errors = [energy_rmse(trial, validation) for trial in trials]
    best = _best(errors)
    model.load_state_dict(trials[best].state_dict())
    train_errors = tuple(result.rmse for result in fits)
    return GridSearch(grid, tuple(errors), train_errors, grid[best], fits[best])


def _search_path(
    model: LinearInParameters,
    train: AtomBatch,
    validation: AtomBatch,
    objective: Objective,
    grid: tuple[float, ...],
) -> GridSearch:
    """All minima of a linear head from one decomposition."""
    path = ridge_path(model, train, objective)
    trial = copy.deepcopy(model)
    train_errors, errors = [], []
    for mu in grid:
        with torch.no_grad():
            trial.weight.copy_(path.weights(mu))
        train_errors.append(energy_rmse(trial, train))
        errors.append(energy_rmse(trial, validation))
    best = grid[_best(errors)]
    result = fit(model, train, replace(objective, mu=best))
    return GridSearch(grid, tuple(errors), tuple(train_errors), best, result)


def _best(errors: list[float]) -> int:
    return min(range(len(errors)), key=lambda k: (errors[k], k))
