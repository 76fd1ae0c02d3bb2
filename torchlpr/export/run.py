"""A run: everything a trained model needs to meet new structures, in one versioned file."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ase
import torch
from torch import Tensor

from torchlpr.calibration import Calibration, atom_groups, structure_groups
from torchlpr.descriptors.shared import describe_shared
from torchlpr.descriptors.state import Descriptor, descriptor_state, load_descriptor
from torchlpr.errors import InputError
from torchlpr.models import CompositionBaseline
from torchlpr.ranks import Ranks
from torchlpr.rigidity import Rigidity
from torchlpr.serialization import read_document, write_document
from torchlpr.structures.batch import AtomBatch
from torchlpr.training import Stationarity

__all__ = ["CHECKPOINT", "Prediction", "Run", "checkpoint_of", "load"]

CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True)
class Prediction:
    """What a run says about structures; energies in eV, rigidities in 1/eV^2.

    Attributes:
        batch: the structures as tensors, with their own energies where they have any.
        energies: predicted total energies, shape (structures,).
        local_energies: predicted atomic energies, baseline included, shape (atoms,).
        lpr: local prediction rigidity, shape (atoms,).
        lpr_mu_fraction: share of the regulariser in it, shape (atoms,).
        pr: rigidity of the energy per atom, shape (structures,).
        pr_mu_fraction: share of the regulariser in it, shape (structures,).
        local_uncertainty: standard deviation alpha/sqrt(LPR) of the atomic energies, shape
            (atoms,), eV; None where the run is not calibrated.
        uncertainty: standard deviation n alpha/sqrt(PR) of the total energies, shape
            (structures,), eV; None where the run is not calibrated.
    """

    batch: AtomBatch
    energies: Tensor
    local_energies: Tensor
    lpr: Tensor
    lpr_mu_fraction: Tensor
    pr: Tensor
    pr_mu_fraction: Tensor
    local_uncertainty: Tensor | None = None
    uncertainty: Tensor | None = None

    def rmse(self) -> float | None:
        """RMSE of the energy per atom in eV, None where the structures have no energies."""
        if self.batch.energies is None:
            return None
        error = (self.energies - self.batch.energies) / self.batch.counts
        return float(error.square().mean().sqrt())

    def per_atom(self) -> dict[str, Tensor]:
        """The arrays that files get: lpr, lpr_mu_fraction, local_energy, energy_uncertainty."""
        arrays = {
            "lpr": self.lpr,
            "lpr_mu_fraction": self.lpr_mu_fraction,
            "local_energy": self.local_energies,
        }
        if self.local_uncertainty is not None:
            arrays["energy_uncertainty"] = self.local_uncertainty
        return arrays


@dataclass
class Run:
    """Descriptor, baseline, model, objective and curvature of a finished training.

    Attributes:
        descriptor: makes features of structures.
        baseline: fixed energy of each species.
        rigidity: model, objective and the factorised Hessian of the training set.
        stationarity: how close the weights are to a minimum.
        metrics: errors and sizes, plain numbers.
        versions: of the packages that made it.
        calibration: scale of its uncertainties, None as long as there is none.
    """

    descriptor: Descriptor
    baseline: CompositionBaseline
    rigidity: Rigidity
    stationarity: Stationarity
    metrics: dict[str, Any]
    versions: dict[str, str] = field(default_factory=lambda: package_versions())
    calibration: Calibration | None = None

    def predict(self, structures: Sequence[ase.Atoms], progress: bool | None = None) -> Prediction:
        """Energies and rigidities of structures.

        Args:
            structures: any structures of the species the run was trained on.
            progress: whether to show a bar for the features; None shows it for long work.

        Returns:
            The prediction.
        """
        batch = describe_shared(self.descriptor, structures, self.rigidity.ranks, progress)
        model = self.rigidity.model
        features = batch.features.to(next(model.parameters()).dtype)
        with torch.no_grad():
            local = model(features, batch.types).to(torch.float64)
        local = local + self.baseline(batch.features, batch.types)
        totals = local.new_zeros(batch.n_structures).index_add(0, batch.structure, local)
        atoms, whole = self.rigidity.atoms(batch), self.rigidity.structures(batch)
        if self.calibration is None:
            return Prediction(batch, totals, local, *atoms, *whole)
        key = self.calibration.group_key
        alphas = (
            self.calibration.alphas(groups(structures, key)).to(local.device)
            for groups in (atom_groups, structure_groups)
        )
        sigma, mean = (
            alpha * part.rigidity.rsqrt()
            for alpha, part in zip(alphas, (atoms, whole), strict=True)
        )
        return Prediction(batch, totals, local, *atoms, *whole, sigma, mean * batch.counts)

    def save(self, path: str | Path) -> None:
        """Write the run, whole or not at all; of ranks that share it the first writes.

        Args:
            path: the checkpoint file.
        """
        content = {
            "descriptor": descriptor_state(self.descriptor),
            "baseline": {
                "types": list(self.baseline.types),
                "energies": self.baseline.energies.tolist(),
            },
            "rigidity": self.rigidity.state(),
            "stationarity": self.stationarity.as_dict(),
            "metrics": self.metrics,
            "versions": self.versions,
            "calibration": None if self.calibration is None else self.calibration.as_dict(),
        }
        ranks = self.rigidity.ranks
        with ranks.agreed():
            if ranks.first:
                write_document(path, "run", content)

    @classmethod
    def from_file(cls, path: str | Path, ranks: Ranks | None = None) -> Run:
        """Read what :meth:`save` wrote.

        Args:
            path: the checkpoint file.
            ranks: processes that share the work of predicting.

        Returns:
            The run.
        """
        content = read_document(path, "run")
        calibration = content.get("calibration")  # runs of before there was any have none
        return cls(
            load_descriptor(content["descriptor"]),
            CompositionBaseline(**content["baseline"]),
            Rigidity.from_state(content["rigidity"], ranks),
            Stationarity(**content["stationarity"]),
            content["metrics"],
            content["versions"],
            None if calibration is None else Calibration.from_dict(calibration),
        )


def load(run: str | Path, ranks: Ranks | None = None) -> Run:
    """Open a finished training.

    Args:
        run: folder that ``torchlpr fit`` wrote, or the checkpoint file in it.
        ranks: processes that share the work of predicting: all open the run, predict the same
            structures, and get the whole prediction. None works alone.

    Returns:
        The run, ready to predict.

    Raises:
        InputError: if there is no such run, it is unfinished, or its file cannot be read.
    """
    return Run.from_file(checkpoint_of(run), ranks)


def checkpoint_of(run: str | Path) -> Path:
    """The checkpoint file of a finished training.

    Args:
        run: folder that ``torchlpr fit`` wrote, or the checkpoint file in it.

    Returns:
        The file.

    Raises:
        InputError: if there is no such run, or it is unfinished.
    """
    path = Path(run)
    if not path.exists():
        raise InputError(f"{path} does not exist; give the folder that torchlpr fit wrote")
    if path.is_dir():
        if not (path / CHECKPOINT).exists():
            unfinished = (path / "config.yaml").exists()
            raise InputError(
                f"the training in {path} is not finished; run torchlpr fit again to resume it"
                if unfinished
                else f"{path} holds no {CHECKPOINT}; give the folder that torchlpr fit wrote"
            )
        path = path / CHECKPOINT
    return path


def package_versions() -> dict[str, str]:
    """Versions of what numbers depend on, by name."""
    from importlib.metadata import version

    packages = ("torchlpr", "torch", "featomic", "vesin", "ase", "numpy", "lightning")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
