"""Rigidity of local and total predictions: thin over curvature."""

from torchlpr.rigidity.attribution import Attribution, attribute, row_shares
from torchlpr.rigidity.evaluation import Evaluation, Interval
from torchlpr.rigidity.gradient import rigidity_by_features, rigidity_by_positions
from torchlpr.rigidity.offset import offset_rigidity
from torchlpr.rigidity.prediction import prediction_rigidity
from torchlpr.rigidity.rigidity import Rigidity

__all__ = [
    "Attribution",
    "Evaluation",
    "Interval",
    "Rigidity",
    "attribute",
    "offset_rigidity",
    "prediction_rigidity",
    "rigidity_by_features",
    "rigidity_by_positions",
    "row_shares",
]
