"""What a rigidity is made of, and its file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from torchlpr.curvature import Factor, RowSpace, parameter_subset
from torchlpr.curvature.factor import UpdatableFactor
from torchlpr.errors import InputError
from torchlpr.models import load_model, model_state
from torchlpr.objective import Objective
from torchlpr.ranks import ALONE, Ranks
from torchlpr.rigidity.sharing import load_shared
from torchlpr.serialization import read_document, write_document

__all__ = ["Kept"]

K = TypeVar("K", bound="Kept")


class Kept:
    """Model, objective and factorised Hessian, with the settings they came by.

    Attributes:
        model: maps (features, types) to atomic energies, in evaluation mode.
        objective: the loss it was trained with.
        parameters: the weights that count, as they were chosen.
        subset: the weights that gradients and rows are taken by.
        factor: of the Hessian.
        reason: which algorithm was chosen, and why.
        memory_limit: bytes to work in, None for three quarters of what is free.
        tolerance: relative error of an LPR that may be made for speed.
        float32_error: and that products in float32 may make.
        ranks: processes that share the work.
    """

    def _keep(
        self,
        model: nn.Module,
        objective: Objective,
        parameters: str | Sequence[str] = "all",
        memory_limit: int | None = None,
        tolerance: float = 1e-10,
        ranks: Ranks | None = None,
        float32_error: float = 0.0,
    ) -> None:
        if not 0 <= tolerance < 1:
            raise InputError(f"tolerance is a relative error in [0, 1), not {tolerance}")
        if not 0 <= float32_error < 1:
            raise InputError(f"float32_error is a relative error in [0, 1), not {float32_error}")
        self.float32_error = float32_error
        self.model, self.objective, self.memory_limit = model, objective, memory_limit
        self.tolerance, self.ranks = tolerance, ranks or ALONE
        self.parameters = [parameters] if isinstance(parameters, str) else list(parameters)
        self.subset = parameter_subset(model, self.parameters)

    def _check_float32(self, shape: str, why: str) -> None:
        if self.float32_error and shape not in ("auto", "row", RowSpace.shape_name):
            raise InputError(
                f"float32_error={self.float32_error:g} is for row space, but this rigidity is in "
                f"shape {shape!r} ({why}); use shape='row', or leave float32_error at 0"
            )

    def _set(self, factor: Factor, why: str) -> None:
        self._check_float32(factor.shape_name, why)
        self.factor: Factor = factor
        self.reason = f"{factor.shape_name}, {why}"

    def _updatable(self) -> UpdatableFactor:
        if isinstance(self.factor, UpdatableFactor):
            return self.factor
        raise InputError(
            f"a rigidity in {self.factor.shape_name} cannot be changed; build it with "
            "shape='row' or shape='parameter'"
        )

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
    def load(cls: type[K], path: str | Path, ranks: Ranks | None = None) -> K:
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
            "float32_error": self.float32_error,
            "reason": self.reason,
        }

    @classmethod
    def from_state(cls: type[K], state: dict[str, Any], ranks: Ranks | None = None) -> K:
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
        new._keep(
            model,
            objective,
            parameters,
            tolerance=state.get("tolerance", 1e-10),
            ranks=ranks,
            float32_error=state.get("float32_error", 0.0),
        )
        new.factor = load_shared(state["factor"], new.model, new.subset, new.ranks)
        new.reason = state["reason"]
        return new
