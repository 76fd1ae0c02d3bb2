"""The function that the spline study hides in sums, and what became of it in a trained network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from torchlpr.extras import require
from torchlpr.training import Stationarity

__all__ = ["KNOTS", "UPPER", "SplineFit", "spline"]

KNOTS = (0.6, -0.4, 0.8, -0.9, 0.3, 1.0, -0.2)
UPPER = len(KNOTS) - 1.0  # x goes from 0 to here


@dataclass(frozen=True)
class SplineFit:
    """A network trained on some sums, and what became of f.

    Attributes:
        size: number of training sums.
        seed: of sums and weights.
        x: an even grid, shape (grid,).
        truth: f on it, shape (grid,).
        prediction: the network's f on it, shape (grid,).
        lpr: rigidity of each prediction, shape (grid,).
        train_x: numbers in the training sums, shape (size x terms,).
        train_rmse: of the training sums.
        test_rmse: of a thousand other sums.
        stationarity: how close the weights are to a minimum.
    """

    size: int
    seed: int
    x: Tensor
    truth: Tensor
    prediction: Tensor
    lpr: Tensor
    train_x: Tensor
    train_rmse: float
    test_rmse: float
    stationarity: Stationarity

    @property
    def rmse(self) -> float:
        """RMSE of f on the grid."""
        return float((self.prediction - self.truth).square().mean().sqrt())

    def as_row(self) -> dict[str, float]:
        """The numbers of a table."""
        quartiles = torch.quantile(self.lpr, self.lpr.new_tensor([0.25, 0.5, 0.75])).tolist()
        return {
            "size": self.size,
            "seed": self.seed,
            "rmse_f": self.rmse,
            "rmse_train_sums": self.train_rmse,
            "rmse_test_sums": self.test_rmse,
            "lpr_quartile_1": quartiles[0],
            "lpr_median": quartiles[1],
            "lpr_quartile_3": quartiles[2],
            "relative_gradient": self.stationarity.relative_gradient,
            "vertex_shift": self.stationarity.vertex_shift,
        }


def spline(x: Tensor) -> Tensor:
    """The function to be learned: the natural cubic spline through seven knots at x = 0..6.

    Args:
        x: numbers from 0 to 6.

    Returns:
        f(x), of the same shape, float64.

    Raises:
        MissingExtraError: if scipy is not installed (extra ``sklearn``).
    """
    interpolate = require("scipy.interpolate", "sklearn")
    f = interpolate.CubicSpline(np.arange(len(KNOTS)), KNOTS, bc_type="natural")
    return torch.from_numpy(f(x.detach().cpu().numpy()))
