"""Choosing mu by the error on a validation set."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from torchlpr.errors import InputError
from torchlpr.models import LinearInParameters
from torchlpr.objective import Objective
from torchlpr.ranks import ALONE, Ranks
from torchlpr.structures.batch import AtomBatch
from torchlpr.training.closed_form import ridge_path
from torchlpr.training.environment import trained_by_first
from torchlpr.training.errors import energy_errors
from torchlpr.training.fit import FitResult, fit
from torchlpr.training.second_order_state import LMSettings

__all__ = ["GridSearch", "default_grid", "search_mu"]

Rule = Literal["minimum", "one-standard-error"]

# a network's fit costs minutes where a linear head's costs nothing
NETWORK_GRID = (1e-3, 1e-4, 1e-5, 1e-6)


@dataclass(frozen=True)
class GridSearch:
    """Validation error over the regulariser.

    Attributes:
        mus: the values tried, descending.
        rmse_validation: validation error of the energy per atom at each, eV.
        rmse_train: training error at each, eV.
        best: the mu chosen by the rule; of equal ones the largest.
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
        train: training structures with labels.
        objective: gives the row weights.

    Returns:
        The grid.
    """
    if not isinstance(model, LinearInParameters):
        return NETWORK_GRID
    largest = float(ridge_path(model, train, objective).singular_values.max()) ** 2
    return tuple(largest * 10.0**-k for k in range(1, 15))


def search_mu(
    model: nn.Module,
    train: AtomBatch,
    validation: AtomBatch,
    objective: Objective,
    mus: Sequence[float] | None = None,
    *,
    rule: Rule = "minimum",
    out: str | Path | None = None,
    progress: bool = True,
    lm_settings: LMSettings | None = None,
    ranks: Ranks = ALONE,
    **fit_options: object,
) -> GridSearch:
    """Fit at every mu and leave the model at the best one, in place.

    Where the validation error is flat it does not determine mu, but rigidity depends on it; the
    one-standard-error rule takes the largest mu whose mean square error is within one standard
    error of the smallest (Breiman et al., Classification and Regression Trees, 1984, 3.4.3).
    The values are compared after Levenberg-Marquardt; only the best is followed to its minimum.
    Where the objective weighs forces, the errors compared are those of its loss.

    Args:
        model: maps (features, types) to atomic energies; every fit starts from its weights.
        train: training structures with energies.
        validation: structures with energies, not among the training structures.
        objective: the loss; its mu plays no part.
        mus: values to try, :func:`default_grid` if None.
        rule: "minimum" of the validation error, or "one-standard-error".
        out: folder in which each network's fit keeps its checkpoints.
        progress: whether to show bars.
        lm_settings: when Levenberg-Marquardt and Newton stop.
        ranks: processes that each make this call with the same arguments, see
            :func:`torchlpr.fit`.
        **fit_options: further options of :func:`torchlpr.fit`, for networks.

    Returns:
        The errors over mu.

    Raises:
        InputError: if there is no value to try, no validation structure, or no such rule.
    """
    if not len(validation.labels()):
        raise InputError("the validation set is empty; give validation structures or a fixed mu")
    chosen = default_grid(model, train, objective) if mus is None else map(float, mus)
    grid = tuple(sorted(chosen, reverse=True))
    if rule not in get_args(Rule):
        raise InputError(f"rule {rule!r} is unknown; use one of {', '.join(get_args(Rule))}")
    if not grid:
        raise InputError("the grid of mu is empty; give at least one value")
    objectives = [replace(objective, mu=mu) for mu in grid]  # refuses what is no mu
    if isinstance(model, LinearInParameters):
        data = train, validation, objective, grid, rule
        return trained_by_first(model, lambda: _search_path(model, *data), ranks)
    trials, fits = [], []
    thorough = lm_settings or LMSettings()
    options: dict[str, Any] = {"validation": validation, "progress": progress, "ranks": ranks}
    options |= fit_options
    options["lm_settings"] = replace(thorough, newton_steps=0)
    for mu, tried in zip(grid, objectives, strict=True):
        trials.append(copy.deepcopy(model))
        folder = None if out is None else Path(out) / f"mu-{mu!r}"
        fits.append(fit(trials[-1], train, tried, out=folder, **options))
    errors = [energy_errors(trial, validation) for trial in trials]
    best = _best([_compared(trial, validation, objective) for trial in trials], rule)
    model.load_state_dict(trials[best].state_dict())
    result = fits[best]
    if result.optimizer.endswith("lm") and thorough.newton_steps:
        folder = None if out is None else Path(out) / "minimum"
        last = fit(
            model,
            train,
            objectives[best],
            "lm",
            lm_settings=thorough,
            out=folder,
            progress=progress,
            ranks=ranks,
        )
        result = replace(
            last,
            optimizer=result.optimizer,
            seconds=result.seconds + last.seconds,
            epochs=result.epochs,
            steps=result.steps + last.steps,
        )
    train_errors = tuple(each.rmse for each in fits)
    return GridSearch(grid, _rmse(errors), train_errors, grid[best], result)


def _search_path(
    model: LinearInParameters,
    train: AtomBatch,
    validation: AtomBatch,
    objective: Objective,
    grid: tuple[float, ...],
    rule: Rule,
) -> GridSearch:
    """All minima of a linear head from one decomposition."""
    path = ridge_path(model, train, objective)
    trial = copy.deepcopy(model)
    train_errors, errors, compared = [], [], []
    for mu in grid:
        with torch.no_grad():
            trial.weight.copy_(path.weights(mu))
        train_errors.append(energy_errors(trial, train))
        errors.append(energy_errors(trial, validation))
        compared.append(_compared(trial, validation, objective))
    best = grid[_best(compared, rule)]
    result = fit(model, train, replace(objective, mu=best))
    return GridSearch(grid, _rmse(errors), _rmse(train_errors), best, result)


def _compared(model: nn.Module, batch: AtomBatch, objective: Objective) -> Tensor:
    """Error of each structure by which mu is chosen: of its energy, or with forces of its loss."""
    if not objective.force_weight:
        return energy_errors(model, batch)
    twin, n = copy.deepcopy(model).to(torch.float64).eval(), batch.n_structures
    with torch.no_grad():
        squares = objective.batch_residuals(twin, batch.to(dtype=torch.float64)).square()
    owner = batch.structure[objective.force_atoms(batch)]
    return squares[:n].index_add(0, owner, squares[n:].view(-1, 3).sum(1)).sqrt()


def _rmse(errors: Sequence[Tensor]) -> tuple[float, ...]:
    return tuple(float(e.square().mean().sqrt()) for e in errors)


def _best(errors: Sequence[Tensor], rule: Rule) -> int:
    """Position of the chosen mu in a descending grid."""
    squares = [e.square() for e in errors]
    means = [float(s.mean()) for s in squares]
    lowest = min(range(len(means)), key=lambda k: (means[k], k))
    if rule == "minimum":
        return lowest
    limit = means[lowest] + float(squares[lowest].std(correction=0)) / len(squares[lowest]) ** 0.5
    return next(k for k, mean in enumerate(means) if mean <= limit)
