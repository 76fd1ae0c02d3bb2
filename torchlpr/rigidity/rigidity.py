"""Rigidity of a trained model: which energies does its training set pin down?"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from torchlpr.curvature import (
    Factor,
    build,
    choose_shape,
    energy_rows,
    gradient_chunks,
    load_factor,
    structure_gradients,
)
from torchlpr.curvature.gauss_newton import Shape
from torchlpr.models import load_model, model_state
from torchlpr.objective import Objective
from torchlpr.rigidity.prediction import quadratic_forms
from torchlpr.serialization import read_document, write_document
from torchlpr.structures.batch import AtomBatch

__all__ = ["Evaluation", "Rigidity"]


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
        shape: "auto", "row" or "parameter": the exact algorithm, see
            :func:`torchlpr.curvature.build`.

    Attributes:
        reason: which algorithm was chosen, and why.
    """

    def __init__(
        self,
        model: nn.Module,
        train_batch: AtomBatch,
        objective: Objective,
        shape: Shape = "auto",
    ) -> None:
        rows = energy_rows(model, train_batch, objective)
        why = choose_shape(rows.shape[0], rows.shape[1])[1] if shape == "auto" else "as asked"
        self._assemble(model, objective, build(rows, objective.mu, shape), why)

    def _assemble(self, model: nn.Module, objective: Objective, factor: Factor, why: str) -> None:
        self.model = copy.deepcopy(model)
        self.objective, self.factor = objective, factor
        self.reason = f"{factor.shape_name}, {why}"

    def atoms(self, batch: AtomBatch) -> Evaluation:
        """LPR and mu-fraction of every atomic energy.

        Args:
            batch: any structures with the model's features.

        Returns:
            Rigidities in 1/eV^2 and mu-fractions, shape (atoms,) each, float64.
        """
        parts = [self._evaluate(gradients) for _, gradients in gradient_chunks(self.model, batch)]
        return Evaluation(
            torch.cat([part.rigidity for part in parts]),
            torch.cat([part.mu_fraction for part in parts]),
        )

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
        return self._evaluate(structure_gradients(self.model, batch, mean))

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
        new._assemble(load_model(state["model"]), objective, load_factor(state["factor"]), "")
        new.reason = state["reason"]
        return new

    def _evaluate(self, gradients: Tensor) -> Evaluation:
        forms = quadratic_forms(self.factor, gradients)
        return Evaluation(1.0 / forms.value, forms.regulariser / forms.value)
