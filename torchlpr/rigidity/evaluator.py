"""Rigidities of atoms and structures by a factor that is there, chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import torch
from torch import Tensor

from torchlpr.bars import bar
from torchlpr.curvature import (
    FeatureSpan,
    MatrixFree,
    RowSpace,
    check_parameters,
    gradient_chunks,
    structure_chunks,
    structure_gradients,
)
from torchlpr.curvature.deflated_rows import DeflatedRows
from torchlpr.curvature.factor import check_finite
from torchlpr.curvature.memory import fitting_chunk, gradient_copies
from torchlpr.curvature.sweep import Sweep
from torchlpr.rigidity.evaluation import Evaluation, Interval
from torchlpr.rigidity.kept import Kept
from torchlpr.rigidity.many_atoms import (
    rows_in_float32,
    same_environments,
    span_pays,
    span_within,
)
from torchlpr.rigidity.prediction import checked_forms, checked_values, quadratic_forms
from torchlpr.rigidity.sharing import Fields, collect_shared, evaluate_shared
from torchlpr.structures.batch import AtomBatch
from torchlpr.structures.sharing import share_of_atoms, share_of_structures

__all__ = ["Evaluator"]


class Evaluator(Kept):
    """What :class:`torchlpr.rigidity.rigidity.Rigidity` can be asked, however it was made."""

    def sweep(self, batch: AtomBatch, mus: Sequence[float]) -> Evaluation:
        """LPR and mu-fraction of every atomic energy at several mu, for little more than one.

        One singular value decomposition of the rows serves all mu, at the same weights: exact
        for linear and kernel heads, while a network trained at another mu has other weights.

        Args:
            batch: any structures with the model's features.
            mus: strengths of the L2 term, positive. In parameter space, which keeps no rows,
                those far below the objective's mu are refused.

        Returns:
            Rigidities in 1/eV^2 and mu-fractions, shape (mus, atoms) each, float64.
        """
        shared = Sweep(self._updatable(), mus)

        def evaluate(gradients: Tensor) -> Evaluation:
            return Evaluation.of(
                checked_forms(shared.quadratic_forms(check_finite("gradient", gradients)))
            )

        chunks = self._atom_chunks(batch, sweep=True)
        return Evaluation(*evaluate_shared(evaluate, chunks, self.factor, self.ranks))

    def atoms(self, batch: AtomBatch) -> Evaluation:
        """LPR and mu-fraction of every atomic energy.

        Args:
            batch: any structures with the model's features.

        Returns:
            Rigidities in 1/eV^2 and mu-fractions, shape (atoms,) each, float64.
        """
        return Evaluation(*self._of_atoms(batch))

    def intervals(self, batch: AtomBatch) -> Interval:
        """Certified interval of every atom's LPR and mu-fraction.

        They hold however far the matrix-free shape could iterate: where the limit of products is
        reached, :meth:`atoms` refuses and the intervals are wide.

        Args:
            batch: any structures with the model's features.

        Returns:
            Ends of rigidities in 1/eV^2 and of mu-fractions, shape (atoms,) each, float64.
        """
        chunks = self._atom_chunks(batch)
        return Interval(*evaluate_shared(self._interval, chunks, self.factor, self.ranks))

    def structures(self, batch: AtomBatch) -> Evaluation:
        """Rigidity and mu-fraction of every structure's energy per atom.

        The rigidity of the total energy is this divided by n^2, the square of the number of
        atoms.

        Args:
            batch: any structures with the model's features.

        Returns:
            Rigidities in 1/eV^2 and mu-fractions, shape (structures,) each, float64.
        """
        chunks = self._structure_chunks(batch)
        return Evaluation(*evaluate_shared(self._evaluate, chunks, self.factor, self.ranks))

    def local(self, batch: AtomBatch) -> Tensor:
        """Local prediction rigidity of every atom in 1/eV^2, shape (atoms,)."""
        return self._of_atoms(batch, fractions=False)[0]

    def total(self, batch: AtomBatch) -> Tensor:
        """Rigidity of every structure's energy per atom in 1/eV^2, shape (structures,)."""
        return self.structures(batch).rigidity

    def mu_fraction(self, batch: AtomBatch) -> Tensor:
        """Share of the regulariser in every atom's LPR, in (0, 1], shape (atoms,)."""
        return self.atoms(batch).mu_fraction

    def prepare(self, batch: AtomBatch) -> None:
        """Do now what the first evaluation of as many atoms would do once.

        Args:
            batch: any structures with the model's features, as many as will be evaluated at once.
        """
        with self.ranks.agreed():
            distinct, _ = self._distinct(batch)
            if span_pays(distinct, self.factor) and self._span is not None:
                self._span.prepare()
            else:
                self._factorised()

    def _factorised(self) -> None:
        """What evaluates gradients, made before memory is taken for them."""
        if self.float32_error:
            _ = self._in_float32
        elif isinstance(self.factor, RowSpace):
            _ = self.factor.triangle

    def _distinct(self, batch: AtomBatch) -> tuple[AtomBatch, Tensor | None]:
        """The atoms to evaluate, and which of them each atom is like where they are fewer."""
        same = same_environments(batch, self.ranks) if self.tolerance > 0 else None
        if same is None:
            return batch, None
        first, owner = same
        alone = AtomBatch(batch.features[first], batch.types[first], torch.arange(len(first)))
        return alone.to(batch.features.device), owner

    def _of_atoms(self, batch: AtomBatch, fractions: bool = True) -> list[Tensor]:
        """Rigidities, and where they are asked for mu-fractions, shape (atoms,) each."""
        distinct, owner = self._distinct(batch)
        found = self._of_all(distinct, fractions)
        return found if owner is None else [field[owner] for field in found]

    def _of_all(self, batch: AtomBatch, fractions: bool) -> list[Tensor]:
        """The same, with every atom evaluated."""
        span = self._span if span_pays(batch, self.factor) else None
        if span is None:
            # other ranks may have room for the span: as many fields as they find
            fields = slice(None if fractions else 1)
            chunks = self._atom_chunks(batch)
            return evaluate_shared(
                lambda g: tuple(self._evaluate(g))[fields], chunks, self.factor, self.ranks
            )
        check_parameters(self.model, batch.features)
        span.prepare()  # before memory is taken for gradients
        mine, size = share_of_atoms(batch, self.ranks), self._chunk(batch)
        parts = zip(mine.features.split(size), mine.types.split(size), strict=True)
        found = (_fields(span, *part, fractions) for part in parts)
        return collect_shared(_shown(found, len(mine)), self.ranks)

    def _evaluate(self, gradients: Tensor) -> Evaluation:
        if self._in_float32 is None:
            return Evaluation.of(quadratic_forms(self.factor, gradients))
        own = check_finite("gradient", gradients).clone()  # they may be the features themselves
        return Evaluation.of(checked_forms(self._in_float32.quadratic_form_(own)))

    @cached_property
    def _in_float32(self) -> DeflatedRows | None:
        if not self.float32_error:
            return None
        assert isinstance(self.factor, RowSpace)  # others were refused
        return rows_in_float32(self.factor, self.float32_error, self.memory_limit, self.ranks)

    @cached_property
    def _span(self) -> FeatureSpan | None:
        if len(self.subset) < self.subset.total:
            return None
        kept = self.tolerance, self.memory_limit, self.ranks, self.float32_error
        return span_within(self.model, self.factor, *kept)

    def _interval(self, gradients: Tensor) -> Interval:
        if not isinstance(self.factor, MatrixFree):
            value, fraction = Evaluation.of(quadratic_forms(self.factor, gradients))
            return Interval(value, value, fraction, fraction)
        return Interval.of(self.factor.bounds(check_finite("gradient", gradients)))

    def _atom_chunks(self, batch: AtomBatch, sweep: bool = False) -> Iterator[Tensor]:
        """Gradients of this rank's atomic energies."""
        mine = share_of_atoms(batch, self.ranks)
        if not sweep:
            self._factorised()
        size = self._chunk(mine, sweep)
        chunks = gradient_chunks(self.model, mine, size, self.subset)
        with bar(len(mine), "rigidity", "atom") as shown:
            for _, gradients in chunks:
                yield gradients
                shown.update(len(gradients))

    def _structure_chunks(self, batch: AtomBatch) -> Iterator[Tensor]:
        """Gradients of the mean atomic energy of this rank's structures."""
        mine = share_of_structures(batch, self.ranks)
        self._factorised()
        mean, size = 1.0 / mine.counts.to(torch.float64), self._chunk(mine)
        with bar(mine.n_structures, "rigidity", "structure") as shown:
            for where, part in structure_chunks(mine, self.factor.n_parameters, size):
                yield structure_gradients(self.model, part, mean[where], size, self.subset)
                shown.update(where.stop - where.start)

    def _chunk(self, batch: AtomBatch, sweep: bool = False) -> int:
        """Gradients at a time."""
        copies = gradient_copies(self.model)
        device = batch.features.device
        return fitting_chunk(self.factor, len(batch), self.memory_limit, device, sweep, copies)


def _fields(span: FeatureSpan, features: Tensor, types: Tensor, fractions: bool) -> Fields:
    """Rigidities of some atoms, and where they are asked for mu-fractions."""
    if fractions:
        return Evaluation.of(checked_forms(span.quadratic_form(features, types)))
    return (1.0 / checked_values(span.values(features, types)),)


def _shown(parts: Iterator[Fields], atoms: int) -> Iterator[Fields]:
    """The same, with a bar where there are many."""
    with bar(atoms, "rigidity", "atom") as shown:
        for part in parts:
            yield part
            shown.update(len(part[0]))
