"""Problems of any size with the features of amorphous silicon, or others of their statistics."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from torchlpr.curvature import energy_rows
from torchlpr.descriptors.soap import SOAP
from torchlpr.models import BehlerParrinelloMLP, LinearModel
from torchlpr.objective import Objective
from torchlpr.pipeline.bench.points import Plan, Point
from torchlpr.structures.batch import AtomBatch
from torchlpr.structures.embedded import amorphous_silicon

__all__ = ["MU", "Pool", "Problem", "as_batch", "load_pool", "make_problem"]

MU = 1e-6
"""Strength of the regulariser over the largest eigenvalue of R^T R."""
SILICON = 14


@dataclass(frozen=True, eq=False)
class Pool:
    """Features of real atoms.

    Attributes:
        train: atoms to train on, cell after cell, shape (atoms, features), float64.
        test: atoms of other cells.
    """

    train: Tensor
    test: Tensor

    @cached_property
    def _statistics(self) -> tuple[Tensor, Tensor]:
        """Mean, and the symmetric root of the covariance."""
        values, vectors = torch.linalg.eigh(torch.cov(self.train.mT))
        noise = len(values) * torch.finfo(values.dtype).eps * values[-1]
        values = torch.where(values > noise, values, 0)  # dependent features stay dependent
        return self.train.mean(0), vectors * values.sqrt() @ vectors.mT

    def draw(self, count: int, test: bool) -> tuple[Tensor, bool]:
        """Features of so many atoms.

        Args:
            count: number of atoms.
            test: whether they are test atoms.

        Returns:
            Shape (count, features), and whether they are real: where there are not enough real
            atoms, all are normal numbers with their mean and covariance.
        """
        real = self.test if test else self.train
        if count <= len(real):
            return real[:count].clone(), True
        generator = torch.Generator().manual_seed(int(test))
        mean, root = self._statistics
        noise = torch.randn(count, real.shape[1], dtype=torch.float64, generator=generator)
        return torch.addmm(mean, noise, root), False


@dataclass(frozen=True, eq=False)
class Problem:
    """What a method is given.

    Attributes:
        point: its size.
        model: torchlpr's network or linear model.
        network: the same function of one atom's features as a plain module of torch.
        train: training structures.
        test: test atoms, each a structure of its own.
        mu: strength of the L2 term.
        real: whether all features are those of real atoms.
    """

    point: Point
    model: nn.Module
    network: nn.Sequential
    train: AtomBatch
    test: AtomBatch
    mu: float
    real: bool

    @property
    def cells(self) -> Tensor:
        """Features by structure, shape (structures, atoms, features)."""
        return self.train.features.view(self.point.structures, self.point.atoms, -1)


def load_pool(plan: Plan, cache: Path | None = None) -> Pool:
    """Describe the embedded cells of amorphous silicon.

    Args:
        plan: gives the descriptor and how many cells.
        cache: folder that keeps the features.

    Returns:
        The pool; training and test atoms are from cells of different trajectories.
    """
    frames = amorphous_silicon()
    train = [atoms for atoms in frames if atoms.info["subset"] == "train"][: plan.cells]
    test = [atoms for atoms in frames if atoms.info["subset"] == "test"][: plan.test_cells]
    soap = SOAP(
        cutoff=plan.soap["cutoff"],
        max_radial=int(plan.soap["max_radial"]),
        max_angular=int(plan.soap["max_angular"]),
        width=0.5,
        smoothing=0.5,
        types=["Si"],
        normalize=True,
        cache=cache,
    )
    return Pool(soap(train).features, soap(test).features)


def make_problem(point: Point, pool: Pool, mu: float | None = None) -> Problem:
    """A problem of a given size.

    Args:
        point: the size.
        pool: where features come from.
        mu: strength of the L2 term; by default :data:`MU` times the largest eigenvalue of R^T R.

    Returns:
        The problem, the same for the same arguments.
    """
    x, real = pool.draw(point.structures * point.atoms, test=False)
    y, real_test = pool.draw(point.test_atoms, test=True)
    network = BehlerParrinelloMLP(point.features, [SILICON], point.hidden, seed=0)
    model = network if point.hidden else LinearModel(point.features, [SILICON])
    plain = network.networks[0]
    assert isinstance(plain, nn.Sequential)
    device, dtype = point.device, point.torch_dtype
    train = as_batch(x, point.atoms).to(device, dtype)
    model, plain = model.to(device, dtype), plain.to(device, dtype)
    if mu is None:
        rows = energy_rows(model, train, Objective(mu=1.0))
        small = rows @ rows.mT if rows.shape[0] <= rows.shape[1] else rows.mT @ rows
        mu = MU * float(torch.linalg.eigvalsh(small)[-1])
    test = as_batch(y, 1).to(device, dtype)
    return Problem(point, model, plain, train, test, mu, real and real_test)


def as_batch(features: Tensor, atoms: int) -> AtomBatch:
    """Consecutive atoms as structures of equal size.

    Args:
        features: shape (atoms, features).
        atoms: atoms of a structure.

    Returns:
        The batch.
    """
    index = torch.arange(len(features), device=features.device)
    return AtomBatch(features, torch.full_like(index, SILICON), index // atoms)
