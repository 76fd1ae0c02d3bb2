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
from dataclasses import dataclass, field, replace
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
from torchlpr.studies.silicon_slabs import (
    CRYSTAL,
    OTHER,
    SLABS,
    Head,
    SlabSets,
    SlabStage,
    linear_head,
)

__all__ = ["Settings", "run"]


@dataclass(frozen=True)
class Settings:
    """Of the study.

    Attributes:
        seed: of the slabs and of the crystals' deformations.
        seeds: of the draws of training sets against whose size errors are shown.
        dft_seeds: of the structures held out of the real data.
        slabs: training slabs of the kernel head.
        linear_slabs: of the linear head.
        test: slabs held out, and structures of each kind in the second part.
        layers: of the slabs, four atoms each.
        others: layers of the slabs of other thickness; the first, thicker one has claims.
        strained: deformed crystals.
        amplitude: standard deviation of the displacements in each direction, Å.
        strain: largest entry of the strain of crystals in the second part.
        mu: strength of the L2 term, eV^2.
        force_weight: of the objective; a tenth of the mean square over the 192 components of the
            forces of a slab, as SIMPLE-NN has it (Lee et al., Comput. Phys. Commun. 242, 95
            (2019), doi:10.1016/j.cpc.2019.04.014).
        references: environments of the kernel heads.
        zeta: exponent of their kernel: 32 makes it local.
        sizes: numbers of training structures in the second part.
        added: crystals added to the real data.
        networks: seeds of networks that are watched while they train; empty for none.
        network_slabs: slabs they train on.
        epochs: of Adam, full batch.
        steps: of Levenberg-Marquardt, which follow.
    """

    seed: int = 0
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    dft_seeds: list[int] = field(default_factory=lambda: list(range(8)))
    slabs: int = 40
    linear_slabs: int = 120
    test: int = 20
    layers: int = 16
    others: list[int] = field(default_factory=lambda: [32, 8, 24, 48])
    strained: int = 8
    amplitude: float = 0.05
    strain: float = 0.01
    mu: float = 1e-6
    force_weight: float = 5e-4
    references: int = 200
    zeta: int = 32
    sizes: list[int] = field(default_factory=lambda: [1, 2, 4, 8, 16])
    added: list[int] = field(default_factory=lambda: [0, 1, 2, 4, 6, 8])
    networks: list[int] = field(default_factory=lambda: [0, 1, 2])
    network_slabs: int = 16
    epochs: int = 300
    steps: int = 50

    def __post_init__(self) -> None:
        if not self.seeds or not self.sizes or not self.others or 0 not in self.added:
            raise InputError(
                "seeds, sizes and others must not be empty, and added must hold 0, not "
                f"{self.seeds}, {self.sizes}, {self.others} and {self.added}"
            )


QUICK = {
    "seeds": [0],
    "slabs": 20,
    "linear_slabs": 40,
    "test": 6,
    "others": [32],
    "references": 120,
    "sizes": [1, 8],
    "dft_seeds": [0, 1, 2, 3],
    "networks": [],
}


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
        settings = replace(settings, **QUICK)  # type: ignore[arg-type]
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
    data = (
        f"{settings.slabs} and {settings.linear_slabs} slabs of Stillinger-Weber silicon, crystals and nano-clusters, made "
        f"here; {text}"
    )
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
