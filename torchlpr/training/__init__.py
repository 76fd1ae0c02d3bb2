"""Training: Lightning for networks, closed forms for linear heads, and the minimum measured."""

from torchlpr.training.adam_settings import AdamSettings
from torchlpr.training.errors import energy_rmse, force_rmse
from torchlpr.training.fit import FitResult, fit
from torchlpr.training.lbfgs import LBFGSSettings, train_lbfgs
from torchlpr.training.mean_loss import mean_loss_objective
from torchlpr.training.network import train_network
from torchlpr.training.second_order_state import LMSettings
from torchlpr.training.stationarity import Stationarity, stationarity

__all__ = [
    "AdamSettings",
    "FitResult",
    "LBFGSSettings",
    "LMSettings",
    "Stationarity",
    "energy_rmse",
    "fit",
    "force_rmse",
    "mean_loss_objective",
    "stationarity",
    "train_lbfgs",
    "train_network",
]
