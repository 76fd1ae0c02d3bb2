"""Amorphous carbon with first-principles energies: crystals and thin structures in the set.

Two questions of section 5 of the supporting information of Chong et al., J. Chem. Theory Comput.
19, 8020 (2023), doi:10.1021/acs.jctc.3c00704. A few strained crystals in a training set of bulk
structures: what do they do to the rigidity of atoms like theirs? And a training set of dense
structures only: do a few others help with surfaces?
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from torchlpr.descriptors.soap import SOAP
from torchlpr.rigidity import Rigidity
from torchlpr.studies.carbon_data import (
    CORE,
    DIAMOND_LIKE,
    GRAPHITE_LIKE,
    LOW_DENSITY,
    SURFACE,
    CarbonSets,
    coordination_classes,
    surface_classes,
)
from torchlpr.studies.data_choice import deal
from torchlpr.studies.exchange import ExchangeBatches, describe, run_heads
from torchlpr.studies.exchange_claims import median_claim, variance_claims
from torchlpr.studies.exchange_report import write_exchange
from torchlpr.studies.exchange_results import HeadResult
from torchlpr.studies.exchange_stage import ExchangeOptions
from torchlpr.studies.realistic_figures import similarity_figure, transfer_figure
from torchlpr.studies.report import Claim, StudyReport

__all__ = ["Settings", "run"]

BOTH, BULK, DENSE, SURFACES = "both", "bulk", "high density", "surfaces"


@dataclass(frozen=True)
class Settings(ExchangeOptions):
    """Of the study, beside those of all that replace structures.

    Attributes:
        crystals: strained crystals that replace as many bulk structures; others of their kind are
            held out.
        thin: graphite-like or low-density structures that replace as many dense ones.
    """

    crystals: int = 10
    thin: int = 3
    references: int = 1000


def run(settings: Settings, folder: Path, quick: bool) -> StudyReport:
    """Run the study.

    Args:
        settings: its own.
        folder: for figures and tables.
        quick: fewer training structures, references and members.

    Returns:
        The report.
    """
    if quick:
        settings = replace(settings, references=300, many=300)
    sets = CarbonSets.read(settings.seed)
    # the paper's a-C descriptor with its longer cutoff, rascaline's max_radial counted from 1
    soap = SOAP(
        cutoff=3.7,
        max_radial=7,
        max_angular=8,
        width=0.5,
        smoothing=0.1,
        types=["C"],
        normalize=True,
    )
    crystals = _crystals(soap, sets, settings, quick)
    surfaces = _surfaces(soap, sets, settings)
    reports = []
    for name, batches in (("crystals", crystals), ("surfaces", surfaces)):
        results = run_heads(batches, settings)
        if name == "crystals":
            claims = [claim for result in results for claim in _crystal_claims(result)]
            similarity_figure(folder / "similarity", soap, batches.base, sets)
        else:
            claims = [claim for result in results for claim in _surface_claims(result)]
            for result in results:
                transfer_figure(folder / f"transfer_{result.head}", result, SURFACES)
        size = batches.base.n_structures
        data = f"PBE, {name}: {size} trained on"
        args = (data, folder / name, batches, results, claims, "E(diamond)")
        (folder / name).mkdir(exist_ok=True)
        reports.append(write_exchange("realistic_carbon", *args))
    text = f"{sets.text}; " + "; ".join(report.data for report in reports)
    all_claims = tuple(claim for report in reports for claim in report.claims)
    return StudyReport("realistic_carbon", text, all_claims, folder)


def _crystals(soap: SOAP, sets: CarbonSets, settings: Settings, quick: bool) -> ExchangeBatches:
    """Bulk structures, some of which give way to strained crystals."""
    n, seed, half = settings.crystals, settings.seed, settings.crystals // 2
    bulk = sets.bulk
    train = bulk[90:150] if quick else bulk[90:]
    shuffled = {
        name: deal(crystals, len(crystals), seed)
        for name, crystals in (
            (DIAMOND_LIKE, sets.diamond_like),
            (GRAPHITE_LIKE, sets.graphite_like),
        )
    }
    added = {name: crystals[:n] for name, crystals in shuffled.items()}
    added[BOTH] = added[DIAMOND_LIKE][:half] + added[GRAPHITE_LIKE][: n - half]
    tests = {BULK: bulk[:60]} | {name: crystals[n:] for name, crystals in shuffled.items()}
    probe = [frame for frames in tests.values() for frame in frames]
    classes = coordination_classes(tests[BULK])
    for name in shuffled:
        classes += [name] * sum(len(frame) for frame in tests[name])
    zero = {6: sets.diamond_energy}
    return describe(soap, train, added, bulk[60:90], tests, probe, classes, zero)


def _surfaces(soap: SOAP, sets: CarbonSets, settings: Settings) -> ExchangeBatches:
    """Dense bulk structures, some of which give way to thinner ones; judged by slabs."""
    n, seed, dense = settings.thin, settings.seed, sets.dense
    added = {
        GRAPHITE_LIKE: deal(sets.graphite_like, n, seed),
        LOW_DENSITY: deal(sets.thin, n, seed),
    }
    tests = {DENSE: dense[:20], SURFACES: sets.slabs}
    classes = surface_classes(sets.slabs)
    zero = {6: sets.diamond_energy}
    return describe(soap, dense[32:], added, dense[20:32], tests, sets.slabs, classes, zero)


def _crystal_claims(result: HeadResult) -> list[Claim]:
    """What strained crystals do: much to those like them, little to the errors of bulk."""
    claims = []
    kinds = {BOTH: (DIAMOND_LIKE, GRAPHITE_LIKE)}
    for variant in result.variants:
        rigid = result.stages[variant].rigidity
        without = Rigidity(rigid.model, result.kept[variant], rigid.objective)
        added = result.added[variant]
        gain = float((rigid.local(added) - without.local(added)).min())
        name = f"{result.head}, {variant}"
        text = f"{name}: each adds 1 or more to the rigidity of its own energy"
        claims.append(Claim(text, gain, gain > 1 - 1e-6))
        change = result.stages[variant].rmse[BULK] / result.before.rmse[BULK] - 1
        text = f"{name}: RMSE of bulk changes by under 20 %, as in the paper"
        claims.append(Claim(text, 100 * change, abs(change) < 0.2))
        for kind in kinds.get(variant, (variant,)):
            claims.append(median_claim(result, variant, f"held-out {kind} atoms", {kind}))
        # ratios of bulk atoms differ too little to be ranked beside the noise of the committee
        claims += variance_claims(result, variant)[:1]
    return claims


def _surface_claims(result: HeadResult) -> list[Claim]:
    """What thin structures do to surfaces."""
    claims = []
    for variant in result.variants:
        name = f"{result.head}, {variant}"
        change = result.stages[variant].rmse[DENSE] / result.before.rmse[DENSE] - 1
        text = f"{name}: RMSE of dense structures changes by at most 5 %"
        claims.append(Claim(text, 100 * change, change <= 0.05))
        ratio = result.ratio(variant, {SURFACE})
        claims.append(Claim(f"{name}: median LPR of surface atoms rises", ratio, ratio > 1))
        claims += variance_claims(result, variant)
    errors = [stage.rmse[SURFACES] for stage in result.stages.values()]
    fall = min(first / second for first, second in pairwise(errors))
    text = f"{result.head}: RMSE of surfaces falls, graphite-like and then low density"
    claims.append(Claim(text, fall, fall > 1))
    surface = [label == SURFACE for label in result.classes]
    ratios = []
    for stage in result.stages.values():
        core = stage.lpr[[label == CORE for label in result.classes]]
        ratios.append(float(core.median() / stage.lpr[surface].median()))
    text = f"{result.head}: core atoms are more rigid than surface atoms, in all three"
    claims.append(Claim(text, min(ratios), min(ratios) > 1))
    return claims
