"""A binary at one composition; then other compositions, or pure elements, in the training set.

Source: Chong et al., J. Chem. Theory Comput. 19, 8020 (2023), doi:10.1021/acs.jctc.3c00704, and
sections 2 to 4 of its supporting information: descriptor, sets and heads, for gallium arsenide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import ase
import torch

from torchlpr.descriptors.soap import SOAP
from torchlpr.rigidity import offset_rigidity
from torchlpr.structures.archive import archive_structures, fetch_archive
from torchlpr.structures.embedded import gallium_arsenide
from torchlpr.studies.data_choice import SUBSETS, Sets, check_data, deal, hold_out
from torchlpr.studies.exchange import ExchangeBatches, describe, run_heads
from torchlpr.studies.exchange_claims import error_claim, median_claim, variance_claims
from torchlpr.studies.exchange_report import write_exchange
from torchlpr.studies.exchange_results import HeadResult
from torchlpr.studies.exchange_stage import ExchangeOptions
from torchlpr.studies.report import Claim, StudyReport, write_table

__all__ = ["Settings", "run", "two_cluster_offset"]

SPECIES = ("Ga", "As")
OTHER = "other ratio"
VARIANTS = {OTHER: "mixed", "pure Ga": "Ga", "pure As": "As"}


@dataclass(frozen=True)
class Settings(ExchangeOptions):
    """Of the study, beside those of all that replace structures.

    Attributes:
        data: "surrogate" for the cells that come with the package, "original" for the paper's.
        share: of the training set that gives way.
        references: reference environments of the kernel, half of them of each species.
    """

    data: str = "surrogate"
    share: float = 0.1
    references: int = 400


def run(settings: Settings, folder: Path, quick: bool) -> StudyReport:
    """Run the study.

    Args:
        settings: its own.
        folder: for figures and tables.
        quick: fewer members of the committees.

    Returns:
        The report.
    """
    check_data(settings.data)
    text, sets = _original(settings) if settings.data == "original" else _surrogate()
    base = sets["equal train"]
    n = round(settings.share * len(base))
    added = {name: deal(sets[f"{kind} train"], n, settings.seed) for name, kind in VARIANTS.items()}
    # the paper's: Table S1, with rascaline's max_radial counted from 1
    soap = SOAP(
        cutoff=5.0,
        max_radial=7,
        max_angular=4,
        width=0.3,
        smoothing=0.5,
        types=SPECIES,
        radial_scaling={"exponent": 2, "rate": 0.8, "scale": 2.0},
    )
    probe = sets["equal test"]
    tests = {"1:1": probe} | {
        name: sets[f"{kind} test"] for name, kind in VARIANTS.items() if sets[f"{kind} test"]
    }
    species = [symbol for frame in probe for symbol in frame.get_chemical_symbols()]
    batches = describe(soap, base, added, sets["equal validation"], tests, probe, species)
    if quick:
        settings = replace(settings, many=min(settings.many, 400))
    results = run_heads(batches, settings)
    fractions = {name: [_share(f) for f in frames] for name, frames in added.items()}
    offsets = _offsets(results, batches, fractions)
    columns = {key: [str(row[key]) for row in offsets] for key in offsets[0]}
    write_table(folder / "offset.csv", columns)
    claims = [claim for result in results for claim in _claims(result)]
    data = f"{text}; {len(base)} trained on, {n} of them replaced"
    return write_exchange("binary_composition", data, folder, batches, results, claims, "")


def two_cluster_offset(n: int, shares: Sequence[float]) -> float:
    r"""Rigidity of the difference of two energies that are all a model knows, for mu to 0.

    With :math:`\tilde e = p e_a + (1 - p) e_b` for a share p, and rows of n structures at 1/2 and
    of others at the given shares, H is that of a line through points, and

    .. math:: \mathrm{PR}(e_a - e_b) = \sum_A (p_A - \bar p)^2

    with the mean over all structures.

    Args:
        n: structures at equal shares.
        shares: of the other structures.

    Returns:
        The rigidity, eV^-2; zero where all shares are equal.
    """
    p = torch.tensor([0.5] * n + list(shares), dtype=torch.float64)
    return float((p - p.mean()).square().sum())


def _claims(result: HeadResult) -> list[Claim]:
    """What one head has to show: with any other composition, both species become rigid."""
    claims = []
    for variant in VARIANTS:
        for symbol in SPECIES:
            claims.append(median_claim(result, variant, symbol, {symbol}))
        claims.append(error_claim(result, variant, "1:1"))
        claims += variance_claims(result, variant)
    return claims


def _offsets(
    results: list[HeadResult], batches: ExchangeBatches, shares: dict[str, list[float]]
) -> list[dict[str, str | float]]:
    """Rigidity of the mean energy of Ga less that of As, beside that of a model with only these."""
    rows: list[dict[str, str | float]] = []
    n = batches.base.n_structures
    for result in results:
        for name, stage in result.stages.items():
            found = offset_rigidity(stage.rigidity, result.atoms, batches.probe.types)
            others = shares.get(name, [])
            rows.append({
                "head": result.head,
                "training set": name,
                "offset rigidity / eV^-2": f"{float(found.rigidity[0]):.4g}",
                "mu-fraction": f"{float(found.mu_fraction[0]):.3g}",
                "two constants / eV^-2": f"{two_cluster_offset(n - len(others), others):.4g}",
            })
    return rows


def _share(frame: ase.Atoms) -> float:
    """Share of gallium."""
    return float((frame.numbers == 31).mean())


def _sort(frames: Sequence[ase.Atoms], subset: str) -> Sets:
    """Frames by composition."""
    shares = [_share(frame) for frame in frames]
    kinds = {0.5: "equal", 0.0: "As", 1.0: "Ga"}
    sets: Sets = {f"{kind} {subset}": [] for kind in ("equal", "mixed", "As", "Ga")}
    for frame, share in zip(frames, shares, strict=True):
        sets[f"{kinds.get(share, 'mixed')} {subset}"].append(frame)
    return sets


def _surrogate() -> tuple[str, Sets]:
    """The cells that come with the package, in their own subsets."""
    sets: Sets = {}
    for subset in SUBSETS:
        sets |= _sort(gallium_arsenide(subset), subset)
    return "surrogate: 64-atom liquids with a bond-order potential", sets


def _original(settings: Settings) -> tuple[str, Sets]:
    """The paper's cells of Ga and As by composition: 400, and 100 and 100 held out."""
    frames = archive_structures(fetch_archive(), set(SPECIES))
    whole = _sort(deal(frames, len(frames), settings.seed), "all")
    split = hold_out(whole["equal all"], 400)
    sets = {f"equal {subset}": frames for subset, frames in split.items()}
    n = round(settings.share * len(sets["equal train"]))
    for kind in VARIANTS.values():
        sets[f"{kind} train"], sets[f"{kind} test"] = (
            whole[f"{kind} all"][:n],
            whole[f"{kind} all"][n:],
        )
    return "original: the Ga and As cells of Materials Cloud 2023.102", sets
