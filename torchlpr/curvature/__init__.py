"""Curvature of the loss: gradients, rows, and the factorised Gauss-Newton Hessian."""

from torchlpr.curvature.factor import Factor, QuadraticForm, solve_vector
from torchlpr.curvature.gauss_newton import build, choose_shape, load_factor
from torchlpr.curvature.gradients import atomic_gradients, gradient_chunks, parameter_count
from torchlpr.curvature.rows import energy_rows, structure_gradients

__all__ = [
    "Factor",
    "QuadraticForm",
    "atomic_gradients",
    "build",
    "choose_shape",
    "energy_rows",
    "gradient_chunks",
    "load_factor",
    "parameter_count",
    "solve_vector",
    "structure_gradients",
]
