"""Silicon of density functional theory: strained crystals as invariant points.

No partition of the energy is needed: the atomic energy of a structure of a single environment is
E/n. Molecular dynamics, vacancies and surfaces are trained on; which crystals to add is asked of
the rigidity, from their geometries alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import ase
import numpy as np
import torch
from torch import Tensor

from torchlpr.calibration import single_environment
from torchlpr.curvature.rows import structure_gradients
from torchlpr.descriptors.soap import SOAP
from torchlpr.design.greedy import greedy_design
from torchlpr.design.structures import candidate_rows
from torchlpr.models import CompositionBaseline, LinearModel
from torchlpr.objective import Objective
from torchlpr.rigidity import Rigidity
from torchlpr.structures.batch import AtomBatch
from torchlpr.structures.io import read
from torchlpr.studies.data_choice import shared_file
from torchlpr.training import energy_rmse, fit
from torchlpr.training.errors import energy_errors

__all__ = ["DFTStage", "invariant_points", "run_dft"]

FILE = "si_ge_mlearn/si.xyz"
CRYSTALS = "Elastic"
SAME = 1e-3  # relative distance of two environments that count as one, as of equivalent strains


@dataclass(frozen=True)
class DFTStage:
    """A model after some crystals were added.

    Attributes:
        seed: of the structures held out.
        added: crystals in the training set.
        errors: of the crystals that are never added, eV/atom.
        lpr: of their atoms, 1/eV^2.
        test_rmse: of held-out ordinary structures, eV/atom.
        train_rmse: of the training set, eV/atom.
        n_train: ordinary structures in it.
        picks: numbers of the crystals in the order of the design.
    """

    seed: int
    added: int
    errors: Tensor
    lpr: Tensor
    test_rmse: float
    train_rmse: float
    n_train: int
    picks: list[int]

    @property
    def invariant_rmse(self) -> float:
        """RMSE of the crystals that are never added, eV/atom."""
        return float(self.errors.square().mean().sqrt())


def run_dft(seeds: Sequence[int], added: Sequence[int], mu: float) -> list[DFTStage]:
    """Train linear heads on energies, with more and more of the crystals that a design names.

    Args:
        seeds: of the fifth of the structures that is held out.
        added: numbers of crystals, ascending from 0.
        mu: strength of the L2 term, eV^2.

    Returns:
        One stage for each seed and number.

    Raises:
        InputError: if the shared data are not there.
    """
    frames = read(shared_file(FILE, "silicon with energies of density functional theory"))
    soap = SOAP(
        cutoff=5.0,
        max_radial=7,
        max_angular=6,
        width=0.5,
        smoothing=0.5,
        types=["Si"],
    )
    ordinary = soap([f for f in frames if f.info["config_type"] != CRYSTALS])
    points = invariant_points(soap, [f for f in frames if f.info["config_type"] == CRYSTALS])
    return [
        stage for seed in seeds for stage in _one_seed(ordinary, points, seed, added, Objective(mu))
    ]


def invariant_points(soap: SOAP, frames: Sequence[ase.Atoms]) -> AtomBatch:
    """Those of some structures that have a single environment, equivalent ones once.

    Args:
        soap: the descriptor.
        frames: structures with energies.

    Returns:
        The structures.
    """
    batch = soap(frames)
    first = batch.counts.cumsum(0) - batch.counts
    kept = list[int]()
    for k in single_environment(batch).nonzero().squeeze(1).tolist():
        x = batch.features[first[k]]
        away = (batch.features[first[kept]] - x).norm(dim=1)
        if bool((away > SAME * x.norm()).all()):
            kept.append(k)
    return batch.select(kept)


def _one_seed(
    ordinary: AtomBatch, points: AtomBatch, seed: int, added: Sequence[int], objective: Objective
) -> list[DFTStage]:
    order = torch.from_numpy(np.random.default_rng(seed).permutation(ordinary.n_structures))
    fifth = len(order) // 5
    train = ordinary.select(order[fifth:])
    baseline = CompositionBaseline.fit(train)
    sets = (train, ordinary.select(order[:fifth]), points)
    train, test, points = (baseline.subtract(batch) for batch in sets)
    model = LinearModel(train.features.shape[1], ["Si"])
    rigidity = Rigidity(model, train, objective)
    targets = structure_gradients(model, points, 1 / points.counts)
    rows = candidate_rows(rigidity, [points])
    picks = greedy_design(rigidity.factor, rows, targets, max(added), "A").picks
    held_out = points.select([k for k in range(points.n_structures) if k not in picks])
    first = held_out.counts.cumsum(0) - 1
    stages = []
    for n in added:
        more = AtomBatch.cat([train, points.select(picks[:n])]) if n else train
        fit(model, more, objective, progress=False)
        stages.append(
            DFTStage(
                seed,
                n,
                energy_errors(model, held_out),
                Rigidity(model, more, objective).local(held_out)[first],
                energy_rmse(model, test),
                energy_rmse(model, more),
                train.n_structures,
                picks,
            )
        )
    return stages
