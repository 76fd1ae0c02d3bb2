"""Rigidity of a potential that is not torchlpr's, with respect to structures of its training."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import ase
import torch
from torch import Tensor

from torchlpr.curvature import RowSpace, build
from torchlpr.curvature.factor import UpdatableFactor
from torchlpr.curvature.memory import check_change
from torchlpr.errors import InputError
from torchlpr.free_memory import memory_limit as available
from torchlpr.objective import Objective
from torchlpr.potentials.derivatives import Derivatives, checked_structures
from torchlpr.potentials.memory import PotentialMemory
from torchlpr.potentials.mus import at_every_mu, largest_eigenvalue
from torchlpr.potentials.protocol import Potential
from torchlpr.rigidity.evaluation import Evaluation
from torchlpr.rigidity.prediction import quadratic_forms

__all__ = ["PotentialRigidity"]


class PotentialRigidity:
    r"""Prediction rigidity of any torch potential: :class:`torchlpr.Rigidity` from structures.

    .. math:: \mathrm{LPR}_k = \left(g_k^\top H^{-1} g_k\right)^{-1}, \qquad
              H = R^\top R + \mu I, \qquad
              R_A = \frac{1}{n_A} \sum_{k \in A} g_k

    One backward pass a training structure gives its row, one an atom the gradient g_k of its
    energy, which may depend on all atoms around it. Gradients are evaluated some at a time and
    never kept. H is the Gauss-Newton Hessian at the weights as they are; it is the curvature of
    training where the potential is at a minimum of the objective.

    Source: Chong et al., J. Chem. Theory Comput. 19, 8020 (2023), doi:10.1021/acs.jctc.3c00704.

    Args:
        potential: a module with the methods of :class:`torchlpr.potentials.Potential`; a copy in
            evaluation mode is kept.
        structures: the training structures; their labels play no part.
        objective: mu, energy weight and averaging of the loss; energies alone.
        parameters: the weights that count: "all" that require gradients, "last-layer",
            "species:Si", a pattern for names of parameters, or a list of these, see
            :func:`torchlpr.curvature.parameter_subset`.
        memory_limit: bytes beside potential and structures, by default three quarters of what is
            free. The need is predicted before rows are allocated, and refused if it is more.
        dtype: in which the copy runs; None leaves the potential's own. Rows are float64 always.
        progress: whether to show bars; by default those of more than two seconds.

    Attributes:
        subset: the weights that gradients and rows are taken by.
        memory: the prediction.
        reason: which algorithm was chosen, and how many weights count.

    Raises:
        InputError: if the potential or a structure will not do, or memory does not suffice.
    """

    def __init__(
        self,
        potential: Potential,
        structures: Sequence[ase.Atoms],
        objective: Objective,
        parameters: str | Sequence[str] = "all",
        memory_limit: int | None = None,
        dtype: torch.dtype | None = torch.float64,
        progress: bool | None = None,
    ) -> None:
        if objective.force_weight:
            raise InputError(
                f"forces weigh {objective.force_weight}, but rows of forces are made for "
                "torchlpr's own heads alone; set force_weight=0"
            )
        train = checked_structures(structures, potential)
        self._derivatives = Derivatives(potential, parameters, dtype, progress)
        self.objective, self.memory_limit = objective, memory_limit
        limit = available(memory_limit, self._derivatives.device)
        self.memory = self._derivatives.memory(len(train), train, limit)
        factor = build(self._rows(train), objective.mu, self.memory.shape, None, limit)
        assert isinstance(factor, UpdatableFactor)  # in row space or parameter space
        self._set(factor)

    @classmethod
    def predict_memory(
        cls,
        potential: Potential,
        structures: Sequence[ase.Atoms],
        evaluated: Sequence[ase.Atoms] = (),
        parameters: str | Sequence[str] = "all",
        memory_limit: int | None = None,
        dtype: torch.dtype | None = torch.float64,
    ) -> PotentialMemory:
        """What a rigidity will need, without making it.

        Args:
            potential: the potential.
            structures: the training structures.
            evaluated: structures that will be evaluated.
            parameters: the weights that count.
            memory_limit: bytes, as for the rigidity.
            dtype: in which the potential will run.

        Returns:
            Bytes, above those of the potential's copy and of the interpreter.
        """
        both = checked_structures([*structures, *evaluated], potential)
        derivatives = Derivatives(potential, parameters, dtype)
        limit = available(memory_limit, derivatives.device)
        return derivatives.memory(len(structures), both, limit, sum(map(len, evaluated)))

    def atoms(self, structures: Sequence[ase.Atoms]) -> Evaluation:
        """LPR and mu-fraction of every atomic energy.

        Args:
            structures: any structures that the potential knows.

        Returns:
            Rigidities in 1/eV^2 and mu-fractions, shape (atoms of all structures,), float64.
        """
        return self._evaluate(structures, lambda g: Evaluation.of(quadratic_forms(self.factor, g)))

    def structures(self, structures: Sequence[ase.Atoms]) -> Evaluation:
        """Rigidity and mu-fraction of every structure's energy per atom.

        Args:
            structures: any structures that the potential knows.

        Returns:
            Rigidities in 1/eV^2 and mu-fractions, shape (structures,) each, float64.
        """
        wanted, parts, step = self._checked(structures), [], self.memory.chunk
        for first in range(0, len(wanted), step):
            some = wanted[first : first + step]
            mean = torch.tensor([1.0 / len(atoms) for atoms in some], dtype=torch.float64)
            rows = self._derivatives.rows(some, mean, first)
            parts.append(Evaluation.of(quadratic_forms(self.factor, rows)))
        return Evaluation(*map(torch.cat, zip(*parts, strict=True)))

    def sweep(self, structures: Sequence[ase.Atoms], mus: Sequence[float]) -> Evaluation:
        """LPR and mu-fraction of every atomic energy at several mu, with gradients made once.

        Args:
            structures: any structures that the potential knows.
            mus: strengths of the L2 term, positive; in parameter space those far below the
                objective's are refused.

        Returns:
            Rigidities in 1/eV^2 and mu-fractions, shape (mus, atoms) each, float64.
        """
        return self._evaluate(structures, at_every_mu(self.factor, mus))

    def local(self, structures: Sequence[ase.Atoms]) -> Tensor:
        """Local prediction rigidity of every atom in 1/eV^2, shape (atoms,)."""
        return self.atoms(structures).rigidity

    def total(self, structures: Sequence[ase.Atoms]) -> Tensor:
        """Rigidity of every structure's energy per atom in 1/eV^2, shape (structures,)."""
        return self.structures(structures).rigidity

    def mu_fraction(self, structures: Sequence[ase.Atoms]) -> Tensor:
        """Share of the regulariser in every atom's LPR, in (0, 1], shape (atoms,)."""
        return self.atoms(structures).mu_fraction

    def gradients(self, structures: Sequence[ase.Atoms]) -> Iterator[Tensor]:
        """Gradients of atomic energies, some atoms at a time.

        Args:
            structures: any structures that the potential knows.

        Yields:
            Shape (up to ``memory.chunk``, P), float64, which the next ones overwrite.
        """
        wanted, device = self._checked(structures), self._derivatives.device
        limit = available(self.memory_limit, device)
        if self.memory_limit is None:  # the rows are there already
            limit += 8 * self.factor.n_rows * self.factor.n_parameters
        sizes = self.factor.n_rows, wanted, limit, sum(map(len, wanted))
        yield from self._derivatives.gradients(wanted, self._derivatives.memory(*sizes).chunk)

    def at(self, mu: float) -> PotentialRigidity:
        """The rigidity of the same rows, which it shares, at another mu; in row space alone."""
        return self._with(self.factor.at(mu), replace(self.objective, mu=mu))

    def add(self, structures: Sequence[ase.Atoms]) -> PotentialRigidity:
        """The rigidity with more training structures, at the same weights.

        Args:
            structures: to add.

        Returns:
            A new rigidity; this one stays as it is.
        """
        return self._changed(structures, self.factor.update)

    def remove(self, structures: Sequence[ase.Atoms]) -> PotentialRigidity:
        """The rigidity with some training structures taken out; see :meth:`add`."""
        return self._changed(structures, self.factor.downdate)

    def largest_eigenvalue(self) -> float:
        """Largest eigenvalue of R^T R in eV^2, beside which mu is small or large."""
        return largest_eigenvalue(self.factor, self.objective.mu)

    @property
    def potential(self) -> Potential:
        """The copy that is differentiated."""
        return self._derivatives.potential

    def _checked(self, structures: Sequence[ase.Atoms]) -> list[ase.Atoms]:
        return checked_structures(structures, self.potential)

    def _set(self, factor: UpdatableFactor) -> None:
        if isinstance(factor, RowSpace):  # before memory is taken for gradients
            _ = factor.triangle
        weights = self._derivatives.weights
        self.subset = weights.subset
        frozen = f", {weights.frozen} frozen ones left out" if weights.frozen else ""
        sizes = f"{factor.n_rows} rows, {factor.n_parameters} parameters{frozen}"
        self.factor, self.reason = factor, f"{factor.shape_name}, {sizes}"

    def _with(self, factor: UpdatableFactor, objective: Objective) -> PotentialRigidity:
        new = copy.copy(self)
        new.objective = objective
        new._set(factor)
        return new

    def _changed(
        self, structures: Sequence[ase.Atoms], change: Callable[[Tensor], UpdatableFactor]
    ) -> PotentialRigidity:
        changed = self._checked(structures)
        device = self._derivatives.device
        check_change(self.factor, len(changed), self.memory_limit, device)
        return self._with(change(self._rows(changed)), self.objective)

    def _rows(self, structures: Sequence[ase.Atoms]) -> Tensor:
        counts = torch.tensor([len(atoms) for atoms in structures])
        return self._derivatives.rows(structures, self.objective.row_scale(counts))

    def _evaluate(
        self, structures: Sequence[ase.Atoms], evaluate: Callable[[Tensor], Evaluation]
    ) -> Evaluation:
        parts = [evaluate(gradients) for gradients in self.gradients(structures)]
        return Evaluation(*(torch.cat(part, dim=-1) for part in zip(*parts, strict=True)))
