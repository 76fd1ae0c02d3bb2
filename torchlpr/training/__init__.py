"""Training: Lightning for networks, closed forms for linear heads, and the minimum measured."""

from torchlpr.training.fit import FitResult, energy_rmse, fit, force_rmse
from torchlpr.training.network import AdamSettings, train_network
from torchlpr.training.second_order_state import LMSettings
from torchlpr.training.stationarity import Stationarity, stationarity

__all__ = [
    "AdamSettings",
    "FitResult",
    "LMSettings",
    "Stationarity",
    "energy_rmse",
    "fit",
    "force_rmse",
    "stationarity",
    "train_network",
]
