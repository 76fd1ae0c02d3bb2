"""Curvature of the loss: gradients, rows, and the factorised Gauss-Newton Hessian."""

from torchlpr.curvature.accumulators import Accumulator, RowAccumulator, TriangleAccumulator
from torchlpr.curvature.distinct import distinct_environments
from torchlpr.curvature.factor import Factor, QuadraticForm, UpdatableFactor, solve_vector
from torchlpr.curvature.feature_span import FeatureSpan, feature_span_of_rows
from torchlpr.curvature.gauss_newton import build, build_matrix_free, choose_shape, load_factor
from torchlpr.curvature.gradients import (
    atomic_gradients,
    check_parameters,
    gradient_chunks,
    parameter_count,
)
from torchlpr.curvature.matrix_free import Bounds, MatrixFree, MatrixFreeSettings
from torchlpr.curvature.memory import Memory, predict_memory
from torchlpr.curvature.products import DenseRows, ModelRows, RowProducts
from torchlpr.curvature.row_space import RowSpace
from torchlpr.curvature.rows import energy_rows, structure_chunks, structure_gradients
from torchlpr.curvature.spectrum import Spectrum
from torchlpr.curvature.streaming import accumulate, accumulate_batch
from torchlpr.curvature.subsets import Subset, parameter_subset
from torchlpr.curvature.sweep import Sweep

__all__ = [
    "Accumulator",
    "Bounds",
    "DenseRows",
    "Factor",
    "FeatureSpan",
    "MatrixFree",
    "MatrixFreeSettings",
    "Memory",
    "ModelRows",
    "QuadraticForm",
    "RowAccumulator",
    "RowProducts",
    "RowSpace",
    "Spectrum",
    "Subset",
    "Sweep",
    "TriangleAccumulator",
    "UpdatableFactor",
    "accumulate",
    "accumulate_batch",
    "atomic_gradients",
    "build",
    "build_matrix_free",
    "check_parameters",
    "choose_shape",
    "distinct_environments",
    "energy_rows",
    "feature_span_of_rows",
    "gradient_chunks",
    "load_factor",
    "parameter_count",
    "parameter_subset",
    "predict_memory",
    "solve_vector",
    "structure_chunks",
    "structure_gradients",
]
