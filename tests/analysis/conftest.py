"""Real silicon: SOAP features and rigidities of the staged Tersoff set."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest
import torch

SOAP = {
    "cutoff": {"radius": 4.0, "smoothing": {"type": "ShiftedCosine", "width": 0.5}},
    "density": {"type": "Gaussian", "width": 0.5},
    "basis": {
        "type": "TensorProduct",
        "max_angular": 4,
        "radial": {"type": "Gto", "max_radial": 4},
        "spline_accuracy": 1e-8,
    },
}


@dataclass(frozen=True)
class Silicon:
    """Twenty frames, their features, and the LPR of a linear model without and with the liquid."""

    structures: list[ase.Atoms]
    features: torch.Tensor
    before: torch.Tensor
    after: torch.Tensor
    mus: torch.Tensor
    against_mu: torch.Tensor

    def array(self, name: str) -> np.ndarray:
        return np.concatenate([s.arrays[name] for s in self.structures])

    @property
    def config(self) -> np.ndarray:
        return np.repeat(
            [s.info["config_type"] for s in self.structures], [len(s) for s in self.structures]
        )


def linear_lpr(features, rows, mu):
    """1 / g^T (R^T R + mu)^-1 g, by a dense solve."""
    hessian = rows.T @ rows + mu * torch.eye(rows.shape[1], dtype=rows.dtype)
    return 1 / (features * torch.linalg.solve(hessian, features.T).T).sum(1)


@functools.cache
def load(path: Path) -> Silicon:
    from featomic import SoapPowerSpectrum

    structures = ase.io.read(path, "::16")[:20]
    soap = SoapPowerSpectrum(**SOAP).compute(structures)
    features = torch.tensor(soap.block().values)
    features = features / features.norm(dim=1).mean()
    counts = [len(s) for s in structures]
    rows = torch.stack([part.mean(0) for part in features.split(counts)])
    mus = torch.logspace(-8, -1, 8, dtype=torch.float64)
    # without the liquid, then with it
    calm = [k for k, s in enumerate(structures) if "liquid" not in s.info["config_type"]]
    return Silicon(
        structures,
        features,
        linear_lpr(features, rows[calm], 1e-5),
        linear_lpr(features, rows, 1e-5),
        mus,
        torch.stack([linear_lpr(features, rows, mu) for mu in mus]),
    )


@pytest.fixture
def silicon(data_dir) -> Silicon:
    path = Path(data_dir) / "si_tersoff_local" / "si_tersoff_local.xyz"
    if not path.exists():
        pytest.skip(f"no {path}")
    return load(path)


@pytest.fixture
def ax():
    pytest.importorskip("matplotlib")
    from torchlpr.analysis.figures import figure

    return figure()[1][0, 0]
