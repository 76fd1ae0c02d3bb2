"""Rigidity of a trained model: which energies does its training set pin down?"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from torchlpr.curvature import (
    Factor,
    MatrixFree,
    MatrixFreeSettings,
    ModelRows,
    build,
    build_matrix_free,
    choose_shape,
    energy_rows,
    gradient_chunks,
    load_factor,
    parameter_subset,
    structure_gradients,
)
from torchlpr.curvature.factor import check_finite
from torchlpr.curvature.gauss_newton import Shape
from torchlpr.curvature.memory import default_limit
from torchlpr.models import load_model, model_state
from torchlpr.objective import Objective
from torchlpr.rigidity.prediction import quadratic_forms
from torchlpr.serialization import read_document, write_document
from torchlpr.structures.batch import AtomBatch

__all__ = ["Evaluation", "Interval", "Rigidity"]


class Evaluation(NamedTuple):
    """Rigidities, each with its validity.

    Attributes:
        rigidity: 1/(g^T H^-1 g), 1/eV^2, shape (K,).
        mu_fraction: share r_k in (0, 1] of the regulariser in it, equal to
            d ln(rigidity)/d ln(mu), shape (K,). Near 1 the number is the regulariser's alone:
            the data say nothing about that prediction.
    """

    rigidity: Tensor
    mu_fraction: Tensor


class Interval(NamedTuple):
    """Rigidities between certified ends.

    Attributes:
        lower: lower end of the rigidity, 1/eV^2, shape (K,).
        upper: upper end; where the shape is an exact one, both are the rigidity itself.
        mu_fraction_lower: lower end of the mu-fraction, shape (K,).
        mu_fraction_upper: upper end of it.
    """

    lower: Tensor
    upper: Tensor
    mu_fraction_lower: Tensor
    mu_fraction_upper: Tensor


class Rigidity:
    r"""Prediction rigidity with respect to a training set.

    .. math:: \mathrm{LPR}_k = \left(g_k^\top H^{-1} g_k\right)^{-1}, \qquad
              H = R^\top R + \mu I

    with g_k the gradient of an atomic energy with respect to the weights and R the rows of the
    objective (half convention, energies per atom by default). H is the exact Hessian for linear
    and kernel heads and the Gauss-Newton Hessian for a network. The training energies play no
    part: rigidity needs geometries only.

    Source: Chong et al., J. Chem. Theory Comput. 19, 8020 (2023), doi:10.1021/acs.jctc.3c00704.

    Args:
        model: maps (features, types) to atomic energies, at the minimum of the objective;
            a copy is kept.
        train_batch: the training structures.
        objective: the loss the model was trained with.
        shape: the algorithm. "row" and "parameter" are exact, see
            :func:`torchlpr.curvature.build`; "matrix-free" stores no rows, and gives numbers to a
            tolerance and certified intervals; "auto" takes the cheaper exact one, and
            matrix-free where neither fits into memory.
        parameters: the weights that count, the others being frozen: "all", "last-layer",
            "species:Si", a pattern for names of parameters, or a list of these; see
            :func:`torchlpr.curvature.parameter_subset`.
        matrix_free: tolerance and limits of the matrix-free shape; its memory limit is the one
            that "auto" keeps.

    Attributes:
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
    ) -> None:
        self._keep(model, objective, parameters)
        why = "as asked"
        if shape == "auto":
            limit = matrix_free.memory_limit if matrix_free else None
            if limit is None:
                limit = default_limit(train_batch.features.device)
            shape, why = choose_shape(
                train_batch.n_structures, len(self._subset), memory_limit=limit
            )
        self.factor: Factor
        if shape == "matrix-free":
            scale = objective.row_scale(train_batch.counts)
            rows = ModelRows(self.model, train_batch, scale, self._subset)
            self.factor = build_matrix_free(rows, objective.mu, matrix_free)
        else:
            stored = energy_rows(self.model, train_batch, objective, subset=self._subset)
            self.factor = build(stored, objective.mu, shape)
        self.reason = f"{self.factor.shape_name}, {why}"

    def _keep(
        self, model: nn.Module, objective: Objective, parameters: str | Sequence[str]
    ) -> None:
        self.model, self.objective = copy.deepcopy(model), objective
        self.parameters = [parameters] if isinstance(parameters, str) else list(parameters)
        self._subset = parameter_subset(self.model, self.parameters)

    def atoms(self, batch: AtomBatch) -> Evaluation:
        """LPR and mu-fraction of every atomic energy.

        Args:
            batch: any structures with the model's features.

        Returns:
            Rigidities in 1/eV^2 and mu-fractions, shape (atoms,) each, float64.
        """
        chunks = gradient_chunks(self.model, batch, subset=self._subset)
        parts = [self._evaluate(gradients) for _, gradients in chunks]
        return Evaluation(*(torch.cat(fields) for fields in zip(*parts, strict=True)))

    def intervals(self, batch: AtomBatch) -> Interval:
        """Certified interval of every atom's LPR and mu-fraction.

        They hold however far the matrix-free shape could iterate: where the limit of products is
        reached, :meth:`atoms` refuses and the intervals are wide.

        Args:
            batch: any structures with the model's features.

        Returns:
            Ends of rigidities in 1/eV^2 and of mu-fractions, shape (atoms,) each, float64.
        """
        chunks = gradient_chunks(self.model, batch, subset=self._subset)
        parts = [self._interval(gradients) for _, gradients in chunks]
        return Interval(*(torch.cat(fields) for fields in zip(*parts, strict=True)))

    def structures(self, batch: AtomBatch) -> Evaluation:
        """Rigidity and mu-fraction of every structure's energy per atom.

        The rigidity of the total energy is this divided by n^2, the square of the number of
        atoms.

        Args:
            batch: any structures with the model's features.

        Returns:
            Rigidities in 1/eV^2 and mu-fractions, shape (structures,) each, float64.
        """
        mean = 1.0 / batch.counts.to(torch.float64)
        return self._evaluate(structure_gradients(self.model, batch, mean, subset=self._subset))

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
        write_document(path, "rigidity", self.state())

    @classmethod
    def load(cls, path: str | Path) -> Rigidity:
        """Read what :meth:`save` wrote; no training data are needed.

        Args:
            path: the file.

        Returns:
            The rigidity, ready to evaluate.
        """
        return cls.from_state(read_document(path, "rigidity"))

    def state(self) -> dict[str, object]:
        """Everything as plain tensors and settings."""
        return {
            "model": model_state(self.model),
            "objective": self.objective.as_dict(),
            "factor": self.factor.state_dict(),
            "parameters": self.parameters,
            "reason": self.reason,
        }

    @classmethod
    def from_state(cls, state: dict) -> Rigidity:  # type: ignore[type-arg]
        """Rebuild from :meth:`state`.

        Args:
            state: as saved.

        Returns:
            The rigidity.
        """
        new = cls.__new__(cls)
        objective = Objective(**state["objective"])
        new._keep(load_model(state["model"]), objective, state.get("parameters", "all"))
        new.factor = load_factor(state["factor"], new.model, new._subset)
        new.reason = state["reason"]
        return new

    def _evaluate(self, gradients: Tensor) -> Evaluation:
        forms = quadratic_forms(self.factor, gradients)
        return Evaluation(1.0 / forms.value, forms.regulariser / forms.value)

    def _interval(self, gradients: Tensor) -> Interval:
        if not isinstance(self.factor, MatrixFree):
            value, fraction = self._evaluate(gradients)
            return Interval(value, value, fraction, fraction)
        bounds = self.factor.bounds(check_finite("gradient", gradients))
        return Interval(
            1.0 / bounds.upper,
            1.0 / bounds.lower,
            bounds.regulariser_lower / bounds.upper,
            (bounds.regulariser_upper / bounds.lower).clamp(max=1.0),
        )
