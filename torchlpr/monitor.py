"""Is the mapping of atomic energies right, or ad hoc? A callback that asks during training.

At an invariant point, a structure whose atoms all have one environment, the atomic energy is E/n
by symmetry. A network may reproduce every total and still be wrong there: where all training
structures hold two clusters of environments in one ratio, energy can move between them without a
trace. The rigidity of the offset between the clusters says so, and which structure would mend it.

Source: Yoo et al., Phys. Rev. Mater. 3, 093802 (2019), doi:10.1103/PhysRevMaterials.3.093802.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import lightning as L
import torch
from torch import Tensor, nn

from torchlpr.analysis.single_linkage import single_linkage
from torchlpr.calibration import single_environment
from torchlpr.errors import InputError
from torchlpr.files import atomic_path
from torchlpr.objective import Objective
from torchlpr.rigidity import Rigidity, offset_rigidity
from torchlpr.structures.batch import AtomBatch

__all__ = ["InvariantPointMonitor", "MappingReport"]

TIMES_RMSE = 5.0  # an error at an invariant point that many times the training RMSE is no accident
APART = 1.5  # times the largest step inside clusters, from which on they are two
FLOOR = 0.5  # share of the regulariser from which on an offset is the regulariser's


@dataclass(frozen=True)
class MappingReport:
    """What the invariant points say at one epoch.

    Attributes:
        epoch: number of the epoch.
        rmse: error of the training energies, eV per atom.
        errors: predicted less reference energy per atom of each invariant point, eV.
        rigidity: rigidity of each invariant point's energy per atom, 1/eV^2.
        offset: rigidity of the offset between the two clusters of training environments, 1/eV^2;
            None where there is one cluster.
        offset_floor: share of the regulariser in it; near 1 the data do not hold it at all.
        gains: offset rigidity with one of each invariant point added to the training set, 1/eV^2.
        tolerance: error of an invariant point that counts as right, eV per atom.
    """

    epoch: int
    rmse: float
    errors: list[float]
    rigidity: list[float]
    offset: float | None
    offset_floor: float | None
    gains: list[float]
    tolerance: float = 0.0

    @property
    def ad_hoc(self) -> bool:
        """Whether totals are accurate and invariant points are wrong, or the offset is free."""
        worst = max(map(abs, self.errors), default=0.0)
        wrong = worst > max(TIMES_RMSE * self.rmse, self.tolerance)
        return wrong or (self.offset_floor or 0.0) > FLOOR

    def __str__(self) -> str:
        """One sentence on the mapping, and one on the remedy."""
        worst = max(range(len(self.errors)), key=lambda k: abs(self.errors[k]))
        text = (
            f"epoch {self.epoch}: training energies are reproduced to {1e3 * self.rmse:.2g} "
            f"meV/atom and invariant point {worst} to {1e3 * abs(self.errors[worst]):.2g} meV/atom "
            f"(LPR {self.rigidity[worst]:.2g} eV^-2)"
        )
        if self.offset is not None:
            text += (
                f"; the offset between the two clusters of environments has rigidity "
                f"{self.offset:.2g} eV^-2, {100 * (self.offset_floor or 0.0):.0f} % of it the "
                "regulariser's"
            )
        if not self.ad_hoc:
            return text + ": the mapping is held by the data."
        best = max(range(len(self.errors)), key=lambda k: self.gains[k] if self.gains else 0.0)
        remedy = "a structure that holds the environments in another ratio"
        if self.gains:
            remedy = f"one structure such as invariant point {best}, of a single environment"
            remedy += f" (the offset's rigidity would become {self.gains[best]:.2g} eV^-2)"
        return f"{text}: the mapping is ad hoc. Add {remedy}."


class InvariantPointMonitor(L.Callback):
    """Log errors and rigidities at invariant points during training, and warn in words.

    Args:
        train: the training structures.
        points: structures of a single environment each, with energies on the scale of training.
        objective: the loss that is trained with.
        every: epochs between two reports; the last epoch is always reported.
        labels: cluster of each training atom, 0 or 1 (negative: none), shape (atoms,); by default
            from single-linkage clustering of the features.
        path: file for one JSON line a report, None keeps them in memory.
        tolerance: error of an invariant point that counts as right even where totals are learned
            far better, as forces let them be, eV per atom.

    Attributes:
        reports: all reports so far.

    Raises:
        InputError: if a point has more than one environment or no energy, or ``every`` is not
            positive.
    """

    def __init__(
        self,
        train: AtomBatch,
        points: AtomBatch,
        objective: Objective,
        every: int = 100,
        labels: Tensor | None = None,
        path: str | Path | None = None,
        tolerance: float = 1e-3,
    ) -> None:
        alone = single_environment(points)
        if not bool(alone.all()):
            raise InputError(
                f"structure {int((~alone).nonzero()[0])} among the invariant points has more than "
                "one environment, so that its atomic energies are not known; leave it out"
            )
        if not 0 <= tolerance < float("inf"):
            raise InputError(f"tolerance must be an energy per atom from 0 on, not {tolerance}")
        if every < 1:
            raise InputError(f"every must be at least 1 epoch, not {every}")
        points.labels()
        self.train, self.points, self.objective, self.every = train, points, objective, every
        self.labels = _clusters(train) if labels is None else labels
        self.path, self.tolerance = None if path is None else Path(path), tolerance
        self.reports: list[MappingReport] = []

    def report(self, model: nn.Module, epoch: int = 0) -> MappingReport:
        """Look at a model.

        Args:
            model: maps (features, types) to atomic energies.
            epoch: number to report.

        Returns:
            The report.
        """
        rigidity = Rigidity(model, self.train, self.objective)
        offset = floor = None
        gains: list[float] = []
        if self.labels is not None:
            held = offset_rigidity(rigidity, self.train, self.labels)
            offset, floor = float(held.rigidity[0]), float(held.mu_fraction[0])
            for k in range(self.points.n_structures):
                more = rigidity.add(self.points.select([k]))
                gains.append(float(offset_rigidity(more, self.train, self.labels).rigidity[0]))
        return MappingReport(
            epoch,
            float(_errors(model, self.train).square().mean().sqrt()),
            _errors(model, self.points).tolist(),
            rigidity.total(self.points).tolist(),
            offset,
            floor,
            gains,
            self.tolerance,
        )

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Report when it is time to, and warn where the mapping is ad hoc.

        Args:
            trainer: the running trainer.
            pl_module: the module in training, with the potential as ``model``.
        """
        number = trainer.current_epoch + 1
        if number % self.every and number != trainer.max_epochs:
            return
        report = self.report(pl_module.model, number)  # type: ignore[arg-type]
        self.reports.append(report)
        worst = max(map(abs, report.errors))
        pl_module.log("invariant/worst_error", worst)
        pl_module.log("invariant/lowest_lpr", min(report.rigidity))
        if report.offset is not None:
            pl_module.log("invariant/offset_rigidity", report.offset)
        if report.ad_hoc and number == trainer.max_epochs:
            warnings.warn(str(report), stacklevel=2)
        self._write()

    def _write(self) -> None:
        if self.path is not None:
            with atomic_path(self.path) as temporary:
                lines = [json.dumps(asdict(report)) for report in self.reports]
                temporary.write_text("\n".join(lines) + "\n")


@torch.no_grad()
def _errors(model: nn.Module, batch: AtomBatch) -> Tensor:
    """Predicted less reference energy per atom, eV, shape (structures,)."""
    local = model(batch.features, batch.types).to(torch.float64)
    totals = local.new_zeros(batch.n_structures).index_add_(0, batch.structure, local)
    return (totals - batch.labels()) / batch.counts


def _clusters(train: AtomBatch) -> Tensor | None:
    """The two big clusters of environments, None where there is only one."""
    gap = single_linkage(train.features.to(torch.float64).cpu().numpy()).gap()
    if gap is None or not gap.distance > APART * gap.within:
        return None
    return torch.from_numpy(gap.labels).to(train.types.device)
