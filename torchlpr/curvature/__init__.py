"""Curvature of the loss: gradients, rows, and the factorised Gauss-Newton Hessian."""

from torchlpr.curvature.accumulators import Accumulator, RowAccumulator, TriangleAccumulator
from torchlpr.curvature.factor import Factor, QuadraticForm, UpdatableFactor
from torchlpr.curvature.gauss_newton import build, choose_shape, load_factor
from torchlpr.curvature.gradients import atomic_gradients, gradient_chunks, parameter_count
from torchlpr.curvature.memory import Memory, predict_memory
from torchlpr.curvature.rows import energy_rows, structure_chunks, structure_gradients
from torchlpr.curvature.spectrum import Spectrum
from torchlpr.curvature.streaming import accumulate, accumulate_batch
from torchlpr.curvature.sweep import Sweep

__all__ = [
    "Accumulator",
    "Factor",
    "Memory",
    "QuadraticForm",
    "RowAccumulator",
    "Spectrum",
    "Sweep",
    "TriangleAccumulator",
    "UpdatableFactor",
    "accumulate",
    "accumulate_batch",
    "atomic_gradients",
    "build",
    "choose_shape",
    "energy_rows",
    "gradient_chunks",
    "load_factor",
    "parameter_count",
    "predict_memory",
    "structure_chunks",
    "structure_gradients",
]
