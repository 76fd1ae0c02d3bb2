r"""Training again with one atomic energy held away from where the minimum puts it.

.. math:: \min_w L(w) \quad \text{subject to} \quad \tilde y_k(w) = \tilde y_k(w_0) + \epsilon

At a minimum w_0 with Hessian H (the full one) the loss rises by 1/2 LPR_k eps^2 + O(eps^3) and the
Lagrange multiplier is -LPR_k eps + O(eps^2): this is what rigidity means. For heads linear in
their parameters both hold at every eps.

Source: Chong et al., J. Chem. Theory Comput. 19, 8020 (2023), doi:10.1021/acs.jctc.3c00704.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from torchlpr.curvature import atomic_gradients, build, solve_vector, training_rows
from torchlpr.curvature.gradients import check_parameters
from torchlpr.errors import InputError
from torchlpr.models import LinearInParameters
from torchlpr.objective import Objective
from torchlpr.structures.batch import AtomBatch
from torchlpr.training import large_newton
from torchlpr.training.closed_form import fit_linear
from torchlpr.training.full_newton import MAX_PARAMETERS, Problem, constrained_minimum, minimum
from torchlpr.training.large_newton import solve_full
from torchlpr.training.problem import Problem as LargeProblem

__all__ = ["Retrained", "full_hessian_rigidity", "minimise", "retrain"]


@dataclass(frozen=True)
class Retrained:
    """A model trained under the constraint.

    Attributes:
        model: the constrained minimum, float64.
        shift: eps, how far the atomic energy was moved, eV.
        rise: loss at the constrained minimum minus loss at the minimum, eV^2.
        multiplier: Lagrange multiplier of L + multiplier (y_k - target), eV.
    """

    model: nn.Module
    shift: float
    rise: float
    multiplier: float


def minimise(model: nn.Module, batch: AtomBatch, objective: Objective) -> nn.Module:
    """The minimum near a model's weights, to rounding.

    Args:
        model: linear or kernel head (its weights play no part), or a small network near a
            minimum, as :func:`torchlpr.fit` leaves it.
        batch: training structures with energies.
        objective: the loss.

    Returns:
        A float64 copy at the minimum.
    """
    check_parameters(model, batch.features)
    twin = copy.deepcopy(model).to(torch.float64)
    batch = batch.to(dtype=torch.float64)
    if isinstance(twin, LinearInParameters):
        fit_linear(twin, batch, objective)
        return twin
    problem = Problem(twin, batch, objective)
    return _with(twin, minimum(problem, parameters_to_vector(twin.parameters()).detach()))


def retrain(
    model: nn.Module, batch: AtomBatch, objective: Objective, atom: AtomBatch, shift: float
) -> Retrained:
    """Train again with one atomic energy shifted.

    Exact for linear and kernel heads; for a network Newton's method with full Hessians, by their
    products where they are large. A large shift may take a network into another valley of its
    loss, which may even be lower.

    Args:
        model: at its minimum, see :func:`minimise`.
        batch: training structures with energies.
        objective: the loss.
        atom: the one atom that is held.
        shift: eps in eV, not zero.

    Returns:
        The constrained minimum.

    Raises:
        InputError: if there is not exactly one atom or no shift.
    """
    if len(atom) != 1:
        raise InputError(f"one atom is held at a time, not {len(atom)}; select one")
    if not (math.isfinite(shift) and shift != 0):
        raise InputError(f"shift must be a number of eV other than zero, not {shift}")
    twin = copy.deepcopy(model).to(torch.float64)
    batch, atom = batch.to(dtype=torch.float64), atom.to(dtype=torch.float64)
    problem = Problem(twin, batch, objective)
    start = parameters_to_vector(twin.parameters()).detach()
    if isinstance(twin, LinearInParameters):
        g = atomic_gradients(twin, atom.features, atom.types)
        v = build(training_rows(twin, batch, objective), objective.mu).solve(g)
        rigidity = 1 / float((g * v).sum())
        end, multiplier = start + shift * rigidity * v.squeeze(0), -shift * rigidity
    elif len(start) <= MAX_PARAMETERS:
        end, multiplier = constrained_minimum(problem, start, problem.energy_of(atom), shift)
    else:
        held, large = problem.energy_of(atom), LargeProblem(twin, batch, objective)
        end, multiplier = large_newton.constrained_minimum(large, start, held, shift)
    rise = float(problem.loss(end) - problem.loss(start))
    return Retrained(_with(twin, end), shift, rise, multiplier)


def full_hessian_rigidity(
    model: nn.Module, batch: AtomBatch, objective: Objective, atoms: AtomBatch
) -> Tensor:
    """LPR with the full Hessian of the loss in place of the Gauss-Newton one.

    It is the curvature of re-training for a network with residuals too, and needs the network to
    be at a minimum. A small Hessian is made dense; with a large one each atom takes some tens
    to hundreds of products.

    Args:
        model: at its minimum.
        batch: training structures with energies.
        objective: the loss.
        atoms: asked about.

    Returns:
        1/eV^2, shape (atoms,).

    Raises:
        InputError: if the Hessian is not positive definite: the weights are at no minimum.
    """
    twin = copy.deepcopy(model).to(torch.float64)
    batch = batch.to(dtype=torch.float64)
    g = atomic_gradients(twin, atoms.features.to(torch.float64), atoms.types)
    if g.shape[1] > MAX_PARAMETERS:
        large = LargeProblem(twin, batch, objective)
        weights = large.weights
        solve = partial(solve_vector, large.linearise(weights).factor(objective.mu))
        _, products = large.derivatives(weights)
        return 1 / torch.stack([v @ solve_full(products, solve, v) for v in g])
    problem = Problem(twin, batch, objective)
    hessian = problem.hessian(parameters_to_vector(twin.parameters()).detach())
    factor, info = torch.linalg.cholesky_ex(hessian)
    if int(info):
        raise InputError(
            f"the full Hessian has a pivot {int(info)} that is not positive, so the weights are at "
            "no minimum; train further"
        )
    half = torch.linalg.solve_triangular(factor, g.mT, upper=False)
    return 1 / half.square().sum(0)


def _with(model: nn.Module, weights: Tensor) -> nn.Module:
    out = copy.deepcopy(model)
    vector_to_parameters(weights, out.parameters())
    return out
