"""The toy model: what rigidity means, where it is low, and what the regulariser does to it.

Source: Chong et al., J. Chem. Theory Comput. 19, 8020 (2023), figures S1 and S2; the function, the
groups and the basis are our own, since the supporting information does not give them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from torchlpr.bars import bar
from torchlpr.models import BehlerParrinelloMLP, LinearModel
from torchlpr.objective import Objective
from torchlpr.pipeline.figures import have_plots
from torchlpr.rigidity import Rigidity
from torchlpr.structures.batch import AtomBatch
from torchlpr.studies.report import Claim, StudyReport, write_table
from torchlpr.studies.toy_data import (
    GRID,
    Features,
    Floats,
    ToyData,
    points,
    radial_basis,
    scaled_input,
)
from torchlpr.studies.toy_figures import perturbation_figure, profile_figure, rise_figure
from torchlpr.studies.toy_results import Perturbation, Rise
from torchlpr.training import LMSettings, fit
from torchlpr.training.constrained import full_hessian_rigidity, minimise, retrain

OUTSIDE = np.array([-6.0, 18.0])  # far from every input, yet the basis does not underflow

__all__ = ["Settings", "perturb", "run"]


@dataclass(frozen=True)
class Settings:
    """Of the study.

    Attributes:
        seed: of the inputs.
        mus: strengths of the L2 term for the profile, eV^2.
        mu: the one for the perturbation.
        atom: which of the inputs is perturbed.
        shift: of the linear model's local prediction, eV.
        network_shift: of the network's, eV.
        hidden: width of the network.
    """

    seed: int = 7
    mus: tuple[float, ...] = (1e-6, 1e-4, 1e-2, 1.0)
    mu: float = 1e-4
    atom: int = 18
    shift: float = 1.19
    network_shift: float = 1.19
    hidden: int = 8


def run(settings: Settings, folder: Path, quick: bool) -> StudyReport:
    """Run the study.

    Args:
        settings: its own.
        folder: for figures and tables.
        quick: two shifts of each model instead of five.

    Returns:
        The report.
    """
    data = ToyData.draw(seed=settings.seed)
    objective = Objective(settings.mu)
    linear, network = _linear(data, objective), _network(data, objective, settings.hidden)
    n = 2 if quick else 5
    parts = [
        ("linear", linear, radial_basis, settings.shift, np.geomspace(1e-2, 1, n)),
        ("network", network, scaled_input, settings.network_shift, np.geomspace(1e-3, 0.1, n)),
    ]
    rises: dict[str, Rise] = {}
    moved: dict[str, Perturbation] = {}
    for name, model, features, shift, shifts in parts:
        moved[name] = perturb(model, data, features, objective, settings.atom, shift)
        rises[name] = _rise(model, data, features, objective, settings.atom, shifts)
        _tables(folder, name, moved[name], rises[name])
    profiles = {mu: _profile(data, mu) for mu in sorted(settings.mus)}
    columns = {f"lpr_mu_{mu:g}": p.tolist() for mu, p in profiles.items()}
    write_table(folder / "profile.csv", {"x": GRID.tolist()} | columns)
    if have_plots():
        for name, found in moved.items():
            perturbation_figure(folder / f"perturbed_{name}.png", data, found)
        profile_figure(folder / "profile.png", data, profiles)
        rise_figure(folder / "rise.png", rises)
    claims = (
        *_perturbation_claims(moved),
        *_curvature_claims(rises),
        *_profile_claims(data, profiles),
    )
    text = f"{len(data.x)} groups of {data.x.shape[1]} inputs of a known function"
    return StudyReport("toy_model", text, claims, folder)


def perturb(
    model: nn.Module,
    data: ToyData,
    features: Features,
    objective: Objective,
    atom: int,
    shift: float,
) -> Perturbation:
    """Move one local prediction and train again.

    Args:
        model: at its minimum.
        data: the groups.
        features: of the model.
        objective: the loss.
        atom: number of the input that is moved.
        shift: by how much, eV.

    Returns:
        Predictions before and after.
    """
    train, grid = data.train(features), points(GRID, features)
    x = data.x.ravel()[[atom]]
    other = retrain(model, train, objective, points(x, features), shift).model
    known = np.stack([_energies(m, train).numpy().reshape(data.x.shape) for m in (model, other)])
    before, after = (_energies(m, grid).numpy() for m in (model, other))
    return Perturbation(float(x[0]), before, after, known)


def _rise(
    model: nn.Module,
    data: ToyData,
    features: Features,
    objective: Objective,
    atom: int,
    shifts: Floats,
) -> Rise:
    train, one = data.train(features), points(data.x.ravel()[[atom]], features)
    rises = []
    with bar(len(shifts), "trained again", "shift") as shown:
        for eps in shifts.tolist():
            both = (retrain(model, train, objective, one, sign * eps).rise for sign in (1, -1))
            rises.append(sum(both) / 2)
            shown.update()
    full = full_hessian_rigidity(model, train, objective, one)
    gauss_newton = Rigidity(model, train, objective).local(one)
    return Rise(shifts, np.array(rises), float(full), float(gauss_newton))


def _linear(data: ToyData, objective: Objective) -> nn.Module:
    train = data.train(radial_basis)
    return minimise(LinearModel(train.features.shape[1], [1]), train, objective)


def _network(data: ToyData, objective: Objective, hidden: int) -> nn.Module:
    train = data.train(scaled_input)
    model = BehlerParrinelloMLP(1, [1], (hidden,), "tanh", bias=True, seed=0)
    fit(model, train, objective, "lm", lm_settings=LMSettings(3000), progress=False)
    return minimise(model, train, objective)


def _rigidity(data: ToyData, mu: float) -> Rigidity:
    model = LinearModel(radial_basis(GRID).shape[1], [1])
    return Rigidity(model, data.train(radial_basis), Objective(mu))


def _profile(data: ToyData, mu: float) -> Floats:
    return np.asarray(_rigidity(data, mu).local(points(GRID, radial_basis)).numpy())


def _energies(model: nn.Module, batch: AtomBatch) -> Tensor:
    with torch.no_grad():
        return torch.as_tensor(model(batch.features, batch.types))


def _tables(folder: Path, name: str, moved: Perturbation, rise: Rise) -> None:
    columns = {"x": GRID, "before": moved.before, "after": moved.after}
    write_table(folder / f"perturbed_{name}.csv", {k: v.tolist() for k, v in columns.items()})
    columns = {"shift": rise.shifts, "rise": rise.rises, "curvature": rise.curvatures}
    write_table(folder / f"rise_{name}.csv", {k: v.tolist() for k, v in columns.items()})


def _perturbation_claims(moved: dict[str, Perturbation]) -> list[Claim]:
    claims = []
    for name, found in moved.items():
        ratio = found.local_change / found.total_change
        text = f"{name}: a local change over 100 times the change of the totals"
        claims.append(Claim(text, ratio, ratio > 100))
    return claims


def _curvature_claims(rises: dict[str, Rise]) -> list[Claim]:
    linear, network = rises["linear"], rises["network"]
    exact = float(np.abs(linear.curvatures / linear.full - 1).max())
    same = abs(linear.gauss_newton / linear.full - 1)
    near = abs(float(network.curvatures[0]) / network.full - 1)
    gap = abs(network.gauss_newton / network.full - 1)
    return [
        Claim("linear: loss curvature is the LPR at every shift, to 1e-10", exact, exact < 1e-10),
        Claim("linear: Gauss-Newton and full Hessian agree to 1e-10", same, same < 1e-10),
        Claim("network: loss curvature is the full-Hessian LPR to 1e-4", near, near < 1e-4),
        Claim("network: the Gauss-Newton LPR is another (over 1 %)", gap, gap > 0.01),
    ]


def _profile_claims(data: ToyData, profiles: dict[float, Floats]) -> list[Claim]:
    ranges = [float(p.max() / p.min()) for p in profiles.values()]
    falls = ranges == sorted(ranges, reverse=True)
    profile = profiles[min(profiles)]
    means = np.interp(data.x.mean(1), GRID, profile)
    ratio = float(np.median(means) / np.median(profile))
    outside = points(OUTSIDE, radial_basis)
    sizes = outside.features.square().sum(1)
    floors = [_rigidity(data, mu).local(outside) * sizes / mu - 1 for mu in profiles]
    floor = max(float(f.abs().max()) for f in floors)
    return [
        Claim("range of the LPR over x at the smallest mu, over 1000", ranges[0], ranges[0] > 1e3),
        Claim("range at the largest mu; it falls with every mu", ranges[-1], falls),
        Claim("median LPR at group means over that at any x, over 2", ratio, ratio > 2),
        Claim("LPR outside the data is mu/|phi|^2 at every mu, to 1e-4", floor, floor < 1e-4),
    ]
