"""Rigidity of local and total predictions: thin over curvature."""

from torchlpr.rigidity.evaluation import Evaluation, Interval
from torchlpr.rigidity.offset import offset_rigidity
from torchlpr.rigidity.position_gradient import lpr_gradient
from torchlpr.rigidity.prediction import prediction_rigidity
from torchlpr.rigidity.rigidity import Rigidity

__all__ = [
    "Evaluation",
    "Interval",
    "Rigidity",
    "lpr_gradient",
    "offset_rigidity",
    "prediction_rigidity",
]
