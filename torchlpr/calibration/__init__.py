"""Uncertainties from rigidities: the scale alpha, and how well it holds."""

from torchlpr.calibration.alpha import Alpha, Method, fit_alpha
from torchlpr.calibration.calibration import (
    Calibration,
    atom_groups,
    calibrate,
    structure_groups,
)
from torchlpr.calibration.invariant import single_environment
from torchlpr.calibration.metrics import Reliability, miscalibration_area, reliability

__all__ = [
    "Alpha",
    "Calibration",
    "Method",
    "Reliability",
    "atom_groups",
    "calibrate",
    "fit_alpha",
    "miscalibration_area",
    "reliability",
    "single_environment",
    "structure_groups",
]
