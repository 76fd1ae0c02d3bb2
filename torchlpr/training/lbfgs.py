"""Full-batch L-BFGS with a strong-Wolfe line search, in float64, logged epoch by epoch, resumable.

Source: Nocedal and Wright, Numerical Optimization, 2nd edition (Springer, 2006), chapters 3 and 7;
the steps are those of torch.optim.LBFGS.
"""

from __future__ import annotations

import copy
import math
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from torchlpr.errors import InputError
from torchlpr.files import make_folder
from torchlpr.objective import Objective
from torchlpr.structures.batch import AtomBatch
from torchlpr.structures.epochs import Batch
from torchlpr.structures.packed import PackedStructures
from torchlpr.training.callbacks import TrainingLog
from torchlpr.training.losses import batch_loss, batch_residuals, packs
from torchlpr.training.resume import SavePoint, fingerprint

__all__ = ["LBFGSSettings", "train_lbfgs"]

EVALUATIONS = 25  # of a line search at most; left out, torch would allow none
# torch learns nothing from a step along which the gradient changes by less than 1e-10; the loss is
# multiplied so that this is far below its rounding
LARGE = 1e10


@dataclass(frozen=True)
class LBFGSSettings:
    """When L-BFGS stops, and how far it looks back; the defaults are those of Yoo et al. (2019).

    Attributes:
        epochs: steps at most, each with a line search over the full batch.
        history: pairs of steps and changes of the gradient that make the Hessian.
        tolerance: gradient norm relative to mu |w| that counts as a minimum.
    """

    epochs: int = 800
    history: int = 100
    tolerance: float = 1e-8

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.history < 1 or not self.tolerance > 0:
            raise InputError(
                "epochs, history and tolerance of L-BFGS must be positive, not "
                f"{self.epochs}, {self.history} and {self.tolerance}"
            )


def train_lbfgs(
    model: nn.Module,
    batch: AtomBatch,
    objective: Objective,
    settings: LBFGSSettings | None = None,
    validation: AtomBatch | None = None,
    out: str | Path | None = None,
    progress: bool = True,
) -> list[tuple[float, ...]]:
    """Minimise in float64 and give the weights back to the model.

    Args:
        model: maps (features, types) to atomic energies; changed in place, and asked in
            evaluation mode.
        batch: training structures with labels.
        objective: the loss.
        settings: when to stop.
        validation: structures whose error is logged.
        out: folder for the log ``metrics.csv`` and the save point; None keeps all in memory.
        progress: whether to show a bar.

    Returns:
        One row an epoch: epoch, loss (eV^2), training RMSE, validation RMSE (eV), length of the
        step in units of the quasi-Newton step, and with forces their training and validation RMSE
        (eV/Å). Losses and errors are those before the step.

    Raises:
        FloatingPointError: if the loss is not finite.
    """
    settings = settings or LBFGSSettings()
    twin = copy.deepcopy(model).to(torch.float64).requires_grad_(True).eval()
    save, stored, table = None, None, None
    if out is not None:
        folder = make_folder(out)
        save = SavePoint(folder / "training.lbfgs", fingerprint(model, batch, objective, settings))
        stored, table = save.load(), folder / "metrics.csv"
    run = _Run(twin, batch, objective, settings, validation)
    if stored is not None:
        run.load(stored)
    log = TrainingLog(settings.epochs, table, progress, objective.force_weight > 0)
    with closing(log):
        log.rows = run.rows
        while not run.done and len(run.rows) < settings.epochs:
            run.step()
            log.show()
            if save is not None:
                save.save(run.state())
        if save is not None:
            save.save(run.state(), now=True)
        log.write()
    model.load_state_dict(twin.state_dict())
    return run.rows


class _Run:
    """The optimiser on its data, with all that it must remember."""

    def __init__(
        self,
        model: nn.Module,
        batch: AtomBatch,
        objective: Objective,
        settings: LBFGSSettings,
        validation: AtomBatch | None,
    ) -> None:
        self.model, self.objective, self.settings = model, objective, settings
        double = batch.to(dtype=torch.float64)
        valid = validation and validation.to(dtype=torch.float64)
        packed = packs(model, double, valid, objective)
        self.batch = _data(double, objective, packed)
        self.validation = valid and _data(valid, objective, packed)
        self.every = max(1, settings.epochs // 200)
        self.rows, self.done = list[tuple[float, ...]](), False
        self._errors = math.nan, math.nan
        self.scale: float | None = None
        self._seen: tuple[Tensor, Tensor, Tensor, list[Tensor]] | None = None
        self.optimizer = self._optimizer()

    def _optimizer(self) -> torch.optim.LBFGS:
        """With a step a call; when to stop is decided here."""
        return torch.optim.LBFGS(
            self.model.parameters(),
            max_iter=1,
            max_eval=EVALUATIONS,
            tolerance_grad=0,
            tolerance_change=0,
            history_size=self.settings.history,
            line_search_fn="strong_wolfe",
        )

    def step(self) -> None:
        """One step, and a row that describes where it began."""
        epoch, before = len(self.rows), self._weights()
        self._evaluate()
        loss = self._loss()
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the loss is {loss} in epoch {epoch}; look at energies and features, or start "
                "from other weights"
            )
        residuals, gradient = self._residuals(), self._gradient_norm()
        if self.validation is not None and epoch % self.every == 0:
            found = batch_residuals(self.model, self.validation, self.objective)
            self._errors = self._rmse(found, self.validation)
        size = self.objective.mu * float(before.norm())
        self.done = gradient <= self.settings.tolerance * size
        length = 0.0
        if not self.done:
            self.optimizer.step(self._evaluate)
            state = self.optimizer.state[next(self.model.parameters())]
            length = float(state.get("t", 0.0))
            if torch.equal(self._weights(), before):
                # rounding is reached; what was learnt of the curvature may be to blame, once
                self.done = state.get("n_iter", 0) <= 1
                self.optimizer = self._optimizer()
        energy, force = self._rmse(residuals, self.batch)
        row = (epoch, loss, energy, self._errors[0], length)
        forces = (force, self._errors[1])
        self.rows.append(row + forces if self.objective.force_weight else row)

    def _evaluate(self) -> Tensor:
        """The scaled loss, its gradient into the parameters; not again at the same weights."""
        weights = self._weights()
        parameters = list(self.model.parameters())
        if self._seen is None or not torch.equal(self._seen[0], weights):
            with torch.enable_grad():
                loss, residuals = batch_loss(self.model, self.batch, self.objective)
            self._seen = (
                weights,
                loss.detach(),
                residuals,
                [*torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)],
            )
        if self.scale is None:
            self.scale = LARGE / (self._loss() or 1.0)
        for parameter, gradient in zip(parameters, self._seen[3], strict=True):
            parameter.grad = self.scale * gradient
        return self.scale * self._seen[1]

    def _loss(self) -> float:
        assert self._seen is not None
        return float(self._seen[1])

    def _residuals(self) -> Tensor:
        assert self._seen is not None
        return self._seen[2]

    def _gradient_norm(self) -> float:
        assert self._seen is not None
        return float(parameters_to_vector(self._seen[3]).norm())

    def _weights(self) -> Tensor:
        return parameters_to_vector(self.model.parameters()).detach().clone()

    def _rmse(self, residuals: Tensor, batch: Batch) -> tuple[float, float]:
        """Of the energies, as the objective counts them, and of the forces."""
        squares, n = residuals.square(), batch.n_structures
        energy = squares[:n].mean() / self.objective.energy_weight
        if not self.objective.force_weight:
            return math.sqrt(energy), math.nan
        return math.sqrt(energy), math.sqrt(squares[n:].mean() / self.objective.force_weight)

    def state(self) -> dict[str, Any]:
        """All that the next steps depend on."""
        return {
            "weights": self._weights(),
            "optimizer": self.optimizer.state_dict(),
            "rows": self.rows,
            "errors": self._errors,
            "scale": self.scale,
            "done": self.done,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        with torch.no_grad():
            nn.utils.vector_to_parameters(
                state["weights"].to(self._weights().device), self.model.parameters()
            )
        self.optimizer.load_state_dict(state["optimizer"])
        self.rows = [tuple(row) for row in state["rows"]]
        self._errors, self.done = tuple(state["errors"]), state["done"]
        self.scale = state["scale"]


def _data(batch: AtomBatch, objective: Objective, packed: bool) -> Batch:
    """Without what does not weigh; packed where that is faster."""
    if packed:
        return PackedStructures(batch).take(range(batch.n_structures))
    return batch if objective.force_weight else replace(batch, forces=None, derivatives=None)
