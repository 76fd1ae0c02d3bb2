"""A function learned from sums of it: what a network can and cannot infer, and how LPR tells.

Source: Yoo et al., Phys. Rev. Mater. 3, 093802 (2019), Supplemental Material, Fig. S4. The paper
gives the network (8-30-30-1), the encoding (8 G2), the sums (of f at five random x) and their
numbers; knots, parameters of the G2, initial weights and optimiser are this package's choice.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from torchlpr.descriptors.scalar import ScalarFunctions
from torchlpr.errors import InputError
from torchlpr.extras import require
from torchlpr.models import BehlerParrinelloMLP
from torchlpr.objective import Objective
from torchlpr.rigidity import Rigidity
from torchlpr.training import LMSettings, Stationarity, energy_rmse, fit

__all__ = ["SplineFit", "SplineSettings", "spline", "spline_fit", "spline_fits"]

KNOTS = (0.6, -0.4, 0.8, -0.9, 0.3, 1.0, -0.2)
GRID = 301
TEST_SUMS = 1000


@dataclass(frozen=True)
class SplineSettings:
    """The settings of the study.

    Attributes:
        sizes: numbers of training sums.
        seeds: seeds of the sums and of the initial weights.
        terms: numbers in a sum.
        hidden: widths of the network's hidden layers, sigmoid, with biases.
        n_features: G2 functions.
        width: of their Gaussians.
        cutoff: of their cosine cutoff.
        l2: weight of |w|^2 beside the mean squared error of the sums over ``terms``.
        deviation: standard deviation of the initial weights, normal, cut at two deviations.
        steps: Levenberg-Marquardt steps at most.
        newton_steps: Newton steps at most.
        tolerance: gradient norm relative to mu |w| at which they stop.
    """

    sizes: list[int] = field(default_factory=lambda: [1, 2, 5, 10, 20, 50, 100])
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2, 3])
    terms: int = 5
    hidden: list[int] = field(default_factory=lambda: [30, 30])
    n_features: int = 8
    width: float = 0.6
    cutoff: float = 7.0
    l2: float = 1e-6
    deviation: float = 0.3
    steps: int = 400
    newton_steps: int = 500
    tolerance: float = 1e-6

    def __post_init__(self) -> None:
        if not self.sizes or not self.seeds or min(self.sizes) < 1 or self.terms < 1:
            raise InputError(
                f"sizes, seeds and terms must be there and positive, not {self.sizes}, "
                f"{self.seeds} and {self.terms}"
            )


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

    def as_row(self) -> dict[str, float | int | bool]:
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


def spline_fit(size: int, seed: int, settings: SplineSettings | None = None) -> SplineFit:
    """Train a network on sums of f at random x.

    Args:
        size: number of training sums.
        seed: of the numbers in the sums and of the initial weights.
        settings: of the study.

    Returns:
        The network's f and its rigidity.
    """
    chosen = settings or SplineSettings()
    upper = len(KNOTS) - 1.0
    encode = ScalarFunctions(0.0, upper, chosen.n_features, chosen.width, chosen.cutoff)
    generator = torch.Generator().manual_seed(seed)

    def draw(n: int) -> Tensor:
        return upper * torch.rand(n, chosen.terms, generator=generator, dtype=torch.float64)

    def sums(x: Tensor) -> Tensor:
        return spline(x).sum(dim=1)

    test_x, train_x = draw(TEST_SUMS), draw(size)
    train = encode(train_x, sums(train_x))
    model = BehlerParrinelloMLP(encode.n_features, [1], chosen.hidden, "sigmoid", bias=True)
    _start(model, chosen.deviation, generator)
    # mean_A (sum_A/terms)^2 + l2 |w|^2, times size/2, is the half convention with this mu
    objective = Objective(mu=size * chosen.l2)
    lm = LMSettings(chosen.steps, chosen.tolerance, chosen.newton_steps)
    result = fit(model, train, objective, "lm", lm_settings=lm, progress=False)
    x = encode.grid(GRID)
    grid = encode(x[:, None])
    with torch.no_grad():
        prediction = model(grid.features, grid.types)
    return SplineFit(
        size,
        seed,
        x,
        spline(x),
        prediction,
        Rigidity(model, train, objective).local(grid),
        train_x.flatten(),
        chosen.terms * result.rmse,
        chosen.terms * energy_rmse(model, encode(test_x, sums(test_x))),
        result.stationarity,
    )


def spline_fits(settings: SplineSettings | None = None, progress: bool = True) -> list[SplineFit]:
    """All fits of the study, sizes outermost.

    Args:
        settings: of the study.
        progress: whether to show a bar.

    Returns:
        One fit for each size and seed.
    """
    chosen = settings or SplineSettings()
    todo = [(size, seed) for size in chosen.sizes for seed in chosen.seeds]
    bar = tqdm(todo, desc="spline", unit="fit", disable=not progress)
    return [spline_fit(size, seed, chosen) for size, seed in bar]


def _start(model: nn.Module, deviation: float, generator: torch.Generator) -> None:
    """Weights from a normal distribution cut at two deviations, biases zero."""
    for parameter in model.parameters():
        if parameter.ndim == 1:
            nn.init.zeros_(parameter)
            continue
        cut = 2 * deviation
        nn.init.trunc_normal_(parameter, 0.0, deviation, -cut, cut, generator=generator)
