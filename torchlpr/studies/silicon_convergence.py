"""Errors of energies and forces against the number of training structures, and of crystals.

Source: Yoo et al., Phys. Rev. Mater. 3, 093802 (2019), Supplemental Material, Fig. S3, on which
forces of slabs converge with their number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from torchlpr.descriptors.soap import SOAP
from torchlpr.models import CompositionBaseline, SparseKernelModel
from torchlpr.models.inducing import select_inducing
from torchlpr.objective import Objective
from torchlpr.rigidity import Rigidity
from torchlpr.structures.batch import AtomBatch
from torchlpr.studies.silicon_structures import crystals, nano_clusters, rattled, slab
from torchlpr.training import energy_rmse, fit, force_rmse

__all__ = ["KINDS", "SizeResult", "convergence"]

KINDS = ("crystal", "slab", "nano-cluster")


@dataclass(frozen=True)
class SizeResult:
    """A model of some structures of one kind.

    Attributes:
        kind: crystal, slab or nano-cluster.
        size: training structures.
        seed: of their choice.
        energy_train: RMSE of training energies, eV/atom.
        energy_test: RMSE of held-out energies, eV/atom.
        force_train: RMSE of training forces, eV/Å.
        force_test: RMSE of held-out forces, eV/Å.
        crystal_error: RMSE of single-environment crystals, none of them trained on, eV/atom.
        crystal_lpr: median rigidity of them, 1/eV^2.
    """

    kind: str
    size: int
    seed: int
    energy_train: float
    energy_test: float
    force_train: float
    force_test: float
    crystal_error: float
    crystal_lpr: float


def convergence(
    soap: SOAP,
    points: AtomBatch,
    sizes: Sequence[int],
    seeds: Sequence[int],
    n_test: int,
    layers: int,
    amplitude: float,
    strain: float,
    references: int,
    zeta: int,
    objective: Objective,
) -> list[SizeResult]:
    """Train kernel heads on energies and forces of more and more structures of each kind.

    Args:
        soap: the descriptor.
        points: crystals of a single environment, with their energies.
        sizes: numbers of training structures.
        seeds: of the draws from those that are not held out.
        n_test: structures held out of each kind.
        layers: of the slabs.
        amplitude: of the displacements, Å.
        strain: of the crystals, largest entry.
        references: environments of the heads at most.
        zeta: exponent of the kernel.
        objective: the loss, with forces.

    Returns:
        One result for each kind, size and seed.
    """
    results = []
    starts = {"crystal": crystals(), "slab": [slab(layers)], "nano-cluster": nano_clusters()}
    for number, kind in enumerate(KINDS):
        many = n_test + 2 * max(sizes)
        bend = strain if kind == "crystal" else 0.0
        frames = rattled(starts[kind], many, amplitude, 100 + number, bend)
        batch = soap(frames, derivatives=True)
        for seed in seeds:
            order = np.random.default_rng(seed).permutation(np.arange(n_test, many)).tolist()
            for size in sizes:
                train = batch.select(order[:size])
                baseline = CompositionBaseline.fit(train)
                sets = (train, batch.select(range(n_test)), points)
                results.append(
                    _result(
                        kind,
                        seed,
                        [baseline.subtract(b) for b in sets],
                        references,
                        zeta,
                        objective,
                    )
                )
    return results


def _result(
    kind: str,
    seed: int,
    sets: Sequence[AtomBatch],
    references: int,
    zeta: int,
    objective: Objective,
) -> SizeResult:
    train, test, points = sets
    model = SparseKernelModel(select_inducing(train, references, zeta), zeta)
    fit(model, train, objective, progress=False)
    return SizeResult(
        kind,
        train.n_structures,
        seed,
        energy_train=energy_rmse(model, train),
        energy_test=energy_rmse(model, test),
        force_train=float(force_rmse(model, train) or np.nan),
        force_test=float(force_rmse(model, test) or np.nan),
        crystal_error=energy_rmse(model, points),
        crystal_lpr=float(Rigidity(model, train, objective).local(points).median()),
    )
