"""The neural network of the paper: converged, stopped early, and without activation functions.

Sections 6 and 7 of the supporting information of Chong et al., J. Chem. Theory Comput. 19, 8020
(2023), doi:10.1021/acs.jctc.3c00704. Rigidity is defined at a minimum of the regularised loss:
which of the three networks is at one, what do their rigidities say about a film of low density,
and do committees agree?
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import ase
import torch

from torchlpr.descriptors.soap import SOAP
from torchlpr.models import CompositionBaseline, LinearModel, SparseKernelModel
from torchlpr.models.inducing import select_inducing
from torchlpr.objective import Objective
from torchlpr.structures.batch import AtomBatch
from torchlpr.studies.carbon_data import CarbonSets, film_density
from torchlpr.studies.deep_linear import ridge_rigidity
from torchlpr.studies.network_figures import write_figures, write_tables
from torchlpr.studies.network_variants import (
    CONVERGED,
    DRAWN,
    EARLY,
    LINEAR,
    SUBSAMPLED,
    NetworkOptions,
    NetworkSets,
    Variant,
    train,
)
from torchlpr.studies.report import Claim, StudyReport
from torchlpr.training import energy_rmse
from torchlpr.training.grid_search import search_mu

__all__ = ["Settings", "run"]

MOST_GRADIENT, MOST_SHIFT = 1e-3, 0.1  # of mu |w|, and of the spread of atomic energies


@dataclass(frozen=True)
class Settings(NetworkOptions):
    """Of the study, beside those of the networks.

    Attributes:
        cells: bulk structures to train on.
        references: environments of the sparse kernel that errors are compared with.
    """

    cells: int = 120
    references: int = 1000


def run(settings: Settings, folder: Path, quick: bool) -> StudyReport:
    """Run the study.

    Args:
        settings: its own.
        folder: for figures and tables.
        quick: fewer training structures, epochs, steps and references.

    Returns:
        The report.
    """
    if quick:
        settings = replace(settings, cells=40, epochs=300, member_steps=30, references=300)
    # 576 features as in the paper; rascaline's max_radial counted from 1
    soap = SOAP(
        cutoff=3.7,
        max_radial=7,
        max_angular=8,
        width=0.5,
        smoothing=0.1,
        types=["C"],
        normalize=True,
    )
    carbon = CarbonSets.read(settings.seed)
    film = low_density_film(carbon.slabs)
    sets, baseline = _describe(soap, carbon, film, settings.cells)
    variants = [train(name, sets, settings) for name in (CONVERGED, EARLY, LINEAR)]
    start = time.process_time()
    kernel_rmse = _kernel(sets, settings.references)
    seconds = time.process_time() - start
    spread = float((sets.test.labels() / sets.test.counts).std(correction=0))
    claims = _claims(variants, sets, settings, kernel_rmse / spread, spread)
    data = (
        f"{carbon.text}: {settings.cells} bulk structures trained on, a film of {len(film)} atoms "
        f"at {film_density(film):.2f} g/cm3"
    )
    write_tables(folder, variants, film, baseline, (kernel_rmse, seconds), spread, data)
    write_figures(folder, variants, film, baseline, soap.cutoff)
    return StudyReport("neural_network", data, tuple(claims), folder)


def low_density_film(slabs: list[ase.Atoms]) -> ase.Atoms:
    """The thinnest of the largest slabs.

    Args:
        slabs: with vacuum along one edge.

    Returns:
        One of them.
    """
    largest = max(map(len, slabs))
    return min((slab for slab in slabs if len(slab) == largest), key=film_density)


def _describe(
    soap: SOAP, carbon: CarbonSets, film: ase.Atoms, cells: int
) -> tuple[NetworkSets, float]:
    """Batches less the mean energy of an atom in the training set, and that energy."""
    bulk = carbon.bulk
    parts = {"test": bulk[:60], "validation": bulk[60:90], "train": bulk[90 : 90 + cells]}
    batches = {name: soap(frames) for name, frames in (parts | {"film": [film]}).items()}
    first = batches["train"]
    mean = float((first.labels() / first.counts).mean())
    baseline = CompositionBaseline(soap.types, [mean])
    return NetworkSets(**{name: baseline.subtract(b) for name, b in batches.items()}), mean


def _kernel(sets: NetworkSets, references: int) -> float:
    """Test error of a sparse kernel model on the same split, at its best mu, eV."""
    model = SparseKernelModel(select_inducing(sets.train, references))
    rows = {}
    for name in ("train", "validation", "test"):
        batch: AtomBatch = getattr(sets, name)
        basis = model.basis(batch.features, batch.types).detach()
        sums = basis.new_zeros(batch.n_structures, basis.shape[1])
        means = sums.index_add_(0, batch.structure, basis) / batch.counts[:, None]
        one, energies = torch.ones(len(means), dtype=torch.int64), batch.labels() / batch.counts
        rows[name] = AtomBatch(means, one, torch.arange(len(means)), energies)
    plain = LinearModel(rows["train"].features.shape[1], [1])
    search_mu(plain, rows["train"], rows["validation"], Objective(mu=1.0))
    return energy_rmse(plain, rows["test"])


def _claims(
    variants: list[Variant],
    sets: NetworkSets,
    settings: Settings,
    kernel_error: float,
    spread: float,
) -> list[Claim]:
    claims = []
    for variant in variants:
        name, relative = variant.name, variant.reached.relative_gradient
        if name == EARLY:
            shift = variant.relative_shift
            text = f"{name}: vertex shift over a tenth of the spread of atomic energies"
            claims.append(Claim(text, shift, shift > MOST_SHIFT))
            continue
        claims.append(
            Claim(f"{name}: |grad L| under 1e-3 mu|w|", relative, relative < MOST_GRADIENT)
        )
        shift = variant.relative_shift
        text = f"{name}: vertex shift under a tenth of the spread of atomic energies"
        claims.append(Claim(text, shift, shift < MOST_SHIFT))
        low = variant.reached.smallest_curvature
        text = f"{name}: no direction leads down (lowest curvature over -1e-6)"
        claims.append(Claim(text, low, low > -1e-6))
        rank = variant.rank(SUBSAMPLED)
        text = f"{name}: variance of {settings.members} subsampled members against LPR, Spearman"
        claims.append(Claim(f"{text} under -0.5", rank, rank < -0.5))
    converged, _, linear = variants
    slope = linear.slope(DRAWN)
    text = f"linear: variance of {settings.many} sampled-then-optimised members against LPR, slope"
    claims.append(Claim(f"{text} in -1.3..-0.7", slope, -1.3 < slope < -0.7))
    excess = 100 * (converged.test_rmse / spread - kernel_error)
    text = "converged: %RMSE at most 3 points above that of the sparse kernel"
    claims.append(Claim(text, excess, excess < 3))
    ridge = ridge_rigidity(linear.model, sets.train, Objective(settings.mu), sets.film)
    error = float((linear.lpr / ridge - 1).abs().max())
    text = "linear: LPR is that of ridge regression with metric M^(1/2), to 1e-9"
    claims.append(Claim(text, error, error < 1e-9))
    return claims
