"""Silicon slabs of one thickness: totals and forces are learned, atomic energies are not.

Every slab has the same numbers of surface and of bulk-like atoms, so that energy can move from
the ones to the others without a trace. A crystal, or a slab of another thickness, ends that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import ase
import numpy as np
import torch

from torchlpr.analysis.single_linkage import ClusterGap, SingleLinkage, single_linkage
from torchlpr.descriptors.soap import SOAP
from torchlpr.models import CompositionBaseline, LinearInParameters, LinearModel, SparseKernelModel
from torchlpr.models.inducing import select_inducing
from torchlpr.monitor import InvariantPointMonitor
from torchlpr.objective import Objective
from torchlpr.rigidity import Rigidity
from torchlpr.structures.batch import AtomBatch
from torchlpr.studies.silicon_stage import SlabStage
from torchlpr.studies.silicon_structures import is_surface, rattled, slab, strained_crystals
from torchlpr.training import energy_rmse, fit, force_rmse
from torchlpr.training.errors import energy_errors

__all__ = ["Head", "SlabSets", "linear_head"]

Head = Callable[[AtomBatch], LinearInParameters]


class SlabSets:
    """Slabs, crystals, and slabs of other thickness, described.

    Args:
        soap: the descriptor.
        n: slabs to train on.
        n_test: slabs held out.
        layers: of the slabs.
        others: layers of the slabs of other thickness.
        strained: deformed crystals.
        amplitude: of the displacements of all atoms of slabs, Å.
        seed: of the displacements.

    Attributes:
        test_frames: the held-out slabs.
        points_frames: the crystal, then its deformations.
        train: with derivatives and forces.
        test: held out, with derivatives and forces.
        points: described.
        others: by layers, one slab of other thickness each.
        baseline: energy of an atom, from the training slabs.
        linkage: single-linkage clustering of the training environments.
        gap: the two clusters.
        labels: cluster of each training atom, shape (atoms,).
        surface: which atoms of held-out slabs have fewer than four neighbours, shape (atoms,).
        site_energies: the teacher's energies of these atoms, eV, shape (atoms,).
    """

    def __init__(
        self,
        soap: SOAP,
        n: int,
        n_test: int,
        layers: int,
        others: Sequence[int],
        strained: int,
        amplitude: float,
        seed: int,
    ) -> None:
        frames = rattled([slab(layers)], n + n_test, amplitude, seed)
        self.test_frames = frames[n:]
        self.points_frames = strained_crystals(strained, seed)
        thick = rattled([slab(k) for k in others], len(others), amplitude, seed + 1)
        train = soap(frames[:n], derivatives=True)
        self.baseline = CompositionBaseline.fit(train)

        def described(structures: Sequence[ase.Atoms]) -> AtomBatch:
            return self.baseline.subtract(soap(structures, derivatives=True))

        self.train = self.baseline.subtract(train)
        self.test = described(self.test_frames)
        self.points = described(self.points_frames)
        self.others = {k: described([frame]) for k, frame in zip(others, thick, strict=True)}
        self.linkage: SingleLinkage = single_linkage(self.train.features)
        gap = self.linkage.gap()
        assert gap is not None  # two big clusters: bulk-like and surface atoms
        self.gap: ClusterGap = gap
        self.labels = torch.from_numpy(gap.labels)
        self.surface = torch.from_numpy(is_surface(self.test_frames))
        sites = np.concatenate([frame.arrays["site_energy"] for frame in self.test_frames])
        self.site_energies = torch.from_numpy(sites)

    def kernel_head(self, n: int, zeta: int) -> Head:
        """Make heads with environments of the training slabs as references.

        Args:
            n: of the references.
            zeta: exponent of the kernel.

        Returns:
            Function of a training set, all heads with the same references.
        """
        inducing = select_inducing(self.train, n, zeta)
        return lambda _: SparseKernelModel(inducing, zeta)

    def stage(
        self,
        name: str,
        head: Head,
        trained: str,
        objective: Objective,
        other: AtomBatch | None = None,
    ) -> SlabStage:
        """Train a head, and look at slabs, crystals and the offset.

        Args:
            name: of the head.
            head: makes it.
            trained: what the training set is.
            objective: the loss.
            other: a structure that replaces the last slab, None for slabs only.

        Returns:
            What became of it.
        """
        train, labels = self.train, self.labels
        if other is not None:
            slabs = train.select(range(train.n_structures - 1))
            labels = torch.cat([labels[: len(slabs)], torch.full((len(other),), -1)])
            train = AtomBatch.cat([slabs, other])
        start = time.perf_counter()
        model = head(train)
        fit(model, train, objective, progress=False)
        monitor = InvariantPointMonitor(train, self.points, objective, labels=labels)
        report = monitor.report(model)
        rigidity = Rigidity(model, train, objective)
        held_out = rigidity.total(self.test)
        seconds = time.perf_counter() - start
        first = self.points.counts.cumsum(0) - 1  # one atom of each crystal stands for all
        with torch.no_grad():
            sites = model(self.test.features, self.test.types) + self.baseline.energies[0]
        shift = sites - self.site_energies
        return SlabStage(
            name,
            trained,
            train.n_structures,
            objective.force_weight,
            energy_rmse(model, self.test),
            float(force_rmse(model, self.test) or np.nan),
            energy_errors(model, self.points),
            rigidity.local(self.points)[first],
            float(held_out.median()),
            float(report.offset or np.nan),
            float(report.offset_floor or np.nan),
            report.gains[0],
            sites,
            float(shift[~self.surface].mean()),
            float(shift[self.surface].mean()),
            rigidity.local(self.test),
            str(report).split(": ", 1)[1],
            report.ad_hoc,
            seconds,
        )


def linear_head(train: AtomBatch) -> LinearModel:
    """A linear head for silicon.

    Args:
        train: the training set.

    Returns:
        The head, untrained.
    """
    return LinearModel(train.features.shape[1], ["Si"])
