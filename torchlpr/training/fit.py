"""One call that brings any model to the minimum of its objective."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import lightning as L
import torch
from torch import nn

from torchlpr.curvature.gradients import check_parameters
from torchlpr.errors import InputError
from torchlpr.models import LinearInParameters
from torchlpr.objective import Objective
from torchlpr.ranks import ALONE, Ranks
from torchlpr.structures.batch import AtomBatch
from torchlpr.training.adam_settings import AdamSettings
from torchlpr.training.closed_form import fit_linear
from torchlpr.training.environment import trained_by_first
from torchlpr.training.errors import energy_rmse, force_rmse
from torchlpr.training.lbfgs import LBFGSSettings, train_lbfgs
from torchlpr.training.network import train_network
from torchlpr.training.second_order import train_second_order
from torchlpr.training.second_order_state import LMSettings
from torchlpr.training.stationarity import Stationarity, stationarity

__all__ = ["FitResult", "fit"]

Optimizer = Literal["auto", "adam", "lm", "adam+lm", "lbfgs", "closed-form"]


@dataclass(frozen=True)
class FitResult:
    """What a fit reached.

    Attributes:
        optimizer: what was used.
        loss: value of the objective at the end, eV^2.
        rmse: training error of the energy per atom, eV.
        stationarity: how close the weights are to a minimum.
        seconds: wall time.
        epochs: one row an epoch of Adam or L-BFGS: epoch, loss (eV^2), training RMSE, validation
            RMSE (eV), learning rate (of L-BFGS the length of the step), and where forces weigh
            their training and validation RMSE (eV/Å).
        steps: one row a second-order step: step, phase (0 Levenberg-Marquardt, 1 Newton), loss
            (eV^2), |grad|, damping, radius (eV), Hessian-vector products so far.
        force_rmse: training error of a component of a force, eV/Å; None where forces do not weigh.
    """

    optimizer: str
    loss: float
    rmse: float
    stationarity: Stationarity
    seconds: float
    epochs: list[tuple[float, ...]]
    steps: list[tuple[float, ...]]
    force_rmse: float | None = None

    def __str__(self) -> str:
        """The result in two lines."""
        forces = "" if self.force_rmse is None else f"and {self.force_rmse:.2e} eV/Å, "
        return (
            f"{self.optimizer}: loss {self.loss:.4e} eV^2, training RMSE {self.rmse:.2e} eV/atom, "
            f"{forces}{self.seconds:.1f} s\n{self.stationarity.sentence()}"
        )


def fit(
    model: nn.Module,
    batch: AtomBatch,
    objective: Objective,
    optimizer: Optimizer = "auto",
    *,
    settings: AdamSettings | None = None,
    lm_settings: LMSettings | None = None,
    lbfgs_settings: LBFGSSettings | None = None,
    validation: AtomBatch | None = None,
    out: str | Path | None = None,
    progress: bool = True,
    callbacks: Sequence[L.Callback] = (),
    ranks: Ranks = ALONE,
    **adam: float | int | None,
) -> FitResult:
    """Bring a model to the minimum of its regularised loss, in place.

    Args:
        model: maps (features, types) to atomic energies.
        batch: training structures with energies; subtract a baseline first where energies are
            far from zero (:class:`torchlpr.CompositionBaseline`). With forces and derivatives
            (``descriptor(structures, derivatives=True)``) where the objective weighs forces.
        objective: the loss.
        optimizer: "closed-form" for linear and kernel heads (exact); for networks "adam",
            "lm" (Levenberg-Marquardt, then trust-region Newton), "adam+lm" (Adam, then LM from
            where it ended) or "lbfgs" (L-BFGS on the full batch);
            "auto" is the closed form where there is one, "adam" where a setting of Adam is
            given, else "lm".
        settings: Adam's settings.
        lm_settings: when Levenberg-Marquardt and Newton stop.
        lbfgs_settings: when L-BFGS stops.
        validation: structures whose error Adam and L-BFGS log, and where Adam may stop early.
        out: folder for logs and the checkpoints that a killed training resumes from.
        progress: whether to show bars.
        callbacks: further Lightning callbacks for Adam, to which an epoch of mini-batches is one
            batch where there is one process.
        ranks: processes that each make this call with the same arguments. Adam's steps are shared
            by all; closed forms, Levenberg-Marquardt, L-BFGS and the stationarity are the work of
            the first, for which the others wait. All end with the same weights and result.
        **adam: single settings of Adam in place of ``settings``: epochs, lr, factor, patience,
            cooldown, batch_size, seed, iterations, final_lr, early_stopping.

    Returns:
        What was reached, and how close to a minimum that is.
    """
    start = time.perf_counter()
    with ranks.agreed():
        used = _choose(model, batch, optimizer, settings is not None or bool(adam))
        chosen = _override(settings or AdamSettings(), adam)
        objective.targets(batch)  # refuses what lacks labels or derivatives
    if not objective.force_weight:
        batch = replace(batch, forces=None, derivatives=None)
    batch = batch.to(dtype=next(model.parameters()).dtype)
    epochs, steps = list[tuple[float, ...]](), list[tuple[float, ...]]()
    if used.startswith("adam"):
        valid = validation and validation.to(dtype=batch.features.dtype)
        epochs = train_network(
            model, batch, objective, chosen, valid, out, progress, callbacks, ranks
        )

    def finish() -> FitResult:
        if used == "closed-form" and isinstance(model, LinearInParameters):
            fit_linear(model, batch, objective)
        if used == "lbfgs":
            data = batch, objective, lbfgs_settings, validation
            epochs.extend(train_lbfgs(model, *data, out, progress))
        ends = None
        if used.endswith("lm"):
            state = train_second_order(model, batch, objective, lm_settings, out, progress)
            steps.extend(state.history)
            # weights of single precision are rounded ones
            ends = state.ends if batch.features.dtype == torch.float64 else None
        reached = stationarity(model, batch, objective, ends=ends)
        seconds = time.perf_counter() - start
        rmse, forces = energy_rmse(model, batch), force_rmse(model, batch)
        return FitResult(used, reached.loss, rmse, reached, seconds, epochs, steps, forces)

    return trained_by_first(model, finish, ranks)


def _choose(model: nn.Module, batch: AtomBatch, optimizer: str, adam_is_meant: bool) -> str:
    """The optimiser that "auto" stands for, after a look at the input."""
    if not len(batch.labels()):
        raise InputError("the training set is empty; give at least one structure")
    if optimizer not in get_args(Optimizer):
        raise InputError(
            f"optimizer {optimizer!r} is unknown; use one of {', '.join(get_args(Optimizer))}"
        )
    linear = isinstance(model, LinearInParameters)
    if optimizer == "closed-form" and not linear:
        raise InputError(
            f"{type(model).__name__} is not linear in its parameters; use optimizer='lm'"
        )
    check_parameters(model, batch.features)
    if linear and optimizer in {"auto", "closed-form"}:
        return "closed-form"
    _check_trainable(model, batch.select([0]))
    if optimizer != "auto":
        return optimizer
    return "adam" if adam_is_meant else "lm"


def _check_trainable(model: nn.Module, one: AtomBatch) -> None:
    """Refuse a module that is no potential, by what it gives for one structure."""
    name = type(model).__name__
    for key, p in model.named_parameters():
        if not p.requires_grad:
            raise InputError(
                f"parameter {key!r} is frozen (requires_grad is False), but the loss counts all "
                "weights; call requires_grad_(True) on the model"
            )
    twin = copy.deepcopy(model).eval()
    with torch.enable_grad():
        local = twin(one.features.to(next(twin.parameters()).dtype), one.types)
    if tuple(local.shape) != (len(one),):
        raise InputError(
            f"a model must give one energy for each atom, here shape ({len(one)},), but {name} "
            f"gives {tuple(local.shape)}"
        )
    if not local.requires_grad:
        raise InputError(
            f"the energies of {name} do not depend on its parameters, so nothing can be trained; "
            "look at its forward method"
        )


def _override(settings: AdamSettings, changes: dict[str, float | int | None]) -> AdamSettings:
    unknown = set(changes) - set(AdamSettings.__dataclass_fields__)
    if unknown:
        known = ", ".join(AdamSettings.__dataclass_fields__)
        raise InputError(f"{', '.join(sorted(unknown))} is no setting of Adam; there are {known}")
    return replace(settings, **changes)  # type: ignore[arg-type]
