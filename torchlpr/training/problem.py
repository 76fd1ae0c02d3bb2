"""The objective as a function of the flat weights: value, linearisation, exact curvature."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from torchlpr.curvature import Factor, TriangleAccumulator, build, training_rows
from torchlpr.models import BehlerParrinelloMLP
from torchlpr.objective import Objective
from torchlpr.structures.batch import AtomBatch
from torchlpr.training.network_loss import NetworkLoss, NetworkStructures

__all__ = ["Linearisation", "Problem"]


@dataclass(frozen=True)
class Linearisation:
    """The loss around some weights w: residuals r + R d and loss L + grad.d + ...

    Attributes:
        loss: L(w), eV^2.
        residuals: r, shape (M,), eV.
        rows: R = dr/dw, shape (M, P).
        gradient: grad L = R^T r + mu w, shape (P,).
    """

    loss: float
    residuals: Tensor
    rows: Tensor
    gradient: Tensor

    def factor(self, mu: float) -> Factor:
        """R^T R + mu I, factorised; with more rows than weights their triangle is made once.

        Args:
            mu: positive.

        Returns:
            The factor.
        """
        tall = self.rows.shape[0] > self.rows.shape[1]
        return self._triangle.factor(mu) if tall else build(self.rows, mu)

    @cached_property
    def _triangle(self) -> TriangleAccumulator:
        width = self.rows.shape[1]
        triangle = TriangleAccumulator(width, self.rows.device)
        for block in self.rows.split(max(width, 1024)):
            triangle.update(block)
        return triangle


class Problem:
    """A model, its training structures and the loss, in float64.

    Args:
        model: maps (features, types) to atomic energies, float64; its weights are overwritten.
        batch: training structures with energies, and forces where they weigh, float64.
        objective: the loss.
    """

    def __init__(self, model: nn.Module, batch: AtomBatch, objective: Objective) -> None:
        self.model, self.batch, self.objective = model, batch, objective
        self.mu = objective.mu
        self.parameters = list(model.parameters())
        self._structures: NetworkStructures | None = None
        if isinstance(model, BehlerParrinelloMLP) and not objective.force_weight:
            self._structures = NetworkStructures(model, batch, objective)
        self._last: tuple[Tensor, NetworkLoss] | None = None

    @property
    def weights(self) -> Tensor:
        """The model's weights, shape (P,)."""
        return parameters_to_vector(self.parameters).detach().clone()

    def set(self, weights: Tensor) -> None:
        """Give the model these weights, shape (P,)."""
        vector_to_parameters(weights, self.parameters)

    def residuals(self, weights: Tensor) -> Tensor:
        """Weighted errors of energies and forces, shape (M,)."""
        network = self._network(weights)
        if network is not None:
            return network.residuals
        self.set(weights)
        with torch.no_grad():
            return self._residuals()

    def loss(self, weights: Tensor) -> float:
        """Value of the objective."""
        return self.value(self.residuals(weights), weights)

    def value(self, residuals: Tensor, weights: Tensor) -> float:
        """The objective, from residuals that are known."""
        return float(self.objective.data_loss(residuals) + self.objective.penalty([weights]))

    def linearise(self, weights: Tensor) -> Linearisation:
        """Loss, residuals, rows and gradient at these weights.

        Args:
            weights: shape (P,).

        Returns:
            The linearisation.

        Raises:
            FloatingPointError: if the loss is not finite.
        """
        residuals = self.residuals(weights)
        loss = self.value(residuals, weights)
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the loss is {loss}; look at energies and features, or start from other weights"
            )
        network = self._network(weights)
        if network is not None:
            rows = network.rows()
        else:
            self.set(weights)
            rows = training_rows(self.model, self.batch, self.objective)
        gradient = residuals @ rows + self.mu * weights
        return Linearisation(loss, residuals, rows, gradient)

    def derivatives(self, weights: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Gradient, and products with the full Hessian R^T R + sum_m r_m d2r_m/dw2 + mu I.

        In closed form for energies of a network; else the graph of the gradient is built once,
        and a product is one backward pass through it. No rows are needed.

        Args:
            weights: where, shape (P,).

        Returns:
            grad L, shape (P,), and the function from v to H v, shape (P,).
        """
        network = self._network(weights)
        if network is not None:
            return (
                network.gradient() + self.mu * weights,
                lambda vector: network.product(vector) + self.mu * vector,
            )
        self.set(weights)
        residuals = self._residuals()
        loss = self.objective.data_loss(residuals)
        first = torch.autograd.grad(
            loss, self.parameters, create_graph=True, allow_unused=True, materialize_grads=True
        )
        gradient = torch.cat([g.reshape(-1) for g in first])

        def product(vector: Tensor) -> Tensor:
            if not gradient.requires_grad:  # a model whose gradient does not depend on them
                return self.mu * vector
            self.set(weights)  # the graph sees the weights of the model, which may have moved
            second = torch.autograd.grad(
                gradient,
                self.parameters,
                vector,
                retain_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )
            return torch.cat([h.reshape(-1) for h in second]) + self.mu * vector

        return gradient.detach() + self.mu * weights, product

    def rough_hessian(self, here: Linearisation, weights: Tensor) -> Callable[[Tensor], Tensor]:
        """Products with the full Hessian where a few digits of the residuals' curvature do.

        For energies of a network R^T R + mu I is exact and S of single precision, in half of the
        time; else all is exact.

        Args:
            here: the linearisation at these weights.
            weights: where, shape (P,).

        Returns:
            The function from v to H v, shape (P,).
        """
        network, rows = self._network(weights), here.rows
        if network is None:
            return self.derivatives(weights)[1]
        return lambda v: (rows @ v) @ rows + network.bend(v) + self.mu * v

    def change(self, weights: Tensor, direction: Tensor) -> Tensor:
        """Change of the atomic energies along a direction of the weights.

        Args:
            weights: where, shape (P,).
            direction: v, shape (P,).

        Returns:
            g_k . v of every atom, shape (atoms,), eV.
        """
        network = self._network(weights)
        if network is not None:
            return network.change(direction)
        names = [name for name, _ in self.model.named_parameters()]

        def energies(flat: Tensor) -> Tensor:
            parts = flat.split([p.numel() for p in self.parameters])
            shaped = [x.view(p.shape) for x, p in zip(parts, self.parameters, strict=True)]
            named = dict(zip(names, shaped, strict=True))
            inputs = self.batch.features, self.batch.types
            local: Tensor = functional_call(self.model, named, inputs)
            return local

        change: Tensor = jvp(energies, (weights,), (direction,))[1]
        return change

    def relative(self, gradient: Tensor, weights: Tensor) -> float:
        """|grad L| / (mu |w|), infinite for zero weights unless the gradient is zero too."""
        norm, size = float(gradient.norm()), self.mu * float(weights.norm())
        return norm / size if size > 0 else (math.inf if norm > 0 else 0.0)

    def _network(self, weights: Tensor) -> NetworkLoss | None:
        """The loss in closed form, where it has one; that of the last weights is kept."""
        if self._structures is None:
            return None
        if self._last is None or not torch.equal(self._last[0], weights):
            self.set(weights)
            assert isinstance(self.model, BehlerParrinelloMLP)
            self._last = weights.clone(), NetworkLoss(self.model, self._structures)
        return self._last[1]

    def _residuals(self) -> Tensor:
        return self.objective.batch_residuals(self.model, self.batch)
