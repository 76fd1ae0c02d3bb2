"""Curvature of the loss: gradients, rows, and the factorised Gauss-Newton Hessian."""

from torchlpr.curvature.factor import Factor, QuadraticForm, solve_vector
from torchlpr.curvature.gauss_newton import build, build_matrix_free, choose_shape, load_factor
from torchlpr.curvature.gradients import atomic_gradients, gradient_chunks, parameter_count
from torchlpr.curvature.matrix_free import Bounds, MatrixFree, MatrixFreeSettings
from torchlpr.curvature.products import DenseRows, ModelRows, RowProducts
from torchlpr.curvature.rows import energy_rows, structure_gradients
from torchlpr.curvature.subsets import Subset, parameter_subset

__all__ = [
    "Bounds",
    "DenseRows",
    "Factor",
    "MatrixFree",
    "MatrixFreeSettings",
    "ModelRows",
    "QuadraticForm",
    "RowProducts",
    "Subset",
    "atomic_gradients",
    "build",
    "build_matrix_free",
    "choose_shape",
    "energy_rows",
    "gradient_chunks",
    "load_factor",
    "parameter_count",
    "parameter_subset",
    "solve_vector",
    "structure_gradients",
]
