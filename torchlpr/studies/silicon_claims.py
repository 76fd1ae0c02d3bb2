"""What the study of silicon has to show."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from torchlpr.studies.report import Claim
from torchlpr.studies.silicon_convergence import KINDS, SizeResult
from torchlpr.studies.silicon_dft import DFTStage
from torchlpr.studies.silicon_network import NetworkRun
from torchlpr.studies.silicon_slabs import SlabSets
from torchlpr.studies.silicon_stage import CRYSTAL, SLABS, SlabStage, offset_of_ratio

__all__ = ["convergence_claims", "dft_claims", "slab_claims"]

MEV = 1000.0


def slab_claims(sets: SlabSets, stages: Sequence[SlabStage]) -> list[Claim]:
    """Totals and forces are right while crystals are wrong, until the ratio changes.

    Args:
        sets: the structures.
        stages: of all heads.

    Returns:
        The claims.
    """
    claims = []
    for head, loss in (
        ("linear", "energies"),
        ("kernel", "energies"),
        ("kernel", "energies and forces"),
    ):
        mine = [s for s in stages if (s.head, s.loss) == (head, loss)]
        slabs, crystal, thick = mine[:3]
        assert (slabs.trained, crystal.trained) == (SLABS, CRYSTAL)
        name = f"{head} on {loss}"
        for text, value, holds in (
            ("slabs only: crystal error over 50 meV/atom", slabs.crystal_error, (0.05, np.inf)),
            ("one crystal: crystal error under 5 meV/atom", crystal.crystal_error, (0, 5e-3)),
            (f"{thick.trained}: crystal error under 5 meV/atom", thick.crystal_error, (0, 5e-3)),
        ):
            claims.append(Claim(f"{name}, {text}", MEV * value, holds[0] < value < holds[1]))
        worst = max(slabs.slab_rmse, crystal.slab_rmse)
        text = f"{name}: RMSE of held-out slabs under 1 meV/atom, before and after"
        claims.append(Claim(text, MEV * worst, worst < 1e-3))
        gain = min(crystal.offset, thick.offset) / slabs.offset
        text = f"{name}: the offset's rigidity rises over tenfold with either"
        claims.append(Claim(text, gain, gain > 10))
    # what is left of the last head: energies and forces
    text = "kernel on energies and forces, slabs only: over half of the offset's rigidity is mu's"
    claims.append(Claim(text, slabs.offset_floor, slabs.offset_floor > 0.5))
    wrong = [s.trained for s in mine if s.ad_hoc != (s.trained == SLABS)]
    text = "kernel on energies and forces: sets whose mapping the monitor misjudges"
    claims.append(Claim(text, float(len(wrong)), not wrong))
    ratios = [s.offset / expected_offset(sets, s) for s in mine[1:]]
    text = "kernel on energies and forces: offset rigidity over that of two environments, worst"
    worst = max(ratios, key=lambda ratio: abs(np.log(ratio)))
    claims.append(Claim(f"{text} (0.9 to 1.1)", worst, 0.9 < worst < 1.1))
    ratio = mine[0].predicted / mine[1].offset
    text = "kernel on energies and forces: that predicted by the monitor over that with a crystal"
    claims.append(Claim(f"{text} (0.9 to 1.1)", ratio, 0.9 < ratio < 1.1))
    return claims


def expected_offset(sets: SlabSets, stage: SlabStage) -> float:
    """Rigidity of the offset if clusters were two environments.

    Args:
        sets: the structures.
        stage: with a crystal or a slab of another thickness.

    Returns:
        In 1/eV^2.
    """
    surface, atoms = sets.gap.sizes[1] / sets.train.n_structures, int(sets.train.counts[0])
    other = 1.0
    if stage.trained != CRYSTAL:
        layers = int(stage.trained.split()[-2])
        other = 1 - surface / len(sets.others[layers])
    return offset_of_ratio(1 - surface / atoms, other, stage.n_structures - 1)


def network_claims(runs: Sequence[NetworkRun]) -> list[Claim]:
    """What the monitor sees of networks: crystals are wrong to the end, until there is one.

    Args:
        runs: of all seeds, none where there are no networks.

    Returns:
        The claims.
    """
    if not runs:
        return []
    alone, mended = ([r for r in runs if r.trained == name] for name in (SLABS, CRYSTAL))
    least = MEV * min(r.crystal_errors[-1] for r in alone)
    most = MEV * max(r.crystal_errors[-1] for r in mended)
    rmse = MEV * max(r.slab_rmse for r in runs)
    called = sum(r.reports[-1].ad_hoc for r in alone) / len(alone)
    rise = min(float(r.reports[-1].offset or 0) for r in mended) / max(
        float(r.reports[-1].offset or np.inf) for r in alone
    )
    name = "networks on energies and forces"
    return [
        Claim(f"{name}, slabs only: crystal error over 50 meV/atom, every seed", least, least > 50),
        Claim(f"{name}, slabs only: share that the monitor calls ad hoc", called, called == 1),
        Claim(f"{name}: RMSE of held-out slabs under 5 meV/atom", rmse, rmse < 5),
        Claim(f"{name}, one crystal: crystal error under 10 meV/atom", most, most < 10),
        Claim(
            f"{name}: the offset's rigidity rises over tenfold with the crystal", rise, rise > 10
        ),
    ]


def convergence_claims(results: Sequence[SizeResult]) -> list[Claim]:
    """Errors fall with the number of structures, and what slabs do not tell nano-clusters do.

    Args:
        results: of all kinds, sizes and seeds.

    Returns:
        The claims.
    """
    claims = []
    least, most = min(r.size for r in results), max(r.size for r in results)
    for kind in KINDS:
        few, many = (
            [r for r in results if r.kind == kind and r.size == size] for size in (least, most)
        )
        fall = min(f.force_test / m.force_test for f, m in zip(few, many, strict=True))
        text = f"{kind}: RMSE of held-out forces falls over twofold from {least} to {most}"
        claims.append(Claim(text, fall, fall > 2))
        worst = max(m.energy_test for m in many)
        text = f"{kind}: RMSE of held-out energies under 1 meV/atom at {most}"
        claims.append(Claim(text, MEV * worst, worst < 1e-3))
        errors = [MEV * m.crystal_error for m in many]
        if kind == "slab":
            text = f"slab: crystal error still over 50 meV/atom at {most}"
            claims.append(Claim(text, min(errors), min(errors) > 50))
        else:
            text = f"{kind}: crystal error under 5 meV/atom at {most}"
            claims.append(Claim(text, max(errors), max(errors) < 5))
    return claims


def dft_claims(stages: Sequence[DFTStage]) -> list[Claim]:
    """Invariant points become right where rigidity rises, at the same error of other structures.

    Args:
        stages: none where the data are not there.

    Returns:
        The claims.
    """
    if not stages:
        return []
    most = max(s.added for s in stages)
    before = [s for s in stages if s.added == 0]
    after = [s for s in stages if s.added == most]
    pairs = list(zip(before, after, strict=True))
    fall = _rms(before) / _rms(after)
    rise = min(float(a.lpr.median() / b.lpr.median()) for b, a in pairs)
    change = max((a.test_rmse / b.test_rmse - 1 for b, a in pairs), key=abs)
    return [
        Claim(f"DFT: error of invariant points falls over 5 times with {most}", fall, fall > 5),
        Claim("DFT: their median LPR rises over twofold, at every seed", rise, rise > 2),
        Claim(
            "DFT: RMSE of held-out ordinary structures changes by under 10 %",
            100 * change,
            abs(change) < 0.1,
        ),
    ]


def _rms(stages: Sequence[DFTStage]) -> float:
    return float(np.sqrt(np.mean([s.invariant_rmse**2 for s in stages])))
