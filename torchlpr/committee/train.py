"""Training all members of a committee: draw what each minimises, then minimise together."""

from __future__ import annotations

import math
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from torchlpr.committee.adam import adam_members
from torchlpr.committee.closed_form import solve_members
from torchlpr.committee.levenberg_marquardt import descend_members
from torchlpr.committee.stacked import StackedLoss
from torchlpr.committee.tasks import Method, check_method, draw_tasks, generator
from torchlpr.curvature import energy_rows
from torchlpr.errors import InputError
from torchlpr.models import BehlerParrinelloMLP, LinearInParameters
from torchlpr.objective import Objective
from torchlpr.structures.batch import AtomBatch
from torchlpr.training import AdamSettings, LMSettings
from torchlpr.training.closed_form import RidgePath
from torchlpr.training.fit import Optimizer

__all__ = ["train_members"]


def train_members(
    model: nn.Module,
    batch: AtomBatch,
    objective: Objective,
    members: int,
    method: Method,
    fraction: float,
    sigma: float | None,
    seed: int,
    optimizer: str,
    start: str,
    settings: AdamSettings | None,
    lm_settings: LMSettings | None,
    progress: bool,
) -> tuple[Tensor, dict[str, Any]]:
    """Weights of all members; the arguments are those of :meth:`torchlpr.Committee.train`.

    Args:
        model: linear or kernel head, or a network.
        batch: training structures with energies.
        objective: the loss of one member.
        members: how many.
        method: "sample-then-optimise" or "subsample".
        fraction: share of the structures that each subsampled member sees.
        sigma: noise of the rows, or None.
        seed: of everything random.
        optimizer: what to train with.
        start: "fresh" or "model".
        settings: of Adam.
        lm_settings: of Levenberg-Marquardt; members take no Newton steps.
        progress: whether to show a bar.

    Returns:
        Weights, shape (members, parameters), float64, and the facts to keep with them.

    Raises:
        InputError: if the objective weighs forces.
    """
    if objective.force_weight:
        raise InputError(
            f"committees are trained on energies alone, but force_weight is "
            f"{objective.force_weight}; set it to 0"
        )
    size = check_method(method, members, fraction, len(batch.labels()))
    used = _choose(model, optimizer, settings is not None)
    weights = _initial(model, batch, members, seed, start, used)
    noise = _noise(model, batch, objective, sigma) if method == "sample-then-optimise" else 0.0
    facts: dict[str, Any] = {"method": method, "optimizer": used, "seed": seed, "mu": objective.mu}
    facts |= {"fraction": fraction} if method == "subsample" else {"sigma": noise}
    double = batch.to(dtype=torch.float64)
    tasks = draw_tasks(method, double, objective, weights.shape[1], members, size, noise, seed)
    if isinstance(model, LinearInParameters) and used == "closed-form":
        return solve_members(model, double, objective, tasks), facts
    stack = StackedLoss(model, double, objective, tasks)
    if used.startswith("adam"):
        weights = adam_members(stack, weights, settings or AdamSettings(), progress)
    if used.endswith("lm"):
        weights = descend_members(stack, weights, lm_settings or LMSettings(), progress)
    strength = stack.value_and_gradient(weights)[1].norm(dim=1) / (
        objective.mu * weights.norm(dim=1)
    )
    return weights, facts | {"start": start, "relative_gradient": float(strength.max())}


def _choose(model: nn.Module, optimizer: str, adam_is_meant: bool) -> str:
    """The optimiser that "auto" stands for."""
    known = [name for name in get_args(Optimizer) if name != "lbfgs"]
    if optimizer not in known:
        raise InputError(
            f"optimizer {optimizer!r} trains no committee; use one of {', '.join(known)}"
        )
    linear = isinstance(model, LinearInParameters)
    if linear and optimizer in {"auto", "closed-form"}:
        return "closed-form"
    if optimizer == "closed-form":
        raise InputError(
            f"{type(model).__name__} is not linear in its parameters; use optimizer='lm'"
        )
    if optimizer == "auto":
        return "adam" if adam_is_meant else "lm"
    return optimizer


def _initial(
    model: nn.Module, batch: AtomBatch, members: int, seed: int, start: str, used: str
) -> Tensor:
    """Where each member starts, shape (members, parameters), float64."""
    if start not in {"fresh", "model"}:
        raise InputError(f"start {start!r} is unknown; use 'fresh' or 'model'")
    seeds = [int(generator(seed, b, purpose=1).integers(2**31)) for b in range(members)]
    if start == "model" or isinstance(model, LinearInParameters):
        given = parameters_to_vector(model.parameters()).detach()
        return given.to(torch.float64).expand(members, -1).clone()
    if not isinstance(model, BehlerParrinelloMLP):
        raise InputError(
            f"torchlpr does not know how a {type(model).__name__} draws its initial weights; "
            "use start='model'"
        )
    fresh = [BehlerParrinelloMLP(**model.settings(), seed=s) for s in seeds]  # type: ignore[arg-type]
    flat = torch.stack([parameters_to_vector(m.parameters()).detach() for m in fresh])
    return flat.to(batch.features.device)


def _noise(model: nn.Module, batch: AtomBatch, objective: Objective, sigma: float | None) -> float:
    """The given sigma, or the one of largest marginal likelihood at this mu."""
    if sigma is not None:
        if not (math.isfinite(sigma) and sigma > 0):
            raise InputError(f"sigma must be a positive number of eV, not {sigma}")
        return float(sigma)
    if not isinstance(model, LinearInParameters):
        raise InputError(
            "sample-then-optimise of a network needs sigma, the noise of the energies per atom in "
            "eV; give the error of its fit"
        )
    # t ~ N(0, sigma^2 (I + R R^T/mu)), and t^T (I + R R^T/mu)^-1 t is 2 L_min
    rows = energy_rows(model, batch, objective)
    targets = batch.labels().to(torch.float64) * objective.row_scale(batch.counts)
    w = RidgePath(rows, targets).weights(objective.mu)
    least = objective.data_loss(targets - rows @ w) + objective.penalty([w])
    if not float(least) > 0:
        raise InputError("all energies are zero, so they have no noise; give sigma")
    return math.sqrt(2 * float(least) / len(rows))
