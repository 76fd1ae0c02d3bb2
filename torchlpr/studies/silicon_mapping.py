"""Silicon: does a potential map atomic energies correctly, or ad hoc? And what mends it.

Three parts. Slabs of one thickness with an exact teacher: totals and forces are learned while
atomic energies are off, until a crystal or a slab of another thickness is there; networks are
watched at the crystals while they train. Crystals, slabs
and nano-clusters: errors against the number of structures. And structures with energies of
density functional theory, where crystals of a single environment are invariant points.

Source: Yoo et al., Phys. Rev. Mater. 3, 093802 (2019), doi:10.1103/PhysRevMaterials.3.093802, and
its Supplemental Material. The paper's structures are not available: teacher, geometries,
descriptors and heads are this package's choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torchlpr.descriptors.soap import SOAP
from torchlpr.errors import InputError
from torchlpr.objective import Objective
from torchlpr.structures.stillinger_weber import CUTOFF
from torchlpr.studies.report import StudyReport
from torchlpr.studies.silicon_claims import (
    convergence_claims,
    dft_claims,
    network_claims,
    slab_claims,
)
from torchlpr.studies.silicon_convergence import SizeResult, convergence
from torchlpr.studies.silicon_dft import DFTStage, run_dft
from torchlpr.studies.silicon_network import NetworkRun, watch_networks
from torchlpr.studies.silicon_report import write_silicon
from torchlpr.studies.silicon_settings import QUICK, Settings
from torchlpr.studies.silicon_slabs import (
    Head,
    SlabSets,
    linear_head,
)
from torchlpr.studies.silicon_stage import CRYSTAL, OTHER, SLABS, SlabStage

__all__ = ["Settings", "run"]


def run(settings: Settings, folder: Path, quick: bool) -> StudyReport:
    """Run the study.

    Args:
        settings: its own.
        folder: for figures and tables.
        quick: fewer structures, one seed and no networks.

    Returns:
        The report; where the shared data are not there it says that their part was skipped.
    """
    if quick:
        settings = replace(settings, **QUICK)
    sets = _sets(_soap(normalize=True), settings.slabs, settings)
    plain = _sets(_soap(normalize=False), settings.linear_slabs, settings)
    stages = linear_stages(plain, settings) + kernel_stages(sets, settings)
    sizes = _sizes(_soap(normalize=True), sets, settings)
    dft, text = _real(settings)
    networks = _networks(settings)
    claims = [
        *slab_claims(sets, stages),
        *network_claims(networks),
        *convergence_claims(sizes),
        *dft_claims(dft),
    ]
    write_silicon(folder, sets, stages, networks, sizes, dft)
    slabs = f"{settings.slabs} and {settings.linear_slabs} slabs"
    data = f"{slabs} of Stillinger-Weber silicon, crystals and nano-clusters, made here; {text}"
    return StudyReport("silicon_mapping", data, tuple(claims), folder)


def linear_stages(sets: SlabSets, settings: Settings) -> list[SlabStage]:
    """Train linear heads on slabs, with a crystal, and with one thicker slab.

    Args:
        sets: the structures.
        settings: of the study.

    Returns:
        Stages on energies, then on energies and forces.
    """
    first = settings.others[:1]
    return [
        stage
        for objective in _objectives(settings)
        for stage in _stages(sets, "linear", linear_head, objective, first)
    ]


def kernel_stages(sets: SlabSets, settings: Settings) -> list[SlabStage]:
    """Train local kernel heads on slabs, with a crystal, and with slabs of other thickness.

    Args:
        sets: the structures.
        settings: of the study.

    Returns:
        Stages on energies, then on energies and forces, these for all thicknesses.
    """
    head = sets.kernel_head(settings.references, settings.zeta)
    energies, forces = _objectives(settings)
    return [
        *_stages(sets, "kernel", head, energies, settings.others[:1]),
        *_stages(sets, "kernel", head, forces, settings.others),
    ]


def _stages(
    sets: SlabSets, name: str, head: Head, objective: Objective, layers: Sequence[int]
) -> list[SlabStage]:
    others = {SLABS: None, CRYSTAL: sets.points.select([0])}
    others |= {f"{OTHER} {k} layers": sets.others[k] for k in layers}
    return [sets.stage(name, head, trained, objective, other) for trained, other in others.items()]


def _objectives(settings: Settings) -> tuple[Objective, Objective]:
    """On energies, and on energies and forces."""
    energies = Objective(settings.mu)
    return energies, replace(energies, force_weight=settings.force_weight)


def _soap(normalize: bool) -> SOAP:
    """Of the teacher's range; a kernel takes unit vectors."""
    return SOAP(
        cutoff=CUTOFF,
        max_radial=5,
        max_angular=6,
        width=0.5,
        smoothing=0.5,
        types=["Si"],
        normalize=normalize,
    )


def _sets(soap: SOAP, n: int, settings: Settings) -> SlabSets:
    return SlabSets(
        soap,
        n,
        settings.test,
        settings.layers,
        settings.others,
        settings.strained,
        settings.amplitude,
        settings.seed,
    )


def _networks(settings: Settings) -> list[NetworkRun]:
    return watch_networks(
        settings.networks,
        settings.epochs,
        settings.steps,
        settings.network_slabs,
        settings.test,
        settings.layers,
        settings.amplitude,
        _objectives(settings)[1],
    )


def _sizes(soap: SOAP, sets: SlabSets, settings: Settings) -> list[SizeResult]:
    points = soap(sets.points_frames)
    return convergence(
        soap,
        points,
        settings.sizes,
        settings.seeds,
        settings.test,
        settings.layers,
        settings.amplitude,
        settings.strain,
        settings.references,
        settings.zeta,
        _objectives(settings)[1],
    )


def _real(settings: Settings) -> tuple[Sequence[DFTStage], str]:
    """The part on real data, or the reason why there is none."""
    try:
        stages = run_dft(settings.dft_seeds, settings.added, settings.mu)
    except InputError as error:
        return [], f"the part on density functional theory was skipped: {error}"
    points = len(stages[0].errors) + max(settings.added)
    return stages, f"{stages[0].n_train} PBE structures and {points} strained crystals"
