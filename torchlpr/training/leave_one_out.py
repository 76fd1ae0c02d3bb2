r"""Errors of every structure by the fit that leaves it out, without fitting anew.

With the hat matrix S = R (R^T R + mu I)^-1 R^T, and the rows A of a structure (its energy, and
the forces that weigh), the residuals without it are

.. math:: e_{-A} = (I - S_{AA})^{-1} \, (R \hat w - t)_A

exactly where the model is linear in its weights. Of fewer rows than weights, I - S_AA is a sum of
squares; of more it is a difference, and the few structures that lose too many digits in it, being
alone in what they determine, are in fact left out.

Source: Cook and Weisberg, Residuals and Influence in Regression (1982), chapters 2.2 and 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from torchlpr.curvature import parameter_count, training_rows
from torchlpr.curvature.gradients import CHUNK_BYTES
from torchlpr.objective import Objective
from torchlpr.structures.batch import AtomBatch
from torchlpr.training.closed_form import RidgePath, linear_problem, ridge_path

__all__ = ["LeftOut", "leave_one_out"]

TOLERANCE = 1e-6  # relative error of a residual that rounding of I - S may cause


class LeftOut(NamedTuple):
    """What is predicted of each structure by the fit to all others.

    Attributes:
        errors: predicted minus reference energy in eV per atom, shape (mus, structures).
        squares: by which mu is judged: squares of the errors, or where forces weigh the sum of
            the structure's squared weighted residuals, shape (mus, structures), eV^2.
    """

    errors: Tensor
    squares: Tensor


def leave_one_out(
    model: nn.Module,
    batch: AtomBatch,
    objective: Objective,
    mus: Sequence[float],
    path: RidgePath | None = None,
) -> LeftOut:
    """Leave out every structure in turn, in closed form at several mu.

    Exact for heads linear in their parameters. Of a network it is the linearised model that is
    fitted without the structure: one Gauss-Newton step from the weights that the model has.

    Args:
        model: the head, whose weights play no part; or any model at its minimum.
        batch: training structures with energies, and forces where they weigh.
        objective: gives the row weights; its mu plays no part.
        mus: strengths of the L2 term, positive.
        path: of the same model, batch and objective, where it is known.

    Returns:
        Errors and squares.
    """
    path = ridge_path(model, batch, objective) if path is None else path
    mu = path.coordinates.new_tensor(list(mus)).unsqueeze(1)
    if batch.n_structures == 1:  # nothing is left to fit: the weights are zero
        _, targets = _rows_and_targets(model, batch, objective)
        found = _Residuals.of(-targets.expand(len(mu), -1), _owners(batch, objective))
    elif objective.n_rows(batch) <= path.right.shape[1]:
        found = _of_few_rows(path, mu, _owners(batch, objective))
    else:
        found = _of_many_rows(model, batch, objective, mu, path)
    errors = found.energies / (objective.row_scale(batch.counts) * batch.counts)
    return LeftOut(errors, found.squares if objective.force_weight else errors.square())


class _Residuals(NamedTuple):
    """Of each structure left out: that of its energy row, and squares of all its rows."""

    energies: Tensor
    squares: Tensor

    @classmethod
    def of(cls, residuals: Tensor, owner: Tensor) -> _Residuals:
        """Of all rows, shape (mus, rows)."""
        n = int(owner.max()) + 1
        sums = residuals.new_zeros(len(residuals), n)
        return cls(residuals[:, :n], sums.index_add_(1, owner, residuals.square()))


def _of_few_rows(path: RidgePath, mu: Tensor, owner: Tensor) -> _Residuals:
    """Where weights outnumber rows: I - S = W W^T and R w - t = W y are never formed."""
    root = (mu / (path.singular_values.square() + mu)).sqrt()
    right = -root * path.coordinates
    if len(owner) == int(owner.max()) + 1:  # a row each
        residuals = (root * right) @ path.left.mT / (root.square() @ path.left.square().mT)
        return _Residuals.of(residuals, owner)
    out = right.new_empty(len(mu), len(owner))
    for a in range(int(owner.max()) + 1):
        mine = (owner == a).nonzero().squeeze(1)
        q, triangle = torch.linalg.qr(path.left[mine].mT * root.unsqueeze(2))  # [mu, r, row]
        projected = q.mT @ right.unsqueeze(2)
        out[:, mine] = torch.linalg.solve_triangular(triangle, projected, upper=True).squeeze(2)
    return _Residuals.of(out, owner)


def _of_many_rows(
    model: nn.Module, batch: AtomBatch, objective: Objective, mu: Tensor, path: RidgePath
) -> _Residuals:
    """Residuals where rows outnumber weights: those of a few structures at a time."""
    s = path.singular_values
    inverse = 1 / (s.square() + mu)
    eps = torch.finfo(s.dtype).eps
    rounding = eps * (16 + 2 * s.max() * (s * inverse).amax(1, keepdim=True))  # [mu, 1]
    parts = []
    for structures, part in _chunks(batch, objective, parameter_count(model)):
        rows, targets = _rows_and_targets(model, part, objective)
        basis, owner = rows @ path.right.mT, _owners(part, objective)
        residuals = (s * path.coordinates * inverse) @ basis.mT - targets
        found, smallest = _solve(basis, owner, inverse, residuals)
        lost = ~(smallest * TOLERANCE >= rounding)  # [mu, structure]; NaN is lost too
        for a in lost.any(0).nonzero().squeeze(1).tolist():
            mine, others = owner == a, torch.arange(batch.n_structures, device=owner.device)
            without = batch.select(others[others != structures[a]])
            minima = ridge_path(model, without, objective)
            for k in lost[:, a].nonzero().squeeze(1).tolist():
                found[k, mine] = rows[mine] @ minima.weights(float(mu[k])) - targets[mine]
        parts.append(_Residuals.of(found, owner))
    return _Residuals(*(torch.cat(each, dim=1) for each in zip(*parts, strict=True)))


def _solve(basis: Tensor, owner: Tensor, diagonal: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Solutions of each structure's block I - B_A D B_A^T at several D.

    Args:
        basis: B, shape (rows, r).
        owner: structure of each row, shape (rows,).
        diagonal: D, shape (mus, r).
        right: shape (mus, rows).

    Returns:
        Solutions, shape (mus, rows), and the smallest eigenvalue of each block, shape
        (mus, structures).
    """
    count = int(owner.max()) + 1
    if len(owner) == count:  # a row each
        smallest = 1 - diagonal @ basis.square().mT
        return right / smallest, smallest
    out, smallest = torch.empty_like(right), right.new_empty(len(right), count)
    for a in range(count):
        mine = (owner == a).nonzero().squeeze(1)
        identity = torch.eye(len(mine), dtype=basis.dtype, device=basis.device)
        for k, weights in enumerate(diagonal):
            block = identity - (basis[mine] * weights) @ basis[mine].mT
            smallest[k, a] = torch.linalg.eigvalsh(block)[0]
            out[k, mine] = torch.linalg.solve_ex(block, right[k, mine]).result
    return out, smallest


def _owners(batch: AtomBatch, objective: Objective) -> Tensor:
    """Structure of each row: the energies, then three for each atom with a force."""
    moved = batch.structure[objective.force_atoms(batch)]
    energies = torch.arange(batch.n_structures, device=moved.device)
    return torch.cat([energies, moved.repeat_interleave(3)])


def _rows_and_targets(
    model: nn.Module, batch: AtomBatch, objective: Objective
) -> tuple[Tensor, Tensor]:
    """Rows, and what they times the weights should be."""
    model, batch, targets, weights = linear_problem(model, batch, objective)
    rows = training_rows(model, batch, objective)
    return rows, targets if weights is None else targets + rows @ weights


def _chunks(
    batch: AtomBatch, objective: Objective, n_parameters: int
) -> Iterator[tuple[Tensor, AtomBatch]]:
    """Consecutive structures whose rows fit into 30 MiB, or one whose rows do not.

    Yields:
        Their indices, and the structures.
    """
    heights = torch.bincount(_owners(batch, objective)).tolist()
    most = CHUNK_BYTES // (8 * max(1, n_parameters))
    start, total = 0, 0
    for end, height in enumerate([*heights, most + 1]):
        if end > start and total + height > most:
            indices = torch.arange(start, end, device=batch.structure.device)
            yield indices, batch if end - start == len(heights) else batch.select(indices)
            start, total = end, 0
        total += height
