"""One variant of the network: training, validity, rigidities and committees."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from torchlpr.analysis.rank_statistics import log_slope, spearman
from torchlpr.committee import Committee
from torchlpr.models import BehlerParrinelloMLP, LinearModel
from torchlpr.objective import Objective
from torchlpr.rigidity import Rigidity
from torchlpr.structures.batch import AtomBatch
from torchlpr.studies.deep_linear import as_ridge
from torchlpr.training import (
    AdamSettings,
    FitResult,
    LMSettings,
    Stationarity,
    energy_rmse,
    fit,
    stationarity,
)

__all__ = [
    "CONVERGED",
    "DRAWN",
    "EARLY",
    "LINEAR",
    "SUBSAMPLED",
    "NetworkOptions",
    "NetworkSets",
    "Variant",
    "train",
]

CONVERGED, EARLY, LINEAR = "converged", "early-stopped", "linear"
SUBSAMPLED, DRAWN = "subsampled", "sample-then-optimise"


@dataclass(frozen=True)
class NetworkOptions:
    """How the networks and their committees are trained.

    Attributes:
        hidden: widths of the hidden layers.
        mu: strength of the L2 term, eV^2; that of all rigidities.
        early_mu: of the early-stopped network while it trains: the stop takes the place of L2.
        epochs: of Adam, at most.
        patience: epochs without a lower validation error after which Adam stops.
        members: of the committees.
        fraction: of the training set that each member of a subsampled committee sees.
        member_steps: Levenberg-Marquardt steps of a member at most.
        many: members by sample-then-optimise of the ridge regression that the linear network is.
        seed: of initial weights and of committees.
    """

    hidden: tuple[int, ...] = (16, 16)
    mu: float = 1e-3
    early_mu: float = 1e-7
    epochs: int = 25_000
    patience: int = 100
    members: int = 10
    fraction: float = 0.8
    member_steps: int = 100
    many: int = 1000
    seed: int = 0


@dataclass(frozen=True)
class NetworkSets:
    """Described structures with one baseline subtracted.

    Attributes:
        train: trained on.
        validation: decides when to stop early.
        test: held out.
        film: the large structure whose atoms are looked at.
    """

    train: AtomBatch
    validation: AtomBatch
    test: AtomBatch
    film: AtomBatch


@dataclass(frozen=True)
class Variant:
    """What one network says.

    Attributes:
        name: of the variant.
        model: the network.
        fit: how its training went.
        reached: how close it is to a minimum of the loss that the rigidities are of.
        test_rmse: of the energy per atom, eV.
        lpr: of the film's atoms, eV^-2, shape (atoms,).
        mu_fraction: share of the regulariser in it, shape (atoms,).
        committees: by kind, atomic energies of the members in eV, shape (members, atoms).
        seconds: processor time.
    """

    name: str
    model: BehlerParrinelloMLP
    fit: FitResult
    reached: Stationarity
    test_rmse: float
    lpr: Tensor
    mu_fraction: Tensor
    committees: dict[str, Tensor]
    seconds: float

    @property
    def relative_shift(self) -> float:
        """Largest vertex shift of a training atom over the spread of atomic energies."""
        return self.reached.vertex_shift / self.reached.local_std

    def slope(self, kind: str) -> float:
        """Slope of log committee variance against log LPR."""
        return log_slope(self.lpr, self.committees[kind].var(0))

    def rank(self, kind: str) -> float:
        """Spearman's coefficient of committee variance and LPR."""
        return spearman(self.lpr, self.committees[kind].var(0))


def train(name: str, sets: NetworkSets, options: NetworkOptions) -> Variant:
    """Train a network in one of three ways, and ask it and its committees about the film.

    Args:
        name: "converged" to a minimum of the loss, "early-stopped", or "linear" for a network
            without activation functions at its minimum.
        sets: the structures.
        options: of networks and committees.

    Returns:
        What it says.
    """
    start = time.process_time()
    activation = "linear" if name == LINEAR else "sigmoid"
    n_features = sets.train.features.shape[1]
    types = sets.train.types.unique().tolist()
    model = BehlerParrinelloMLP(n_features, types, options.hidden, activation, seed=options.seed)
    objective = Objective(options.mu)
    if name == EARLY:
        settings = AdamSettings(options.epochs, early_stopping=options.patience)
        loss = Objective(options.early_mu)
        result = fit(
            model, sets.train, loss, settings=settings, validation=sets.validation, progress=False
        )
        reached = stationarity(model, sets.train, objective)
    else:
        result = fit(model, sets.train, objective, progress=False)
        reached = result.stationarity
    lpr, mu_fraction = Rigidity(model, sets.train, objective).atoms(sets.film)
    return Variant(
        name,
        model,
        result,
        reached,
        energy_rmse(model, sets.test),
        lpr,
        mu_fraction,
        _committees(name, model, result, sets, options),
        time.process_time() - start,
    )


def _committees(
    name: str,
    model: BehlerParrinelloMLP,
    result: FitResult,
    sets: NetworkSets,
    options: NetworkOptions,
) -> dict[str, Tensor]:
    """Energies of members that see a share of the structures; of the linear network others too."""
    objective = Objective(options.mu)
    # from the network's own weights: rigidity describes the valley that they lie in
    lm = LMSettings(options.member_steps, 1e-3)
    settings: dict[str, Any] = {"lm_settings": lm, "start": "model"}
    if name == EARLY:  # each for as long as the one that the validation set stopped
        objective = Objective(options.early_mu)
        best = min(range(len(result.epochs)), key=lambda epoch: result.epochs[epoch][3])
        settings = {"settings": AdamSettings(best + 1)}
    common: dict[str, Any] = {"seed": options.seed, "progress": False}
    fresh = Committee.train(
        model,
        sets.train,
        objective,
        options.members,
        "subsample",
        fraction=options.fraction,
        **common,
        **settings,
    )
    energies = {SUBSAMPLED: fresh.predict(sets.film).atoms.members}
    if name == LINEAR:
        ridge = LinearModel(model.n_features, model.types)
        drawn = Committee.train(
            ridge, as_ridge(model, sets.train), objective, options.many, **common
        )
        energies[DRAWN] = drawn.predict(as_ridge(model, sets.film)).atoms.members
    return energies
