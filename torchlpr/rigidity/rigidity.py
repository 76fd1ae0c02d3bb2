"""Rigidity of a trained model: which energies does its training set pin down?"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal

from torch import Tensor, nn

from torchlpr.curvature import Factor, MatrixFreeSettings, training_rows
from torchlpr.curvature.gauss_newton import Shape, check_shape
from torchlpr.curvature.memory import check_change
from torchlpr.curvature.shared_build import accumulate_shared
from torchlpr.objective import Objective
from torchlpr.ranks import Ranks
from torchlpr.rigidity.building import ASKED, factor_of
from torchlpr.rigidity.evaluator import Evaluator
from torchlpr.rigidity.recasting import recast_factor
from torchlpr.structures.batch import AtomBatch

__all__ = ["Rigidity"]


class Rigidity(Evaluator):
    r"""Prediction rigidity with respect to a training set.

    .. math:: \mathrm{LPR}_k = \left(g_k^\top H^{-1} g_k\right)^{-1}, \qquad
              H = R^\top R + \mu I

    with g_k the gradient of an atomic energy with respect to the weights and R the rows of the
    objective (half convention, energies per atom by default). H is the exact Hessian for linear
    and kernel heads and the Gauss-Newton Hessian for a network. The training labels play no
    part: rigidity needs geometries only. Where the objective weighs forces, every component of
    them is a row beside those of the energies. What it can be asked is in
    :class:`torchlpr.rigidity.evaluator.Evaluator`, its file and its parts in
    :class:`torchlpr.rigidity.kept.Kept`.

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
        float32_error: largest relative error of an LPR, and error of a mu-fraction, that products
            of gradients with the rows may make in float32. It is bounded for every atom, and what
            may be off by more is refused; zero takes float64 throughout. In row space: it spares
            a third of the time for many atoms of a network, and costs it for few.

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
        float32_error: float = 0.0,
    ) -> None:
        check_shape(shape)
        kept = objective, parameters, memory_limit, tolerance, ranks, float32_error
        self._keep(copy.deepcopy(model).eval(), *kept)
        self._check_float32(shape, ASKED)
        data = train_batch, objective, shape, self.ranks, memory_limit
        self._set(*factor_of(self.model, self.subset, *data, matrix_free))

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
        parameters: str | Sequence[str] = "all",
        tolerance: float = 1e-10,
        float32_error: float = 0.0,
    ) -> Rigidity:
        """Rigidity of a training set that comes in batches, one at a time in memory.

        How many rows there will be is not known beforehand, so that a shape is not chosen by
        size; and one that keeps no sum of rows needs the whole training set.

        Args:
            model: maps (features, types) to atomic energies; a copy is kept.
            batches: the training structures, in the same order in every call.
            objective: the loss the model was trained with.
            shape: "parameter", or "row" where the rows are fewer than the weights.
            checkpoint: file from which a killed call goes on, to the same last bit.
            memory_limit: bytes, by default three quarters of what is free.
            ranks: processes that share the work; here each brings batches of its own, possibly
                none, that are a part of the training set.
            parameters: the weights that count, the others being frozen; only their columns of
                the rows are made and kept.
            tolerance: relative error of an LPR that may be made to evaluate many atoms faster.
            float32_error: and that products in float32 may make, in row space.

        Returns:
            The rigidity.

        Raises:
            InputError: if an argument is not allowed, there are no batches, the checkpoint is
                of something else, or memory does not suffice.
        """
        new = cls.__new__(cls)
        kept = objective, parameters, memory_limit, tolerance, ranks, float32_error
        new._keep(copy.deepcopy(model).eval(), *kept)
        new._check_float32(shape, ASKED)
        resumed = new.ranks, checkpoint, memory_limit
        rows = accumulate_shared(new.model, batches, objective, shape, *resumed, new.subset)
        new._set(rows.factor(objective.mu), ASKED)
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

    def recast(
        self, shape: Shape = "auto", parameters: str | Sequence[str] | None = None
    ) -> Rigidity:
        """The rigidity of the same training set in another shape, or by some of its weights.

        No training data are needed, because the factor has it all; only rows cannot be had from
        parameter space, which does not keep them.

        Args:
            shape: the algorithm; "auto" leaves it as it is, or for fewer weights takes the
                cheapest exact one that fits.
            parameters: the weights that count, among those of this rigidity; None for these.

        Returns:
            A new rigidity; this one stays as it is.

        Raises:
            InputError: if there are no such weights, or not what the shape needs.
        """
        chosen = self.parameters if parameters is None else parameters
        new = type(self).__new__(type(self))
        kept = self.memory_limit, self.tolerance, self.ranks, self.float32_error
        new._keep(self.model, self.objective, chosen, *kept)
        new._check_float32(shape, ASKED)
        new._set(*recast_factor(self, new.subset, shape))
        return new

    def _changed(self, batch: AtomBatch, change: Callable[[Tensor], Factor]) -> Rigidity:
        device = batch.features.device
        check_change(self.factor, self.objective.n_rows(batch), self.memory_limit, device)
        new = type(self).__new__(type(self))
        factor = change(training_rows(self.model, batch, self.objective, self.subset))
        kept = self.memory_limit, self.tolerance, self.ranks, self.float32_error
        new._keep(self.model, self.objective, self.parameters, *kept)
        new._set(factor, f"changed from {self.factor.n_rows} rows to {factor.n_rows}")
        return new
