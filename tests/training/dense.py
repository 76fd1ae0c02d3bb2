"""Minima and steps as the equations write them, in numpy; gradients by plain autograd."""

import copy

import mpmath
import numpy as np
import torch
from torch import nn

from tests.oracles import autograd_loops
from torchlpr import AtomBatch, Objective


def rows(model: nn.Module, batch: AtomBatch, objective: Objective) -> np.ndarray:
    """R, one backward pass a structure."""
    double = copy.deepcopy(model).to(torch.float64)
    counts = np.bincount(batch.structure)
    scale = np.sqrt(objective.energy_weight) / (counts if objective.per_atom else 1.0 + 0 * counts)
    x = batch.features.to(torch.float64)
    found = autograd_loops.structure_rows(
        double, x, batch.types, batch.structure, torch.from_numpy(scale)
    )
    return found.detach().numpy()


def targets(batch: AtomBatch, objective: Objective) -> np.ndarray:
    """sqrt(c) E_A/n_A, or sqrt(c) E_A."""
    energies = batch.labels().numpy() / (np.bincount(batch.structure) if objective.per_atom else 1)
    return np.sqrt(objective.energy_weight) * energies


def ridge(r: np.ndarray, t: np.ndarray, mu: float) -> np.ndarray:
    """Least squares of the stacked system [R; sqrt(mu) I] w = [t; 0]."""
    p = r.shape[1]
    stacked = np.vstack([r, np.sqrt(mu) * np.eye(p)])
    return np.linalg.lstsq(stacked, np.concatenate([t, np.zeros(p)]), rcond=None)[0]


def ridge_of_many_digits(r: np.ndarray, t: np.ndarray, mu: float) -> np.ndarray:
    """(R^T R + mu I)^-1 R^T t in 60 digits."""
    with mpmath.workdps(60):
        matrix, right = mpmath.matrix(r.tolist()), mpmath.matrix(t.tolist())
        h = matrix.T * matrix + mpmath.mpf(mu) * mpmath.eye(r.shape[1])
        return np.array([float(x) for x in mpmath.lu_solve(h, matrix.T * right)])


def loss(model: nn.Module, batch: AtomBatch, objective: Objective) -> torch.Tensor:
    """1/2 sum c (dE/n)^2 + 1/2 mu |w|^2, one structure after the other."""
    local, total = model(batch.features, batch.types), torch.zeros((), dtype=torch.float64)
    for a, energy in enumerate(batch.labels()):
        atoms = local[batch.structure == a]
        error = atoms.sum().to(torch.float64) - energy
        total = (
            total
            + objective.energy_weight * (error / (len(atoms) if objective.per_atom else 1)) ** 2 / 2
        )
    return total + objective.mu / 2 * sum((p**2).sum() for p in model.parameters())


def gradient(model: nn.Module, batch: AtomBatch, objective: Objective) -> np.ndarray:
    parts = torch.autograd.grad(loss(model, batch, objective), list(model.parameters()))
    return torch.cat([part.reshape(-1) for part in parts]).numpy()


def flat(model: nn.Module) -> np.ndarray:
    """All weights of a model, in the order of its parameters."""
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()]).numpy()
