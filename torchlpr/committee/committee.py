"""Committees of models that differ in what they were trained on."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import vector_to_parameters

from torchlpr.committee.forward import member_energies
from torchlpr.committee.statistics import MemberStatistics
from torchlpr.committee.tasks import Method
from torchlpr.committee.train import train_members
from torchlpr.curvature.gradients import check_parameters, chunk_size, parameter_count
from torchlpr.errors import InputError
from torchlpr.models import load_model, model_state
from torchlpr.objective import Objective
from torchlpr.serialization import read_document, write_document
from torchlpr.structures.batch import AtomBatch
from torchlpr.training import AdamSettings, LMSettings

__all__ = ["Committee", "CommitteePrediction"]


class CommitteePrediction(NamedTuple):
    """What a committee says about some structures.

    Attributes:
        atoms: statistics of every atomic energy in eV.
        structures: statistics of every structure's energy per atom in eV.
    """

    atoms: MemberStatistics
    structures: MemberStatistics


class Committee:
    r"""Models of one kind, each with its own weights, evaluated together.

    :meth:`train` makes the members differ in one of two ways.

    "sample-then-optimise" draws labels and prior of each member,

    .. math:: w_b = \mathrm{arg}\min_w \tfrac12 |t + \sigma \xi_b - \tilde t(w)|^2
              + \tfrac12 \mu |w - w^0_b|^2, \qquad w^0_b \sim N(0, \sigma^2/\mu)

    so that for linear and kernel heads the variance of an infinite committee is exactly
    sigma^2/LPR. "subsample" trains each member on a share of the structures, as Chong et al.
    did; its variance follows the rigidity only where the data, and not the regulariser,
    determine a prediction.

    Source: Matthews et al., Sample-then-optimize posterior sampling for Bayesian linear models,
    NeurIPS workshop (2017); Chong et al., J. Chem. Theory Comput. 19, 8020 (2023),
    doi:10.1021/acs.jctc.3c00704.

    Args:
        model: what the members have in common; its own weights play no part.
        weights: flat weights of each member in the order of ``model.parameters()``, shape
            (members, parameters).
        facts: how they were trained, plain numbers and strings.

    Raises:
        InputError: if the weights do not fit the model, are not finite, or are fewer than two.
    """

    def __init__(
        self, model: nn.Module, weights: Tensor, facts: dict[str, Any] | None = None
    ) -> None:
        expected = parameter_count(model)
        if weights.ndim != 2 or weights.shape[0] < 2 or weights.shape[1] != expected:
            raise InputError(
                f"weights must have shape (members, {expected}) with at least 2 members, not "
                f"{tuple(weights.shape)}"
            )
        if not bool(torch.isfinite(weights).all()):
            member = int((~torch.isfinite(weights)).any(dim=1).nonzero()[0])
            raise InputError(f"weights of member {member} are not finite; train it again")
        self.model = copy.deepcopy(model).to(torch.float64).requires_grad_(False)
        self.weights = weights.detach().to(torch.float64)
        self.facts = dict(facts or {})

    @classmethod
    def train(
        cls,
        model: nn.Module,
        batch: AtomBatch,
        objective: Objective,
        members: int = 10,
        method: Method = "sample-then-optimise",
        *,
        fraction: float = 0.8,
        sigma: float | None = None,
        seed: int = 0,
        optimizer: Literal["auto", "adam", "lm", "adam+lm", "closed-form"] = "auto",
        start: Literal["fresh", "model"] = "fresh",
        settings: AdamSettings | None = None,
        lm_settings: LMSettings | None = None,
        progress: bool = True,
    ) -> Committee:
        """Train all members in one batched computation, in float64.

        Args:
            model: linear or kernel head, or a network.
            batch: training structures with energies; subtract a baseline first.
            objective: the loss of one member; a subsampled member has the same mu.
            members: how many.
            method: "sample-then-optimise" or "subsample".
            fraction: share of the structures that each subsampled member sees.
            sigma: noise of the rows sqrt(c) E/n for sample-then-optimise, in eV. None takes the
                maximum of the marginal likelihood sigma^2 = 2 L_min/M for linear and kernel
                heads; a network needs a number, such as the error of its fit.
            seed: of everything random but mini-batches, whose order all members share and
                ``settings.seed`` gives; a member depends on seeds and its own number alone.
            optimizer: "closed-form" for linear and kernel heads; for networks "lm", "adam" or
                "adam+lm"; "auto" is the closed form where there is one, "adam" where its
                settings are given, else "lm".
            start: initial weights of a network's members: "fresh" ones for each, or those of
                the ``model`` for all (then members stay in its valley, which is what its
                rigidity describes).
            settings: of Adam. Mini-batches are shared: a member takes those structures of each
                that it sees, about ``batch_size`` of them.
            lm_settings: of Levenberg-Marquardt; members take no Newton steps.
            progress: whether to show a bar.

        Returns:
            The committee; ``facts`` says how it was trained, and for networks the largest
            |grad L_b|/(mu |w_b|).
        """
        check_parameters(model, batch.features)
        weights, facts = train_members(
            model,
            batch,
            objective,
            members,
            method,
            fraction,
            sigma,
            seed,
            optimizer,
            start,
            settings,
            lm_settings,
            progress,
        )
        return cls(model, weights, facts)

    def __len__(self) -> int:
        """Number of members."""
        return len(self.weights)

    @property
    def sigma(self) -> float | None:
        """Noise that sample-then-optimise drew with, in eV: the variance is sigma^2/LPR."""
        return self.facts.get("sigma")

    def member(self, number: int) -> nn.Module:
        """One member as a model of its own, in float64.

        Args:
            number: 0 for the first.

        Returns:
            A copy.

        Raises:
            InputError: if there is no such member.
        """
        if not 0 <= number < len(self):
            raise InputError(f"there is no member {number}; they are numbered 0 to {len(self) - 1}")
        alone = copy.deepcopy(self.model)
        vector_to_parameters(self.weights[number], alone.parameters())
        return alone

    def predict(self, batch: AtomBatch) -> CommitteePrediction:
        """Energies of all members.

        Args:
            batch: any structures with the model's features.

        Returns:
            Statistics of atoms and structures, float64; the variance of a structure's total
            energy is that of its energy per atom times n^2.
        """
        check_parameters(self.model, batch.features)
        step = chunk_size(len(self) * batch.features.shape[1])
        local = torch.cat(
            [
                member_energies(self.model, self.weights, x.to(torch.float64), types)
                for x, types in zip(
                    batch.features.split(step), batch.types.split(step), strict=True
                )
            ],
            dim=1,
        )
        totals = local.new_zeros(len(self), batch.n_structures)
        totals.index_add_(1, batch.structure, local)
        return CommitteePrediction(
            MemberStatistics(local), MemberStatistics(totals / batch.counts.to(local))
        )

    def save(self, path: str | Path) -> None:
        """Write the committee into one file.

        Args:
            path: the file; written whole or not at all.
        """
        write_document(path, "committee", self.state())

    @classmethod
    def load(cls, path: str | Path) -> Committee:
        """Read what :meth:`save` wrote.

        Args:
            path: the file.

        Returns:
            The committee.
        """
        return cls.from_state(read_document(path, "committee"))

    def state(self) -> dict[str, Any]:
        """Everything as plain tensors and settings."""
        state = {"model": model_state(self.model), "weights": self.weights.cpu()}
        return state | {"facts": self.facts}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Committee:
        """Rebuild from :meth:`state`.

        Args:
            state: as saved.

        Returns:
            The committee.
        """
        return cls(load_model(state["model"]), state["weights"], state["facts"])

    def __str__(self) -> str:
        """How the committee was trained, in one line."""
        facts = ", ".join(f"{name} {value}" for name, value in self.facts.items())
        return f"committee of {len(self)} {type(self.model).__name__}" + (facts and f": {facts}")
