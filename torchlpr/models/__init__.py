"""Models: (features, types) to atomic energies, in pure torch."""

from torchlpr.models.baseline import CompositionBaseline
from torchlpr.models.kernel import SparseKernelModel
from torchlpr.models.linear import LinearInParameters, LinearModel
from torchlpr.models.mlp import BehlerParrinelloMLP
from torchlpr.models.state import load_model, model_state

__all__ = [
    "BehlerParrinelloMLP",
    "CompositionBaseline",
    "LinearInParameters",
    "LinearModel",
    "SparseKernelModel",
    "load_model",
    "model_state",
]
