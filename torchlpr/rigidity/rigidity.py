"""Rigidity of a trained model: which energies does its training set pin down?"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from torchlpr.bars import bar
from torchlpr.curvature import (
    Factor,
    FeatureSpan,
    MatrixFree,
    MatrixFreeSettings,
    build_matrix_free,
    check_parameters,
    gradient_chunks,
    parameter_subset,
    structure_chunks,
    structure_gradients,
    training_products,
    training_rows,
)
from torchlpr.curvature.factor import UpdatableFactor, check_finite
from torchlpr.curvature.gauss_newton import Shape, check_shape
from torchlpr.curvature.memory import check_change, fitting_chunk, gradient_copies
from torchlpr.curvature.shared_build import (
    accumulate_shared,
    build_shared,
    choose_shared_shape,
    shared_limit,
)
from torchlpr.curvature.sweep import Sweep
from torchlpr.errors import InputError
from torchlpr.models import load_model, model_state
from torchlpr.objective import Objective
from torchlpr.ranks import ALONE, Ranks
from torchlpr.rigidity.evaluation import Evaluation, Interval
from torchlpr.rigidity.many_atoms import same_environments, span_pays, span_within
from torchlpr.rigidity.prediction import checked_forms, quadratic_forms
from torchlpr.rigidity.sharing import collect_shared, evaluate_shared, load_shared
from torchlpr.serialization import read_document, write_document
from torchlpr.structures.batch import AtomBatch
from torchlpr.structures.sharing import share_of_atoms, share_of_structures

__all__ = ["Rigidity"]


class Rigidity:
    r"""Prediction rigidity with respect to a training set.

    .. math:: \mathrm{LPR}_k = \left(g_k^\top H^{-1} g_k\right)^{-1}, \qquad
              H = R^\top R + \mu I

    with g_k the gradient of an atomic energy with respect to the weights and R the rows of the
    objective (half convention, energies per atom by default). H is the exact Hessian for linear
    and kernel heads and the Gauss-Newton Hessian for a network. The training labels play no
    part: rigidity needs geometries only. Where the objective weighs forces, every component of
    them is a row beside those of the energies.

    Source: Chong et al., J. Chem. Theory Comput. 19, 8020 (2023), doi:10.1021/acs.jctc.3c00704.

    Args:
        model: maps (features, types) to atomic energies, at the minimum of the objective;
            a copy in evaluation mode is kept.
        train_batch: the training structures.
        objective: the loss the model was trained with.
        shape: the algorithm. "row" and "parameter" are exact, see
            :func:`torchlpr.curvature.build`; "matrix-free" stores no rows, and gives numbers to a
            tolerance and certified intervals; "column" is row space with the columns of the rows
            shared among ranks; "auto" takes the cheaper exact one that fits into memory, and
            matrix-free where none does.
        parameters: the weights that count, the others being frozen: "all", "last-layer",
            "species:Si", a pattern for names of parameters, or a list of these; see
            :func:`torchlpr.curvature.parameter_subset`.
        matrix_free: tolerance and limits of the matrix-free shape.
        memory_limit: bytes beside model and batches, kept to by working in chunks; by default
            three quarters of what is free.
        tolerance: relative error of an LPR that may be made, beside rounding, to evaluate many
            atoms of a network in the span of the training features; the bound is computed. A
            larger one truncates more. Atoms whose features agree to rounding are evaluated once.
            Zero does neither.
        ranks: processes that share the work, see :func:`torchlpr.ranks.current_ranks`: each makes
            this object with the same arguments and calls its methods with the same batches, does
            its part, and gets the whole result. None works alone, whatever processes there are.

    Attributes:
        subset: the weights that gradients and rows are taken by.
        reason: which algorithm was chosen, and why.
    """

    def __init__(
        self,
        model: nn.Module,
        train_batch: AtomBatch,
        objective: Objective,
        shape: Shape = "auto",
        parameters: str | Sequence[str] = "all",
        matrix_free: MatrixFreeSettings | None = None,
        memory_limit: int | None = None,
        tolerance: float = 1e-10,
        ranks: Ranks | None = None,
    ) -> None:
        check_shape(shape)
        if not 0 <= tolerance < 1:
            raise InputError(f"tolerance is a relative error in [0, 1), not {tolerance}")
        kept = objective, parameters, memory_limit, tolerance, ranks
        self._keep(copy.deepcopy(model).eval(), *kept)
        if memory_limit is None and matrix_free is not None:
            memory_limit = matrix_free.memory_limit
        limit = shared_limit(memory_limit, train_batch.features.device, self.ranks)
        why = "as asked"
        if shape == "auto":
            sizes = objective.n_rows(train_batch), len(self.subset)
            shape, why = choose_shared_shape(*sizes, self.ranks, limit)
        factor: Factor
        if shape == "matrix-free":
            settings = matrix_free or MatrixFreeSettings(memory_limit=memory_limit)
            products = training_products(self.model, train_batch, objective, self.subset)
            factor = build_matrix_free(products, objective.mu, settings)
        else:
            data = train_batch, objective
            factor = build_shared(self.model, *data, shape, self.ranks, limit, self.subset)
        self._set(factor, why)

    def _keep(
        self,
        model: nn.Module,
        objective: Objective,
        parameters: str | Sequence[str] = "all",
        memory_limit: int | None = None,
        tolerance: float = 1e-10,
        ranks: Ranks | None = None,
    ) -> None:
        self.model, self.objective, self.memory_limit = model, objective, memory_limit
        self.tolerance, self.ranks = tolerance, ranks or ALONE
        self.parameters = [parameters] if isinstance(parameters, str) else list(parameters)
        self.subset = parameter_subset(model, self.parameters)

    def _set(self, factor: Factor, why: str) -> None:
        self.factor, self.reason = factor, f"{factor.shape_name}, {why}"

    @classmethod
    def from_batches(
        cls,
        model: nn.Module,
        batches: Iterable[AtomBatch],
        objective: Objective,
        shape: Literal["row", "parameter"] = "parameter",
        checkpoint: str | Path | None = None,
        memory_limit: int | None = None,
        ranks: Ranks | None = None,
    ) -> Rigidity:
        """Rigidity of a training set that comes in batches, one at a time in memory.

        Args:
            model: maps (features, types) to atomic energies; a copy is kept.
            batches: the training structures, in the same order in every call.
            objective: the loss the model was trained with.
            shape: "parameter", or "row" where the rows are fewer than the weights.
            checkpoint: file from which a killed call goes on, to the same last bit.
            memory_limit: bytes, by default three quarters of what is free.
            ranks: processes that share the work; here each brings batches of its own, possibly
                none, that are a part of the training set.

        Returns:
            The rigidity.
        """
        new = cls.__new__(cls)
        new._keep(copy.deepcopy(model).eval(), objective, memory_limit=memory_limit, ranks=ranks)
        rows = accumulate_shared(
            new.model, batches, objective, shape, new.ranks, checkpoint, memory_limit
        )
        new._set(rows.factor(objective.mu), "as asked")
        return new

    def add(self, batch: AtomBatch) -> Rigidity:
        """The rigidity with more training structures, without factorising anew.

        Exact for linear and kernel heads; for a network it is that of the same weights, as
        before any training on the new structures.

        Args:
            batch: structures to add; their energies are not used.

        Returns:
            A new rigidity; this one stays as it is.
        """
        return self._changed(batch, self._updatable().update)

    def remove(self, batch: AtomBatch) -> Rigidity:
        """The rigidity with some training structures taken out, without factorising anew.

        At the same weights, as :meth:`add`. In row space no digit is lost; in parameter space
        a removal that would lose digits is refused.

        Args:
            batch: structures that were trained on, for example ``train.select([3, 8])``.

        Returns:
            A new rigidity; this one stays as it is.
        """
        return self._changed(batch, self._updatable().downdate)

    def _updatable(self) -> UpdatableFactor:
        if isinstance(self.factor, UpdatableFactor):
            return self.factor
        raise InputError(
            f"a rigidity in {self.factor.shape_name} cannot be changed; build it with "
            "shape='row' or shape='parameter'"
        )

    def _changed(self, batch: AtomBatch, change: Callable[[Tensor], Factor]) -> Rigidity:
        device = batch.features.device
        check_change(self.factor, self.objective.n_rows(batch), self.memory_limit, device)
        new = type(self).__new__(type(self))
        factor = change(training_rows(self.model, batch, self.objective, self.subset))
        kept = self.parameters, self.memory_limit, self.tolerance, self.ranks
        new._keep(self.model, self.objective, *kept)
        new._set(factor, f"changed from {self.factor.n_rows} rows to {factor.n_rows}")
        return new

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
        same = same_environments(batch, self.ranks) if self.tolerance > 0 else None
        if same is not None:
            first, owner = same
            alone = AtomBatch(batch.features[first], batch.types[first], torch.arange(len(first)))
            once = self.atoms(alone.to(batch.features.device))
            return Evaluation(once.rigidity[owner], once.mu_fraction[owner])
        span = self._span if span_pays(batch, self.factor) else None
        if span is None:
            chunks = self._atom_chunks(batch)
            return Evaluation(*evaluate_shared(self._evaluate, chunks, self.factor, self.ranks))
        check_parameters(self.model, batch.features)
        mine, size = share_of_atoms(batch, self.ranks), self._chunk(batch)
        parts = zip(mine.features.split(size), mine.types.split(size), strict=True)
        forms = (Evaluation.of(checked_forms(span.quadratic_form(*part))) for part in parts)
        return Evaluation(*collect_shared(_shown(forms, len(mine)), self.ranks))

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
        return self.atoms(batch).rigidity

    def total(self, batch: AtomBatch) -> Tensor:
        """Rigidity of every structure's energy per atom in 1/eV^2, shape (structures,)."""
        return self.structures(batch).rigidity

    def mu_fraction(self, batch: AtomBatch) -> Tensor:
        """Share of the regulariser in every atom's LPR, in (0, 1], shape (atoms,)."""
        return self.atoms(batch).mu_fraction

    def save(self, path: str | Path) -> None:
        """Write model, objective and factor into one self-contained file.

        The matrix-free shape has no factor: its file holds the features of the training set.

        Args:
            path: the file; written whole or not at all.
        """
        state = self.state()
        with self.ranks.agreed():
            if self.ranks.first:
                write_document(path, "rigidity", state)

    @classmethod
    def load(cls, path: str | Path, ranks: Ranks | None = None) -> Rigidity:
        """Read what :meth:`save` wrote; no training data are needed.

        Args:
            path: the file.
            ranks: processes that share the work of evaluating.

        Returns:
            The rigidity, ready to evaluate.
        """
        return cls.from_state(read_document(path, "rigidity"), ranks)

    def state(self) -> dict[str, object]:
        """Everything as plain tensors and settings; of ranks the first has it whole."""
        return {
            "model": model_state(self.model),
            "objective": self.objective.as_dict(),
            "factor": self.factor.state_dict(),
            "parameters": self.parameters,
            "tolerance": self.tolerance,
            "reason": self.reason,
        }

    @classmethod
    def from_state(cls, state: dict, ranks: Ranks | None = None) -> Rigidity:  # type: ignore[type-arg]
        """Rebuild from :meth:`state`.

        Args:
            state: as saved.
            ranks: processes that share the work of evaluating; all have the state.

        Returns:
            The rigidity.
        """
        new = cls.__new__(cls)
        objective = Objective(**state["objective"])
        model, parameters = load_model(state["model"]), state.get("parameters", "all")
        tolerance = state.get("tolerance", 1e-10)
        new._keep(model, objective, parameters, tolerance=tolerance, ranks=ranks)
        new.factor = load_shared(state["factor"], new.model, new.subset, new.ranks)
        new.reason = state["reason"]
        return new

    def _evaluate(self, gradients: Tensor) -> Evaluation:
        return Evaluation.of(quadratic_forms(self.factor, gradients))

    @cached_property
    def _span(self) -> FeatureSpan | None:
        if len(self.subset) < self.subset.total:
            return None
        kept = self.tolerance, self.memory_limit, self.ranks
        return span_within(self.model, self.factor, *kept)

    def _interval(self, gradients: Tensor) -> Interval:
        if not isinstance(self.factor, MatrixFree):
            value, fraction = self._evaluate(gradients)
            return Interval(value, value, fraction, fraction)
        return Interval.of(self.factor.bounds(check_finite("gradient", gradients)))

    def _atom_chunks(self, batch: AtomBatch, sweep: bool = False) -> Iterator[Tensor]:
        """Gradients of this rank's atomic energies."""
        mine = share_of_atoms(batch, self.ranks)
        size = self._chunk(mine, sweep)
        chunks = gradient_chunks(self.model, mine, size, self.subset)
        with bar(len(mine), "rigidity", "atom") as shown:
            for _, gradients in chunks:
                yield gradients
                shown.update(len(gradients))

    def _structure_chunks(self, batch: AtomBatch) -> Iterator[Tensor]:
        """Gradients of the mean atomic energy of this rank's structures."""
        mine = share_of_structures(batch, self.ranks)
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


def _shown(parts: Iterator[Evaluation], atoms: int) -> Iterator[Evaluation]:
    """The same, with a bar where there are many."""
    with bar(atoms, "rigidity", "atom") as shown:
        for part in parts:
            yield part
            shown.update(len(part.rigidity))
