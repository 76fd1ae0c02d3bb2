"""What second-order training is told, and what it must remember to go on bit by bit."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from torchlpr.errors import InputError

__all__ = ["COLUMNS", "LMSettings", "SecondOrderState"]

COLUMNS = ("step", "phase", "loss", "gradient_norm", "damping", "radius", "products")


@dataclass(frozen=True)
class LMSettings:
    """When Levenberg-Marquardt, and the Newton steps that finish its work, stop.

    Attributes:
        steps: Levenberg-Marquardt steps at most, accepted and refused.
        tolerance: gradient norm relative to mu |w| that counts as a minimum.
        newton_steps: trust-region Newton steps at most, from where Levenberg-Marquardt stops or
            slows down; 0 for none.
    """

    steps: int = 200
    tolerance: float = 1e-8
    newton_steps: int = 500

    def __post_init__(self) -> None:
        if self.steps < 1 or not self.tolerance > 0:
            raise InputError(
                f"steps and tolerance must be positive, not {self.steps} and {self.tolerance}"
            )
        if self.newton_steps < 0:
            raise InputError(f"newton_steps must not be negative, but is {self.newton_steps}")


@dataclass
class SecondOrderState:
    """Everything a step depends on.

    Attributes:
        weights: the weights, shape (P,), float64.
        damping: lambda of Levenberg-Marquardt in units of mu.
        growth: factor of the damping at the next refusal.
        radius: of the trust region in the norm of the Gauss-Newton Hessian, eV; 0 before Newton.
        products: Hessian-vector products so far.
        history: one row a step, see COLUMNS; phase 0 is Levenberg-Marquardt, 1 is Newton.
        handed_over: whether Levenberg-Marquardt has ended.
        done: whether there is nothing left to do at this stage.
        stage: 0 while training goes on in the leading features, 1 in all that there are.
        ends: extreme eigenvalues of the full Hessian relative to the Gauss-Newton one, where the
            weights are a minimum that was proven by them.
    """

    weights: Tensor
    damping: float = 1.0
    growth: float = 2.0
    radius: float = 0.0
    products: int = 0
    history: list[tuple[float, ...]] = field(default_factory=list)
    handed_over: bool = False
    done: bool = False
    stage: int = 0
    ends: tuple[float, float] | None = None

    def record(self, loss: float, gradient: Tensor) -> None:
        """Add a row of the history: the state before the next step."""
        norm, phase = float(torch.linalg.vector_norm(gradient)), int(self.handed_over)
        self.history.append((
            len(self.history),
            phase,
            loss,
            norm,
            self.damping,
            self.radius,
            self.products,
        ))

    def used_up(self, settings: LMSettings) -> bool:
        """Whether all steps that the settings allow have been taken."""
        if settings.newton_steps:
            return self.steps_of(1) >= settings.newton_steps
        return len(self.history) >= settings.steps

    def steps_of(self, phase: int) -> int:
        """Number of steps of a phase that were begun."""
        return sum(row[1] == phase for row in self.history)
