"""The cells of the demo: a pool to train on without and with defects, and held-out ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import ase
import numpy as np
import torch
from numpy.typing import NDArray

from torchlpr.descriptors.soap import SOAP
from torchlpr.models import CompositionBaseline
from torchlpr.structures.batch import AtomBatch
from torchlpr.structures.embedded import amorphous_silicon

__all__ = ["CLASSES", "Cells", "silicon_cells"]

REPLACED = 0.1
CLASSES = ("4-coordinated", "over-coordinated", "under-coordinated")


@dataclass
class Cells:
    """Batches with the baseline subtracted.

    Attributes:
        pool: training cells: those without defects, then those with.
        n_free: how many of the pool have no defects.
        validation: cells without defects, which choose mu.
        test_free: held-out cells without defects.
        test_defect: held-out cells with defects.
        frames: the latter as structures.
        classes: coordination class of each of their atoms.
        baseline: energy of an atom that was subtracted.
    """

    pool: AtomBatch
    n_free: int
    validation: AtomBatch
    test_free: AtomBatch
    test_defect: AtomBatch
    frames: list[ase.Atoms]
    classes: list[str]
    baseline: CompositionBaseline

    @property
    def before(self) -> AtomBatch:
        """The training set without defects."""
        return self.pool.select(torch.arange(self.n_free))

    @property
    def miscoordinated(self) -> NDArray[np.bool_]:
        """Which atoms of the held-out cells with defects are not 4-coordinated."""
        return np.array(self.classes) != CLASSES[0]

    def after(self, seed: int) -> AtomBatch:
        """As many training cells, a tenth of them replaced at random by cells with defects."""
        rng = np.random.default_rng(seed)
        n = round(REPLACED * self.n_free)
        kept = rng.choice(self.n_free, self.n_free - n, replace=False)
        added = rng.choice(np.arange(self.n_free, self.pool.n_structures), n, replace=False)
        return self.pool.select([*sorted(kept.tolist()), *sorted(added.tolist())])


def silicon_cells(soap: SOAP) -> Cells:
    """Embedded amorphous silicon, described.

    Args:
        soap: the descriptor.

    Returns:
        The cells.
    """
    free, defects = _classes("train")
    test_free, test_defect = _classes("test")
    baseline = CompositionBaseline.fit(soap(free))

    def describe(structures: Sequence[ase.Atoms]) -> AtomBatch:
        return baseline.subtract(soap(structures))

    coordination = np.concatenate([atoms.arrays["coordination"] for atoms in test_defect])
    return Cells(
        pool=describe([*free, *defects]),
        n_free=len(free),
        validation=describe(_classes("validation")[0]),
        test_free=describe(test_free),
        test_defect=describe(test_defect),
        frames=test_defect,
        classes=[CLASSES[int(np.sign(c - 4))] for c in coordination],
        baseline=baseline,
    )


def _classes(subset: str) -> tuple[list[ase.Atoms], list[ase.Atoms]]:
    """Cells without and with defects."""
    frames = amorphous_silicon(subset)
    free = [atoms for atoms in frames if atoms.info["class"] == "defect_free"]
    return free, [atoms for atoms in frames if atoms.info["class"] == "defect_containing"]
