"""Trained models on disk and in other programs."""

from torchlpr.export.bias import BiasedCalculator
from torchlpr.export.calculator import Calculator
from torchlpr.export.lpr_gradient import LprGradient, lpr_gradient
from torchlpr.export.metatomic import export_metatomic
from torchlpr.export.run import Prediction, Run, load

__all__ = [
    "BiasedCalculator",
    "Calculator",
    "LprGradient",
    "Prediction",
    "Run",
    "export_metatomic",
    "load",
    "lpr_gradient",
]
