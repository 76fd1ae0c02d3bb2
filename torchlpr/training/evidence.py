r"""What the training set alone says about mu: evidence, leave-one-out errors, degrees of freedom.

The loss is, up to a factor, the negative logarithm of a posterior: noise of variance sigma^2 in
every weighted row and a prior of variance sigma^2/mu of every weight,

.. math:: t \,|\, w \sim \mathcal N(R w, \sigma^2 I), \quad w \sim \mathcal N(0, \sigma^2/\mu \, I)
          \quad\Rightarrow\quad t \sim \mathcal N(0, \sigma^2 (I + R R^\top / \mu)).

Its density is largest at :math:`\sigma^2 = 2 L(\mu)/M`, with L at its minimum over M rows, where

.. math:: \ln p(t | \mu) = -\frac M2 \left(\ln 2 \pi \sigma^2 + 1\right)
          - \frac12 \sum_j \ln(1 + s_j^2/\mu)

and :math:`d \ln p / d \ln \mu = \tfrac12 (\gamma - \mu |w|^2/\sigma^2)` with the effective degrees
of freedom :math:`\gamma = \sum_j s_j^2/(s_j^2 + \mu)`: at the peak both are equal.

A network is linearised at its weights (Laplace's approximation with the Gauss-Newton Hessian); at
the minimum of its loss, L and R above are its own. A kernel model's prior is the Gaussian process
of its subset of regressors.

Source: MacKay, Neural Computation 4, 415 (1992), doi:10.1162/neco.1992.4.3.415; Bishop, Pattern
Recognition and Machine Learning (2006), 3.5 and 5.7; Immer, Korzepa and Bauer, AISTATS 2021.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from torchlpr.errors import InputError
from torchlpr.objective import Objective
from torchlpr.structures.batch import AtomBatch
from torchlpr.training.closed_form import RidgePath, ridge_path
from torchlpr.training.leave_one_out import LeftOut, leave_one_out

__all__ = ["MuCriteria", "log_evidence", "mu_criteria", "noise"]


@dataclass(frozen=True)
class MuCriteria:
    """What the training set says about several mu.

    Attributes:
        mus: strengths of the L2 term, eV^2.
        effective_dof: tr(H^-1 R^T R), weights that the rows determine, shape (mus,).
        log_evidence: ln p(t | mu) at the sigma where it is largest, in nats, shape (mus,); only
            differences mean something.
        noise: that sigma, of a weighted row, shape (mus,), eV.
        left_out: errors of every structure by the fit to all others.
    """

    mus: tuple[float, ...]
    effective_dof: Tensor
    log_evidence: Tensor
    noise: Tensor
    left_out: LeftOut

    @property
    def rmse_leave_one_out(self) -> Tensor:
        """Root mean square of the errors of structures left out, eV per atom, shape (mus,)."""
        return self.left_out.errors.square().mean(1).sqrt()

    @staticmethod
    def cat(parts: Sequence[MuCriteria]) -> MuCriteria:
        """Join those of the same training set at different mu.

        Args:
            parts: at least one.

        Returns:
            All of them, in order.
        """
        return MuCriteria(
            tuple(mu for part in parts for mu in part.mus),
            torch.cat([part.effective_dof for part in parts]),
            torch.cat([part.log_evidence for part in parts]),
            torch.cat([part.noise for part in parts]),
            LeftOut(*map(torch.cat, zip(*(part.left_out for part in parts), strict=True))),
        )


def mu_criteria(
    model: nn.Module,
    batch: AtomBatch,
    objective: Objective,
    mus: Sequence[float] | None = None,
    path: RidgePath | None = None,
) -> MuCriteria:
    """Effective degrees of freedom, evidence and leave-one-out errors at several mu.

    One decomposition serves all mu. It is exact for heads linear in their parameters. A network
    is linearised at its weights, which are those of one mu: ask for others only where the same
    linearised model is meant.

    Args:
        model: the head, whose weights play no part; or any model at the minimum of the objective.
        batch: training structures with energies, and forces where they weigh.
        objective: the loss.
        mus: strengths of the L2 term, by default the objective's mu alone.
        path: of the same model, batch and objective, where it is known.

    Returns:
        The criteria.

    Raises:
        InputError: if there is no mu, one is not positive, or there is no structure.
    """
    chosen = (objective.mu,) if mus is None else tuple(float(mu) for mu in mus)
    if not chosen:
        raise InputError("there is no mu to judge; give at least one value")
    for mu in chosen:
        replace(objective, mu=mu)  # refuses what is no mu
    if not batch.n_structures:
        raise InputError("the training set is empty; give at least one structure")
    if not objective.force_weight:
        batch = replace(batch, forces=None, derivatives=None)
    path = ridge_path(model, batch, objective) if path is None else path
    n_rows = objective.n_rows(batch)

    def each(value: Callable[[float], float]) -> Tensor:
        return torch.tensor([value(mu) for mu in chosen], dtype=torch.float64)

    return MuCriteria(
        chosen,
        each(path.effective_dof),
        each(partial(log_evidence, path, n_rows)),
        each(partial(noise, path, n_rows)),
        leave_one_out(model, batch, objective, chosen, path),
    )


def noise(path: RidgePath, n_rows: int, mu: float) -> float:
    """Standard deviation sigma = (2 L/M)^1/2 of a row at which the evidence is largest.

    Args:
        path: of the rows and targets.
        n_rows: M, which a path of a triangle does not know.
        mu: strength of the L2 term.

    Returns:
        Sigma in eV.
    """
    return math.sqrt(2 * path.loss(mu) / n_rows)


def log_evidence(path: RidgePath, n_rows: int, mu: float) -> float:
    """Logarithm of the marginal density of the targets, at its maximum over sigma.

    Args:
        path: of the rows and targets.
        n_rows: M, which a path of a triangle does not know.
        mu: strength of the L2 term.

    Returns:
        ln p(t | mu) in nats; infinite where all targets are zero.
    """
    sigma = noise(path, n_rows, mu)
    if sigma == 0:
        return math.inf
    volume = torch.log1p(path.singular_values.square() / mu).sum()
    return -0.5 * n_rows * (math.log(2 * math.pi) + 2 * math.log(sigma) + 1) - 0.5 * float(volume)
