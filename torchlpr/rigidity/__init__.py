"""Rigidity of local and total predictions: thin over curvature."""

from torchlpr.rigidity.offset import offset_rigidity
from torchlpr.rigidity.prediction import prediction_rigidity
from torchlpr.rigidity.rigidity import Evaluation, Rigidity

__all__ = ["Evaluation", "Rigidity", "offset_rigidity", "prediction_rigidity"]
