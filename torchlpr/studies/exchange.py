"""Part of a training set replaced: what changes in the rigidities, and what in the errors.

The four case studies on materials share this: a model before, models after some of the structures
gave way to others, at the same mu and with the same reference environments.

Source: Chong et al., J. Chem. Theory Comput. 19, 8020 (2023), doi:10.1021/acs.jctc.3c00704.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import ase
import numpy as np
import torch
from torch import Tensor

from torchlpr.analysis.kernel_maps import kernel_principal_components
from torchlpr.analysis.maps import principal_components
from torchlpr.bars import bar
from torchlpr.descriptors.soap import SOAP
from torchlpr.errors import InputError
from torchlpr.models import CompositionBaseline, LinearInParameters, LinearModel, SparseKernelModel
from torchlpr.models.inducing import select_inducing
from torchlpr.objective import Objective
from torchlpr.structures.batch import AtomBatch
from torchlpr.studies.exchange_results import HeadResult, Stage
from torchlpr.studies.exchange_stage import ExchangeOptions, train_stage
from torchlpr.training.grid_search import search_mu

__all__ = ["ExchangeBatches", "describe", "exchange", "run_heads"]

Head = Literal["kernel", "linear"]
BEFORE = "before"
FLAT = 1  # species of atoms whose features are basis functions, which tell species apart


@dataclass
class ExchangeBatches:
    """Described structures with one baseline subtracted.

    Attributes:
        base: training set before.
        added: by variant, the structures that replace as many of the base.
        validation: chooses mu.
        tests: held-out sets by name.
        probe: the atoms that are looked at.
        classes: label of each of them.
        baseline: energy of an atom that was subtracted.
        soap: the descriptor.
        frames: the probe's structures.
        zero: energy of an atom that local energies are given relative to, eV, by atomic number.
    """

    base: AtomBatch
    added: dict[str, AtomBatch]
    validation: AtomBatch
    tests: dict[str, AtomBatch]
    probe: AtomBatch
    classes: list[str]
    baseline: CompositionBaseline
    soap: SOAP
    frames: list[ase.Atoms]
    zero: dict[int, float]

    def kept(self, replaced: int, seed: int) -> list[int]:
        """Numbers of the structures of the base that stay."""
        n = self.base.n_structures
        if not 0 < replaced < n:
            raise InputError(f"{replaced} structures cannot replace as many of a base of {n}")
        chosen = np.random.default_rng(seed).choice(n, n - replaced, replace=False)
        return sorted(chosen.tolist())


def describe(
    soap: SOAP,
    base: Sequence[ase.Atoms],
    added: Mapping[str, Sequence[ase.Atoms]],
    validation: Sequence[ase.Atoms],
    tests: Mapping[str, Sequence[ase.Atoms]],
    probe: Sequence[ase.Atoms],
    classes: list[str],
    zero: dict[int, float] | None = None,
) -> ExchangeBatches:
    """Compute features, and subtract the mean energy of an atom in the base.

    The baseline is one constant for all species: where the base has one composition only, no
    other is determined, and a better one would give away what the study asks for.

    Args:
        soap: the descriptor.
        base: training set before.
        added: replacing structures by variant.
        validation: chooses mu.
        tests: held-out sets.
        probe: structures whose atoms are looked at.
        classes: label of each of these atoms.
        zero: energy of an atom that local energies are given relative to, by atomic number.

    Returns:
        The batches.
    """
    first = soap(base)
    mean = float((first.labels() / first.counts).mean())
    baseline = CompositionBaseline(soap.types, [mean] * len(soap.types))

    def batch(structures: Sequence[ase.Atoms]) -> AtomBatch:
        return baseline.subtract(soap(structures))

    return ExchangeBatches(
        base=baseline.subtract(first),
        added={name: batch(structures) for name, structures in added.items()},
        validation=batch(validation),
        tests={name: batch(structures) for name, structures in tests.items()},
        probe=batch(probe),
        classes=classes,
        baseline=baseline,
        soap=soap,
        frames=list(probe),
        zero=zero or {},
    )


def run_heads(batches: ExchangeBatches, options: ExchangeOptions) -> list[HeadResult]:
    """Kernel and linear head before and after every replacement.

    Args:
        batches: the structures.
        options: numbers of the study.

    Returns:
        One result a head.
    """
    return [exchange(head, batches, options) for head in ("kernel", "linear")]


def exchange(head: Head, batches: ExchangeBatches, options: ExchangeOptions) -> HeadResult:
    """One head: mu by validation on the base, then every training set at that mu.

    Args:
        head: "kernel" or "linear".
        batches: the structures.
        options: numbers of the study.

    Returns:
        What it says before and after.
    """
    start, soap, probe = time.perf_counter(), batches.soap, batches.probe
    model: LinearInParameters
    if head == "kernel":
        model = SparseKernelModel(select_inducing(batches.base, options.references))
        types = probe.types if len(soap.types) > 1 else None
        chart = kernel_principal_components(probe.features, types=types)
    else:
        model = LinearModel(soap.n_features, soap.types)
        chart = principal_components(probe.features)
    rows = {name: _rows(model, batch) for name, batch in batches.added.items()}
    held_out = {name: _rows(model, batch) for name, batch in batches.tests.items()}
    base = _rows(model, batches.base)
    plain = LinearModel(base.features.shape[1], [FLAT])
    search = search_mu(plain, base, _rows(model, batches.validation), Objective(mu=1.0))
    atoms = _flat(model, probe)

    def stage(train: AtomBatch, sigma: float | None = None) -> Stage:
        return train_stage(plain, train, Objective(search.best), held_out, atoms, options, sigma)

    shift = _constants(batches)
    kept = {}
    with bar(1 + len(rows), f"{head} model", "training set") as shown:
        stages = {BEFORE: stage(base)}
        noise = stages[BEFORE].sigma  # one noise for all, so that variances compare
        for variant, added in rows.items():
            shown.update()
            kept[variant] = base.select(batches.kept(len(added), options.seed))
            stages[variant] = stage(AtomBatch.cat([kept[variant], added]), noise)
        shown.update()
    stages = {name: replace(s, members=s.members + shift) for name, s in stages.items()}
    seconds = time.perf_counter() - start
    return HeadResult(
        head, search, stages, batches.classes, *chart, atoms, kept, rows, held_out, seconds
    )


def _flat(model: LinearInParameters, batch: AtomBatch) -> AtomBatch:
    """Basis functions in place of features, so that they are computed once."""
    types = torch.full_like(batch.types, FLAT)
    basis = model.basis(batch.features, batch.types).detach()
    return AtomBatch(basis, types, batch.structure)


def _rows(model: LinearInParameters, batch: AtomBatch) -> AtomBatch:
    """One atom for each structure, with the mean basis and the energy per atom: the same row."""
    basis = _flat(model, batch).features
    sums = basis.new_zeros(batch.n_structures, basis.shape[1])
    means = sums.index_add_(0, batch.structure, basis) / batch.counts[:, None]
    types = torch.full((len(means),), FLAT)
    return AtomBatch(means, types, torch.arange(len(means)), batch.labels() / batch.counts)


def _constants(batches: ExchangeBatches) -> Tensor:
    """Baseline less the zero of energy, for each atom of the probe, eV."""
    types = batches.probe.types
    local: Tensor = batches.baseline(batches.probe.features, types)
    zero = torch.zeros_like(local)
    for number, energy in batches.zero.items():
        zero[types == number] = energy
    return local - zero
