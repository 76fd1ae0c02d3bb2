"""Networks on symmetry functions, watched at the invariant points while they train on slabs."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from torchlpr.analysis.single_linkage import single_linkage
from torchlpr.descriptors.symmetry import SymmetryFunctions
from torchlpr.models import BehlerParrinelloMLP, CompositionBaseline
from torchlpr.monitor import InvariantPointMonitor, MappingReport
from torchlpr.objective import Objective
from torchlpr.structures.batch import AtomBatch
from torchlpr.structures.stillinger_weber import CUTOFF
from torchlpr.studies.silicon_stage import CRYSTAL, SLABS
from torchlpr.studies.silicon_structures import rattled, slab, strained_crystals
from torchlpr.training import AdamSettings, LMSettings, energy_rmse, fit, force_rmse

__all__ = ["NetworkRun", "watch_networks"]

HIDDEN = (15, 15)
REPORTS = 6  # of the monitor


@dataclass(frozen=True)
class NetworkRun:
    """A network trained on energies and forces.

    Attributes:
        trained: on what.
        seed: of the initial weights.
        reports: of the monitor: of some epochs of Adam, and the last one at the end, after
            Levenberg-Marquardt.
        slab_rmse: of held-out slabs, eV/atom.
        slab_force_rmse: of held-out slabs, eV/Å.
    """

    trained: str
    seed: int
    reports: list[MappingReport]
    slab_rmse: float
    slab_force_rmse: float

    @property
    def crystal_errors(self) -> list[float]:
        """RMSE of the deformed crystals, none of which is trained on, of each report, eV/atom."""
        return [float(np.sqrt(np.mean(np.square(r.errors[1:])))) for r in self.reports]


def watch_networks(
    seeds: Sequence[int],
    epochs: int,
    steps: int,
    n: int,
    n_test: int,
    layers: int,
    amplitude: float,
    objective: Objective,
) -> list[NetworkRun]:
    """Train networks on slabs, and on slabs of which one gave way to a crystal.

    Args:
        seeds: of the initial weights.
        epochs: of Adam, full batch, which are watched.
        steps: of Levenberg-Marquardt, which follow.
        n: slabs.
        n_test: slabs held out.
        layers: of the slabs.
        amplitude: of the displacements, Å.
        objective: the loss, with forces.

    Returns:
        The runs.
    """
    if not seeds:
        return []
    frames = rattled([slab(layers)], n + n_test, amplitude, 0)
    plain = SymmetryFunctions.standard(CUTOFF, ["Si"], n_radial=8, n_angular=2)
    describe = plain.scaled(frames[:n], "standard")
    train = describe(frames[:n], derivatives=True)
    baseline = CompositionBaseline.fit(train)
    train = baseline.subtract(train)
    test = baseline.subtract(describe(frames[n:], derivatives=True))
    points = baseline.subtract(describe(strained_crystals(3), derivatives=True))
    gap = single_linkage(train.features).gap()
    assert gap is not None  # two big clusters: bulk-like and surface atoms
    labels = torch.from_numpy(gap.labels)
    crystal, fewer = points.select([0]), train.select(range(n - 1))
    with_crystal = AtomBatch.cat([fewer, crystal])
    labels_with = torch.cat([labels[: len(fewer)], torch.full((len(crystal),), -1)])
    settings = AdamSettings(epochs=epochs, lr=0.01, final_lr=1.7e-4)  # the paper's rates
    runs = []
    for trained, batch, clusters in (
        (SLABS, train, labels),
        (CRYSTAL, with_crystal, labels_with),
    ):
        for seed in seeds:
            model = BehlerParrinelloMLP(
                train.features.shape[1], ["Si"], HIDDEN, "tanh", bias=True, seed=seed
            )
            every = max(1, epochs // REPORTS)
            watch = InvariantPointMonitor(batch, points, objective, every, clusters)
            with warnings.catch_warnings():
                # what it warns of is what the study shows
                warnings.filterwarnings("ignore", message=".*the mapping is ad hoc")
                fit(
                    model,
                    batch,
                    objective,
                    "adam+lm",
                    settings=settings,
                    lm_settings=LMSettings(steps, 1e-4, 0),
                    progress=False,
                    callbacks=[watch],
                )
            reports = [*watch.reports, watch.report(model, epochs + steps)]
            forces = float(force_rmse(model, test) or np.nan)
            runs.append(NetworkRun(trained, seed, reports, energy_rmse(model, test), forces))
    return runs
