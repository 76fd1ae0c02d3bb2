"""Amorphous silicon without and with coordination defects in the training set.

Source: Chong et al., J. Chem. Theory Comput. 19, 8020 (2023), doi:10.1021/acs.jctc.3c00704, and
sections 2 and 4 of its supporting information: descriptor, sets and heads. Committees are members
on a share of the training set, as in its Fig. S18; the share is this package's choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import ase
import numpy as np

from torchlpr.descriptors.soap import SOAP
from torchlpr.pipeline.demo_data import CLASSES
from torchlpr.structures.archive import fetch_archive, read_member
from torchlpr.structures.coordination import coordination_numbers
from torchlpr.structures.embedded import amorphous_silicon
from torchlpr.studies.data_choice import SUBSETS, Sets, check_data, deal, hold_out, of_class
from torchlpr.studies.exchange import describe, run_heads
from torchlpr.studies.exchange_claims import (
    changes_little,
    error_claim,
    median_claim,
    variance_claims,
)
from torchlpr.studies.exchange_report import write_exchange
from torchlpr.studies.exchange_results import HeadResult
from torchlpr.studies.exchange_stage import ExchangeOptions
from torchlpr.studies.report import Claim, StudyReport

__all__ = ["Settings", "run"]

FREE = "datasets/Si_amo_defect_free.xyz"
DEFECTS = "datasets/Si_amo_defect_containing.xyz"
CRYSTAL = -4.6297  # of the Tersoff potential, eV/atom
VARIANT = "defects"
QUICK = 70


@dataclass(frozen=True)
class Settings(ExchangeOptions):
    """Of the study, beside those of all that replace structures.

    Attributes:
        data: "surrogate" for the cells that come with the package, "original" for the paper's.
        share: of the training set that is replaced.
    """

    data: str = "surrogate"
    share: float = 0.1


def run(settings: Settings, folder: Path, quick: bool) -> StudyReport:
    """Run the study.

    Args:
        settings: its own.
        folder: for figures and tables.
        quick: half as many training structures.

    Returns:
        The report.
    """
    check_data(settings.data)
    text, free, defects = _original(settings) if settings.data == "original" else _surrogate()
    base = free["train"][:QUICK] if quick else free["train"]
    added = deal(defects["train"], round(settings.share * len(base)), settings.seed)
    probe = defects["test"]
    # the paper's: Table S1, with rascaline's max_radial counted from 1
    soap = SOAP(cutoff=2.85, max_radial=9, max_angular=12, width=0.5, smoothing=0.1, types=["Si"])
    batches = describe(
        soap,
        base,
        {VARIANT: added},
        free["validation"],
        {"defect-free": free["test"], "with defects": probe},
        probe,
        _classes(probe),
        {14: CRYSTAL} if settings.data == "surrogate" else None,
    )
    if quick:
        settings = replace(settings, references=min(settings.references, 250))
    results = run_heads(batches, settings)
    claims = [claim for result in results for claim in _claims(result)]
    zero = "E(crystal)" if settings.data == "surrogate" else ""
    data = f"{text}; {len(base)} trained on, {len(added)} of them replaced"
    return write_exchange("amorphous_silicon", data, folder, batches, results, claims, zero)


def _claims(result: HeadResult) -> list[Claim]:
    """Sections "Acceptance" of the study."""
    return [
        median_claim(result, VARIANT, "mis-coordinated atoms", set(CLASSES[1:])),
        changes_little(result, VARIANT, "4-coordinated atoms", {CLASSES[0]}),
        error_claim(result, VARIANT, "defect-free"),
        *variance_claims(result, VARIANT),
    ]


def _classes(frames: Sequence[ase.Atoms]) -> list[str]:
    """Coordination class of each atom."""
    numbers = np.concatenate([coordination_numbers(frame) for frame in frames])
    return [CLASSES[int(np.sign(number - 4))] for number in numbers]


def _surrogate() -> tuple[str, Sets, Sets]:
    """The cells that come with the package, in their own subsets."""
    frames = {subset: amorphous_silicon(subset) for subset in SUBSETS}
    free, defects = (of_class(frames, name) for name in ("defect_free", "defect_containing"))
    return "surrogate: 64-atom cells by melt-quench with the Tersoff potential", free, defects


def _original(settings: Settings) -> tuple[str, Sets, Sets]:
    """The paper's cells: 500 without defects where there are so many, 100 and 100 held out."""
    archive = fetch_archive()
    free, defects = (read_member(archive, member) for member in (FREE, DEFECTS))
    free, defects = (deal(frames, len(frames), settings.seed) for frames in (free, defects))
    split = hold_out(free, 500)
    added = round(settings.share * len(split["train"]))
    text = "original: Materials Cloud 2023.102, Si_amo_defect_free and _containing"
    return text, split, {"train": defects[:added], "test": defects[added:]}
