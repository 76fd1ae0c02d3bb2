"""Rigidity of a potential that is not torchlpr's, with respect to structures of its training."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import ase
import torch
from torch import Tensor, nn
from tqdm import tqdm

from torchlpr.curvature import RowSpace, build
from torchlpr.curvature.factor import UpdatableFactor, check_finite
from torchlpr.curvature.memory import check_change
from torchlpr.curvature.row_space import gram_matrix
from torchlpr.errors import InputError
from torchlpr.free_memory import memory_limit as available
from torchlpr.objective import Objective
from torchlpr.potentials.memory import PotentialMemory, predict_potential_memory
from torchlpr.potentials.protocol import (
    Potential,
    check_elements,
    check_energies,
    check_potential,
    energies_of,
)
from torchlpr.potentials.weights import Weights
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
        check_potential(potential)
        train = _checked(structures, potential)
        self._weights, self.potential = _prepare(potential, parameters, dtype)
        self.subset, self.objective = self._weights.subset, objective
        self.memory_limit, self.progress = memory_limit, progress
        limit = available(memory_limit, self._device)
        self.memory = self._predict(len(train), train, limit)
        rows = self._rows(train)
        self.factor: UpdatableFactor
        self._set(build(rows, objective.mu, self.memory.shape, None, limit))  # type: ignore[arg-type]

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
        check_potential(potential)
        new, both = cls.__new__(cls), _checked([*structures, *evaluated], potential)
        new._weights, new.potential = _prepare(potential, parameters, dtype)
        atoms = sum(map(len, evaluated))
        return new._predict(len(structures), both, available(memory_limit, new._device), atoms)

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
        parts, wanted = [], _checked(structures, self.potential)
        for index, atoms in enumerate(self._bar(wanted, "structures")):
            row = self._row(atoms, index)[None] / len(atoms)
            parts.append(Evaluation.of(quadratic_forms(self.factor, row)))
        return Evaluation(*map(torch.cat, zip(*parts, strict=True)))

    def sweep(self, structures: Sequence[ase.Atoms], mus: Sequence[float]) -> Evaluation:
        """LPR and mu-fraction of every atomic energy at several mu, with gradients made once.

        Args:
            structures: any structures that the potential knows.
            mus: strengths of the L2 term, positive.

        Returns:
            Rigidities in 1/eV^2 and mu-fractions, shape (mus, atoms) each, float64.
        """
        factors = [self.factor.at(mu) for mu in mus]  # they share the rows

        def evaluate(gradients: Tensor) -> Evaluation:
            parts = [Evaluation.of(quadratic_forms(factor, gradients)) for factor in factors]
            return Evaluation(*map(torch.stack, zip(*parts, strict=True)))

        return self._evaluate(structures, evaluate)

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
        wanted = _checked(structures, self.potential)
        limit = available(self.memory_limit, self._device)
        limit += self.memory.rows if self.memory_limit is None else 0  # they are there already
        memory = self._predict(self.factor.n_rows, wanted, limit, sum(map(len, wanted)))
        out = torch.empty(memory.chunk, len(self.subset), dtype=torch.float64, device=self._device)
        filled = 0
        batched = getattr(self.potential, "batched_gradients", False)
        with self._bar(None, "atoms", sum(map(len, wanted))) as bar:
            for index, atoms in enumerate(wanted):
                local, done = energies_of(self.potential, atoms, index), 0
                while done < len(atoms):
                    step = min(len(atoms) - done, memory.chunk - filled)
                    step = step if batched else 1
                    part = out[filled : filled + step]
                    energies = local[done : done + step]
                    self._weights.gradients(self._module, energies, part, batched)
                    filled, done = filled + step, done + step
                    bar.update(step)
                    if filled == memory.chunk:
                        yield out
                        filled = 0
        if filled:
            yield out[:filled]

    def at(self, mu: float) -> PotentialRigidity:
        """The rigidity of the same rows at another strength of the L2 term.

        Args:
            mu: positive.

        Returns:
            A new rigidity, which shares the rows; this one stays as it is.
        """
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
        """The rigidity with some training structures taken out, at the same weights.

        Args:
            structures: that were trained on.

        Returns:
            A new rigidity; this one stays as it is.
        """
        return self._changed(structures, self.factor.downdate)

    def largest_eigenvalue(self) -> float:
        """Largest eigenvalue of R^T R in eV^2, beside which mu is small or large."""
        if isinstance(self.factor, RowSpace):
            return float(torch.linalg.eigvalsh(gram_matrix(self.factor.rows))[-1])
        singular = torch.linalg.svdvals(self.factor.state_dict()["triangle"])
        return max(0.0, float(singular[0]) ** 2 - self.objective.mu)

    @property
    def _module(self) -> nn.Module:
        assert isinstance(self.potential, nn.Module)
        return self.potential

    @property
    def _device(self) -> torch.device:
        return next(self._module.parameters()).device

    def _set(self, factor: UpdatableFactor) -> None:
        frozen = f", {self._weights.frozen} frozen ones left out" if self._weights.frozen else ""
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
        changed = _checked(structures, self.potential)
        check_change(self.factor, len(changed), self.memory_limit, self._device)
        return self._with(change(self._rows(changed)), self.objective)

    def _predict(
        self, n_rows: int, structures: Sequence[ase.Atoms], limit: int, n_atoms: int = 0
    ) -> PotentialMemory:
        return predict_potential_memory(
            self.potential, self._weights, n_rows, structures, limit, n_atoms
        )

    def _rows(self, structures: Sequence[ase.Atoms]) -> Tensor:
        """One weighted row a structure, shape (structures, P)."""
        counts = torch.tensor([len(atoms) for atoms in structures])
        scale = self.objective.row_scale(counts).tolist()
        size = len(structures), len(self.subset)
        rows = torch.empty(size, dtype=torch.float64, device=self._device)
        for index, atoms in enumerate(self._bar(structures, "rows")):
            self._row(atoms, index, rows[index]).mul_(scale[index])
        return check_finite("row", rows)

    def _row(self, atoms: ase.Atoms, index: int, out: Tensor | None = None) -> Tensor:
        """Gradient of a structure's energy, shape (P,)."""
        local = energies_of(self.potential, atoms, index)
        if index == 0:
            check_energies(self.potential, atoms, local, index)
        if out is None:
            out = torch.empty(len(self.subset), dtype=torch.float64, device=local.device)
        self._weights.gradients(self._module, local.sum()[None], out[None])
        return out

    def _evaluate(
        self, structures: Sequence[ase.Atoms], evaluate: Callable[[Tensor], Evaluation]
    ) -> Evaluation:
        parts = [evaluate(gradients) for gradients in self.gradients(structures)]
        return Evaluation(*(torch.cat(part, dim=-1) for part in zip(*parts, strict=True)))

    def _bar(self, things: object, name: str, total: int | None = None) -> tqdm:
        """A bar over structures or atoms."""
        hidden = None if self.progress is None else not self.progress
        return tqdm(things, desc=name, total=total, disable=hidden, delay=2)


def _prepare(
    potential: Potential, parameters: str | Sequence[str], dtype: torch.dtype | None
) -> tuple[Weights, Potential]:
    """The weights that count, and a copy of the potential in which they alone have gradients."""
    if dtype is not None and not dtype.is_floating_point:
        raise InputError(f"dtype must be one of real numbers, such as torch.float64, not {dtype}")
    assert isinstance(potential, nn.Module)  # checked
    weights = Weights(potential, parameters)
    mine = copy.deepcopy(potential).eval()
    mine = mine if dtype is None else mine.to(dtype)
    weights.freeze_others(mine)
    assert isinstance(mine, Potential)
    return weights, mine


def _checked(structures: Sequence[ase.Atoms] | ase.Atoms, potential: Potential) -> list[ase.Atoms]:
    if isinstance(structures, ase.Atoms):
        raise InputError("a list of structures is needed; write [atoms]")
    if not len(structures):
        raise InputError("there are no structures")
    for index, atoms in enumerate(structures):
        if not len(atoms):
            raise InputError(f"structure {index} has no atoms; leave it out")
    if (types := getattr(potential, "types", None)) is not None:
        check_elements(structures, types, potential)
    return list(structures)
