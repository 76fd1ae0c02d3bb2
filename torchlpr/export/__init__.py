"""Trained models on disk and in other programs."""

from torchlpr.export.calculator import Calculator
from torchlpr.export.metatomic import export_metatomic
from torchlpr.export.run import Prediction, Run, load

__all__ = ["Calculator", "Prediction", "Run", "export_metatomic", "load"]
