"""Trained models on disk and in other programs."""

from torchlpr.export.run import Prediction, Run, load

__all__ = ["Prediction", "Run", "load"]
