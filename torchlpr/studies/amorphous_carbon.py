"""Amorphous carbon with as many sp2 as sp3 atoms; then other ratios, or one diamond, in the set.

Source: Chong et al., J. Chem. Theory Comput. 19, 8020 (2023), doi:10.1021/acs.jctc.3c00704, and
sections 2 to 4 of its supporting information: descriptor, sets and heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import ase
import numpy as np
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator

from torchlpr.descriptors.soap import SOAP
from torchlpr.rigidity import Rigidity
from torchlpr.structures.archive import archive_structures, fetch_archive
from torchlpr.structures.coordination import coordination_numbers
from torchlpr.structures.disorder_protocol import BONDED, EQUAL, OTHER, carbon_class
from torchlpr.structures.embedded import amorphous_carbon
from torchlpr.structures.tersoff_energy import CARBON, tersoff_site_energies
from torchlpr.studies.data_choice import SUBSETS, Sets, check_data, deal, hold_out, of_class
from torchlpr.studies.exchange import describe, run_heads
from torchlpr.studies.exchange_claims import error_claim, median_claim, variance_claims
from torchlpr.studies.exchange_report import write_exchange
from torchlpr.studies.exchange_results import HeadResult
from torchlpr.studies.exchange_stage import ExchangeOptions
from torchlpr.studies.report import Claim, StudyReport

__all__ = ["Settings", "diamond", "run"]

SP2, SP3 = "sp2", "sp3"
RATIO, DIAMOND = "other ratio", "diamond"
LATTICE = 3.566  # of the Tersoff potential's diamond, Å


@dataclass(frozen=True)
class Settings(ExchangeOptions):
    """Of the study, beside those of all that replace structures.

    Attributes:
        data: "surrogate" for the cells that come with the package, "original" for the paper's.
        share: of the training set that gives way to other ratios.
        diamond_energy: of diamond in the original data, eV/atom; the surrogate's is computed.
    """

    data: str = "surrogate"
    share: float = 0.1
    diamond_energy: float | None = None


def run(settings: Settings, folder: Path, quick: bool) -> StudyReport:
    """Run the study.

    Args:
        settings: its own.
        folder: for figures and tables.
        quick: fewer references and members of the committees.

    Returns:
        The report.
    """
    check_data(settings.data)
    original = settings.data == "original"
    text, equal, other = _original(settings) if original else _surrogate()
    base = equal["train"]
    added = deal(other["train"], round(settings.share * len(base)), settings.seed)
    crystal = diamond(settings.diamond_energy if original else None)
    # the paper's: Table S1, with rascaline's max_radial counted from 1
    soap = SOAP(cutoff=1.85, max_radial=7, max_angular=8, width=0.5, smoothing=0.1, types=["C"])
    probe = other["test"]
    batches = describe(
        soap,
        base,
        {RATIO: added, DIAMOND: [crystal]},
        equal["validation"],
        {"1:1": equal["test"], "other ratios": probe},
        probe,
        _classes(probe),
        {6: crystal.get_potential_energy() / len(crystal)},
    )
    if quick:
        fewer = min(settings.references, 250), min(settings.many, 400)
        settings = replace(settings, references=fewer[0], many=fewer[1])
    results = run_heads(batches, settings)
    claims = [claim for result in results for claim in _claims(result)]
    data = f"{text}; {len(base)} trained on, {len(added)} or 1 of them replaced"
    return write_exchange("amorphous_carbon", data, folder, batches, results, claims, "E(diamond)")


def diamond(energy: float | None = None) -> ase.Atoms:
    """Diamond of eight atoms.

    Args:
        energy: of an atom, eV; by default that of the Tersoff potential.

    Returns:
        The crystal with its energy.
    """
    crystal = bulk("C", "diamond", a=LATTICE, cubic=True)
    total = float(tersoff_site_energies(crystal, CARBON).sum())
    total = total if energy is None else len(crystal) * energy
    crystal.calc = SinglePointCalculator(crystal, energy=total)
    return crystal


def _claims(result: HeadResult) -> list[Claim]:
    """What one head has to show."""
    gain = _gain(result)
    claims = [
        *(median_claim(result, RATIO, f"{kind} atoms", {kind}) for kind in (SP2, SP3)),
        error_claim(result, RATIO, "1:1"),
        *variance_claims(result, RATIO),
        Claim(f"{result.head}, diamond: adds 1 to its LPR, to 1e-6", gain, abs(gain - 1) < 1e-6),
        *(median_claim(result, DIAMOND, f"{kind} atoms", {kind}) for kind in (SP2, SP3)),
        error_claim(result, DIAMOND, "1:1"),
        *variance_claims(result, DIAMOND),
    ]
    return claims


def _gain(result: HeadResult) -> float:
    """LPR of diamond's environment with diamond in the set, less that without."""
    crystal, after = result.added[DIAMOND], result.stages[DIAMOND].rigidity
    without = Rigidity(after.model, result.kept[DIAMOND], after.objective)
    return float(after.local(crystal) - without.local(crystal))


def _classes(frames: Sequence[ase.Atoms]) -> list[str]:
    """Hybridisation of each atom by its number of neighbours."""
    numbers = np.concatenate([coordination_numbers(frame, BONDED) for frame in frames])
    return [{3: SP2, 4: SP3}.get(int(number), "others") for number in numbers]


def _surrogate() -> tuple[str, Sets, Sets]:
    """The cells that come with the package, in their own subsets."""
    frames = {subset: amorphous_carbon(subset) for subset in SUBSETS}
    equal, other = (of_class(frames, name) for name in (EQUAL, OTHER))
    return "surrogate: 64-atom cells by melt-quench with the Tersoff potential", equal, other


def _original(settings: Settings) -> tuple[str, Sets, Sets]:
    """The paper's cells of carbon, sorted by their coordination: 500 and 100 and 100 of 1:1."""
    frames = [f for f in archive_structures(fetch_archive(), {"C"}) if len(f) == 64]
    frames = deal(frames, len(frames), settings.seed)
    kinds = [carbon_class(frame) for frame in frames]
    equal = [f for f, kind in zip(frames, kinds, strict=True) if kind == EQUAL]
    other = [f for f, kind in zip(frames, kinds, strict=True) if kind != EQUAL]
    split = hold_out(equal, 500)
    added = round(settings.share * len(split["train"]))
    text = "original: the carbon cells of Materials Cloud 2023.102"
    return text, split, {"train": other[:added], "test": other[added:]}
