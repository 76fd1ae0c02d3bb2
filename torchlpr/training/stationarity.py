"""Is this a minimum? Rigidity is defined at one, so every fit is asked."""

from __future__ import annotations

import copy
import math
from dataclasses import asdict, dataclass
from functools import partial

import torch
from torch import Tensor, nn

from torchlpr.curvature import (
    Factor,
    accumulate_batch,
    build,
    gradient_chunks,
    solve_vector,
    training_rows,
)
from torchlpr.objective import Objective
from torchlpr.structures.batch import AtomBatch
from torchlpr.training.problem import Problem
from torchlpr.training.relative_spectrum import relative_spectrum

__all__ = ["Stationarity", "stationarity"]

# a tenth of the spread of atomic energies: the loss profile's vertex is then where we say it is
ALLOWED_SHIFT = 0.1
ALLOWED_GRADIENT = 1e-3
COLLAPSE = 1e-9
MOST_ATOMS = 1000  # whose std is computed: tens of thousands would cost more than all the rest
FLAT = -1e-6  # a network of linear layers has directions of exactly zero


@dataclass(frozen=True)
class Stationarity:
    """How close weights are to a minimum of the regularised loss.

    Attributes:
        gradient_norm: |grad L|, eV^2 per unit of weight.
        relative_gradient: |grad L| / (mu |w|), dimensionless.
        newton_decrement: grad^T H^-1 grad with the Gauss-Newton H: twice the loss still to be
            gained in the quadratic model, eV^2.
        vertex_shift: largest |delta_k| over the training atoms, delta_k = -g_k^T H^-1 grad L,
            how far the loss profile's vertex lies from the prediction, eV.
        local_std: standard deviation of the predicted atomic energies, eV.
        effective_dof: tr(H^-1 R^T R), weights that the training rows determine.
        loss: value of the objective, eV^2.
        smallest_curvature: smallest eigenvalue of the full Hessian relative to the Gauss-Newton
            one; negative at a saddle.
        largest_curvature: the largest one; both are 1 where the residuals' second derivatives
            play no part.
        vertex_shift_in_std: largest |delta_k| / std_k over the training atoms, of more than 1000
            over those of the largest |delta_k|, dimensionless; None in checkpoints of before.
        noise: sigma = (2 loss/rows)^1/2 of the predicted std_k = sigma (g_k^T H^-1 g_k)^1/2, eV:
            the one of the largest evidence (:func:`torchlpr.training.evidence.noise`), from the
            training set and not calibrated on another. No prediction's vertex is shifted by more
            than newton_decrement^1/2 / sigma of its std (Cauchy and Schwarz).
    """

    gradient_norm: float
    relative_gradient: float
    newton_decrement: float
    vertex_shift: float
    local_std: float
    effective_dof: float
    loss: float
    smallest_curvature: float
    largest_curvature: float
    vertex_shift_in_std: float | None = None
    noise: float | None = None

    @property
    def is_minimum(self) -> bool:
        """Whether gradient and vertex shift are small, and no direction leads further down."""
        return (
            self.relative_gradient <= ALLOWED_GRADIENT
            and self.vertex_shift <= ALLOWED_SHIFT * self.local_std
            and self.smallest_curvature >= FLAT
        )

    @property
    def collapsed(self) -> bool:
        """Whether all atomic energies are equal: the regulariser has won over the data."""
        return self.local_std <= COLLAPSE * math.sqrt(2 * self.loss)

    def sentence(self) -> str:
        """What the numbers mean, in one sentence.

        Returns:
            The verdict, and the remedy where the weights are not at a useful minimum.
        """
        if self.collapsed:
            return (
                "All atomic energies are equal: mu is so strong that the model has collapsed to a "
                "constant, and its rigidities mean nothing; lower mu."
            )
        low, high = self.smallest_curvature, self.largest_curvature
        known = self.vertex_shift_in_std is not None
        share = f"{self.vertex_shift_in_std:.1e} of the predicted std; " if known else ""
        numbers = (
            f"|grad L| is {self.relative_gradient:.1e} of mu|w|, the vertex shift at most "
            f"{self.vertex_shift:.1e} eV ({share}atomic energies spread over "
            f"{self.local_std:.1e} eV), "
            f"the full Hessian {low:.2g} to {high:.2g} times the Gauss-Newton one"
        )
        if self.is_minimum:
            return f"The weights are at a minimum of the regularised loss: {numbers}."
        return (
            "The weights are not yet at a minimum, so the rigidities are those of the curvature "
            f"where training stopped: {numbers}; give more steps or epochs, end Adam by "
            "optimizer adam+lm, or raise mu."
        )

    def as_dict(self) -> dict[str, float | None]:
        """Plain numbers, as checkpoints and summaries store them."""
        return asdict(self)


def stationarity(
    model: nn.Module,
    batch: AtomBatch,
    objective: Objective,
    factor: Factor | None = None,
    ends: tuple[float, float] | None = None,
) -> Stationarity:
    """Measure how close a model's weights are to a minimum, in float64.

    Args:
        model: maps (features, types) to atomic energies, asked in evaluation mode; not changed.
        batch: training structures with energies.
        objective: the loss.
        factor: the Gauss-Newton factor of these rows where it is already known.
        ends: smallest and largest curvature where they are known for these weights.

    Returns:
        The measures.
    """
    twin = copy.deepcopy(model).to(torch.float64).requires_grad_(True).eval()
    problem = Problem(twin, batch.to(dtype=torch.float64), objective)
    weights = problem.weights
    gradient, hessian = problem.derivatives(weights)
    if factor is None and objective.n_rows(batch) > len(weights):
        factor = accumulate_batch(twin, batch, objective, "parameter").factor(objective.mu)
    elif factor is None:
        factor = build(training_rows(twin, batch, objective), objective.mu)
    solve = partial(solve_vector, factor)
    step = solve(gradient)
    if ends is None:
        spectrum = relative_spectrum(hessian, solve, weights)
        ends = spectrum.smallest, spectrum.largest
    with torch.no_grad():
        local = twin(problem.batch.features, problem.batch.types)
    shifts = problem.change(weights, step).abs()
    loss = problem.loss(weights)
    noise = math.sqrt(2 * loss / objective.n_rows(batch))
    return Stationarity(
        gradient_norm=float(gradient.norm()),
        relative_gradient=problem.relative(gradient, weights),
        newton_decrement=float(gradient @ step),
        vertex_shift=float(shifts.max()),
        local_std=float(local.std(correction=0)),
        effective_dof=factor.effective_dof(),
        loss=loss,
        smallest_curvature=ends[0],
        largest_curvature=ends[1],
        vertex_shift_in_std=_in_std(twin, problem.batch, factor, shifts, noise),
        noise=noise,
    )


def _in_std(
    model: nn.Module, batch: AtomBatch, factor: Factor, shifts: Tensor, noise: float
) -> float:
    """Largest shift over sigma (g^T H^-1 g)^1/2, among the atoms of the largest shifts."""
    atoms = shifts.topk(min(MOST_ATOMS, len(shifts))).indices
    chosen = AtomBatch(
        batch.features[atoms], batch.types[atoms], torch.arange(len(atoms)).to(atoms)
    )
    forms = [factor.quadratic_form(g).value for _, g in gradient_chunks(model, chosen)]
    std = noise * torch.cat(forms).sqrt()
    # neither shift nor std: the energy depends on no weight, or all labels are reproduced
    ratio = torch.where(shifts[atoms] == 0, 0.0, shifts[atoms] / std)
    return float(ratio.max())
