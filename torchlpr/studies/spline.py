"""A function learned from sums of it: what a network can and cannot infer, and how LPR tells.

Source: Yoo et al., Phys. Rev. Mater. 3, 093802 (2019), Supplemental Material, Fig. S4. The paper
gives the network (8-30-30-1), the encoding (8 G2), the sums (of f at five random x) and their
numbers; knots, parameters of the G2, initial weights and optimiser are this package's choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from torchlpr.bars import bar
from torchlpr.descriptors.scalar import ScalarFunctions
from torchlpr.errors import InputError
from torchlpr.models import BehlerParrinelloMLP
from torchlpr.objective import Objective
from torchlpr.pipeline.figures import have_plots
from torchlpr.rigidity import Rigidity
from torchlpr.studies.report import Claim, StudyReport, write_table
from torchlpr.studies.spline_data import UPPER, SplineFit, spline
from torchlpr.studies.spline_figures import convergence_figure, panels_figure
from torchlpr.training import LMSettings, energy_rmse, fit

GRID = 301
TEST_SUMS = 1000

__all__ = ["Settings", "run", "spline_claims", "spline_fit"]


@dataclass(frozen=True)
class Settings:
    """Of the study.

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


def run(settings: Settings, folder: Path, quick: bool) -> StudyReport:
    """Run the study.

    Args:
        settings: its own.
        folder: for figures and tables.
        quick: the first seed only.

    Returns:
        The report.
    """
    seeds = settings.seeds[:1] if quick else settings.seeds
    todo = [(size, seed) for size in settings.sizes for seed in seeds]
    fits = []
    with bar(len(todo), "spline", "fit") as shown:
        for size, seed in todo:
            fits.append(spline_fit(size, seed, settings))
            shown.update()
    first = [fit for fit in fits if fit.seed == seeds[0]]
    _tables(folder, fits, first)
    if have_plots():
        panels_figure(folder / "panels.png", first)
        convergence_figure(folder / "convergence.png", fits)
    text = f"sums of a known function at {settings.terms} random x, seeds {seeds}"
    return StudyReport("spline", text, tuple(spline_claims(fits)), folder)


def spline_fit(size: int, seed: int, settings: Settings | None = None) -> SplineFit:
    """Train a network on sums of f at random x.

    Args:
        size: number of training sums.
        seed: of the numbers in the sums and of the initial weights.
        settings: of the study.

    Returns:
        The network's f and its rigidity.
    """
    chosen = settings or Settings()
    encode = ScalarFunctions(0.0, UPPER, chosen.n_features, chosen.width, chosen.cutoff)
    generator = torch.Generator().manual_seed(seed)

    def draw(n: int) -> Tensor:
        return UPPER * torch.rand(n, chosen.terms, generator=generator, dtype=torch.float64)

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


def spline_claims(fits: Sequence[SplineFit]) -> list[Claim]:
    """What the study has to show, for the worst of the seeds.

    Few sums say nothing of f and many say all; the rigidity tells them apart while the training
    error does not.

    Args:
        fits: any; claims on sizes that are absent are left out.

    Returns:
        The claims.
    """
    spread = float(fits[0].truth.std(correction=0))
    claims = []
    if few := [fit for fit in fits if fit.size <= 2]:
        ratio = min(fit.rmse for fit in few) / spread
        claims.append(Claim("N <= 2: RMSE of f over 0.7 of its spread", ratio, ratio > 0.7))
        error = max(fit.train_rmse for fit in few)
        claims.append(Claim("N <= 2: RMSE of the training sums under 1e-3", error, error < 1e-3))
    if many := [fit for fit in fits if fit.size >= 50]:
        ratio = max(fit.rmse for fit in many) / spread
        claims.append(Claim("N >= 50: RMSE of f under 0.02 of its spread", ratio, ratio < 0.02))
    low, high = ([float(f.lpr.median()) for f in fits if f.size == size] for size in (2, 100))
    if low and high:
        rise = min(high) / max(low)
        text = "median LPR rises over a thousandfold from N = 2 to 100"
        claims.append(Claim(text, rise, rise > 1e3))
    return claims


def _start(model: nn.Module, deviation: float, generator: torch.Generator) -> None:
    """Weights from a normal distribution cut at two deviations, biases zero."""
    for parameter in model.parameters():
        if parameter.ndim == 1:
            nn.init.zeros_(parameter)
            continue
        cut = 2 * deviation
        nn.init.trunc_normal_(parameter, 0.0, deviation, -cut, cut, generator=generator)


def _tables(folder: Path, fits: Sequence[SplineFit], first: Sequence[SplineFit]) -> None:
    rows = [fit.as_row() for fit in fits]
    write_table(folder / "spline.csv", {name: [row[name] for row in rows] for name in rows[0]})
    columns = {"f": "truth", "network": "prediction", "lpr": "lpr"}
    curves = {"size": [fit.size for fit in first for _ in fit.x]}
    curves |= {"x": torch.cat([fit.x for fit in first]).tolist()}
    curves |= {
        name: torch.cat([getattr(fit, attribute) for fit in first]).tolist()
        for name, attribute in columns.items()
    }
    write_table(folder / "curves.csv", curves)
