"""Choosing mu by the error on a validation set, or by what the training set says alone."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

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
from torchlpr.training.evidence import MuCriteria, mu_criteria
from torchlpr.training.fit import FitResult, fit
from torchlpr.training.mu_rules import Rule, best_place, check_rule
from torchlpr.training.second_order_state import LMSettings

__all__ = ["GridSearch", "default_grid", "search_mu"]

NATS = 1.0  # ratios of evidence below e say nothing
# a network's fit costs minutes where a linear head's costs nothing
NETWORK_GRID = (1e-3, 1e-4, 1e-5, 1e-6)


@dataclass(frozen=True)
class GridSearch:
    """Errors and evidence over the regulariser.

    Attributes:
        mus: the values tried, descending.
        rmse_validation: validation error of the energy per atom at each, eV; None where there is
            no validation set.
        rmse_train: training error at each, eV.
        criteria: evidence, leave-one-out errors and effective degrees of freedom at each.
        best: the mu chosen by the rule; of equal ones the largest.
        rule: by which it was chosen.
        result: the fit at the best mu.
        models: of a network the one trained at each mu; empty for heads linear in their
            parameters, whose rigidity does not depend on weights.
        unsettled: those mu at which training stopped where a Gauss-Newton step would still change
            the evidence by more than one nat: what criteria say of them is not about a minimum.
    """

    mus: tuple[float, ...]
    rmse_validation: tuple[float, ...] | None
    rmse_train: tuple[float, ...]
    criteria: MuCriteria
    best: float
    rule: Rule
    result: FitResult
    models: tuple[nn.Module, ...] = ()
    unsettled: tuple[float, ...] = ()

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
    validation: AtomBatch | None,
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

    Two rules need no validation set (:func:`torchlpr.training.evidence.mu_criteria`): the smallest
    error of structures left out, and the largest evidence. Both are exact for heads linear in
    their parameters; a network is linearised at the weights of each mu.

    Args:
        model: maps (features, types) to atomic energies; every fit starts from its weights.
        train: training structures with energies.
        validation: structures with energies, not among the training structures; None with rules
            that need none.
        objective: the loss; its mu plays no part.
        mus: values to try, :func:`default_grid` if None.
        rule: "minimum" of the validation error, or "one-standard-error"; "leave-one-out" or
            "evidence" of the training set.
        out: folder in which each network's fit keeps its checkpoints.
        progress: whether to show bars.
        lm_settings: when Levenberg-Marquardt and Newton stop.
        ranks: processes that each make this call with the same arguments, see
            :func:`torchlpr.fit`.
        **fit_options: further options of :func:`torchlpr.fit`, for networks.

    Returns:
        The errors over mu.

    Raises:
        InputError: if there is no value to try, no such rule, or not the structures it needs.
    """
    check_rule(rule, train, validation)
    chosen = default_grid(model, train, objective) if mus is None else map(float, mus)
    grid = tuple(sorted(chosen, reverse=True))
    if not grid:
        raise InputError("the grid of mu is empty; give at least one value")
    objectives = [replace(objective, mu=mu) for mu in grid]  # refuses what is no mu
    if isinstance(model, LinearInParameters):
        data = train, validation, objective, grid, rule
        return trained_by_first(model, lambda: _search_path(model, *data), ranks)
    trials, fits, criteria = [], [], []
    thorough = lm_settings or LMSettings()
    options: dict[str, Any] = {"validation": validation, "progress": progress, "ranks": ranks}
    options |= fit_options
    options["lm_settings"] = replace(thorough, newton_steps=0)
    for mu, tried in zip(grid, objectives, strict=True):
        trial = copy.deepcopy(model)
        folder = None if out is None else Path(out) / f"mu-{mu!r}"
        fits.append(fit(trial, train, tried, out=folder, **options))
        criteria.append(ranks.by_first(partial(mu_criteria, trial, train, tried)))
        trials.append(trial)
    errors, compared = [], []
    if validation is not None:
        errors = [energy_errors(trial, validation) for trial in trials]
        compared = [_compared(trial, validation, objective) for trial in trials]
    together = MuCriteria.cat(criteria)
    best = best_place(compared, together, rule)
    model.load_state_dict(trials[best].state_dict())
    reached = [each.stationarity for each in fits]
    # M/2 times the relative change of the loss by one step
    gains = [objective.n_rows(train) * s.newton_decrement / (4 * s.loss or 1) for s in reached]
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
    rmse = None if validation is None else _rmse(errors)
    still = tuple(mu for mu, gain in zip(grid, gains, strict=True) if gain > NATS)
    found = grid[best], rule, result, tuple(trials), still
    return GridSearch(grid, rmse, train_errors, together, *found)


def _search_path(
    model: LinearInParameters,
    train: AtomBatch,
    validation: AtomBatch | None,
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
        if validation is not None:
            errors.append(energy_errors(trial, validation))
            compared.append(_compared(trial, validation, objective))
    criteria = mu_criteria(model, train, objective, grid, path)
    best = grid[best_place(compared, criteria, rule)]
    result = fit(model, train, replace(objective, mu=best))
    rmse = None if validation is None else _rmse(errors)
    return GridSearch(grid, rmse, _rmse(train_errors), criteria, best, rule, result)


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
