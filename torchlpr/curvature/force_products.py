"""Products with the rows of energies and forces, without storing any row.

R v is the change of the forces where the weights move along v: of the energies' slopes by the
features, times the derivatives of these. R^T u is the gradient of how the energies change where
the features move as the atoms do along u. Structures are taken one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vmap

from torchlpr.curvature.gradients import parameter_count, split_parameters
from torchlpr.curvature.products import ModelRows, RowProducts
from torchlpr.curvature.subsets import Subset
from torchlpr.errors import InputError
from torchlpr.objective import Objective
from torchlpr.structures.batch import AtomBatch

__all__ = ["ForceRows", "TrainingRows", "training_products"]

BLOCK = 2**24  # doubles in the tangents of a structure's features


class ForceRows:
    """Products with the rows -scale d2E/dr dw of the forces on some atoms, in float64.

    Args:
        model: maps (features, types) to atomic energies; must not change afterwards.
        batch: training structures with derivatives.
        atoms: whose forces are rows, ascending.
        scale: weight of a component of a force, see :attr:`torchlpr.Objective.force_scale`.
        subset: the weights to differentiate by, None for all.
    """

    def __init__(
        self,
        model: nn.Module,
        batch: AtomBatch,
        atoms: Tensor,
        scale: float,
        subset: Subset | None = None,
    ) -> None:
        self.model, self.batch, self.atoms, self.scale = model, batch, atoms, scale
        self.device = batch.features.device
        self.n_rows = 3 * len(atoms)
        self.n_parameters = parameter_count(model) if subset is None else len(subset)
        self._fixed, self._weights = split_parameters(model, subset)
        self._chosen = torch.unique(batch.structure[atoms]).tolist()
        self._order = batch.structure.argsort(stable=True).split(batch.counts.tolist())

    @torch.no_grad()
    def forward(self, vectors: Tensor) -> Tensor:
        """R v of every vector, shape (K, P) to (K, M)."""
        out = vectors.new_zeros(len(vectors), len(self.batch), 3)
        for places, part, many in self._parts(len(vectors)):
            x = part.features.to(torch.float64)
            for some in many:
                tangent = self._slopes_along(vectors[some], x, part.types)  # [k, atom, feature]
                forces = vectors.new_zeros(len(tangent), len(part), 3)
                for centre, moved, values in _by_centre(part):
                    change = tangent[:, centre] @ values.flatten(0, 1).mT
                    forces[:, moved] += change.view(len(tangent), -1, 3)
                out[some, places] = forces
        return out[:, self.atoms].flatten(1).mul_(-self.scale)

    @torch.no_grad()
    def adjoint(self, vectors: Tensor) -> Tensor:
        """R^T u of every vector, shape (K, M) to (K, P)."""
        out = vectors.new_zeros(len(vectors), self.n_parameters)
        moves = vectors.new_zeros(len(vectors), len(self.batch), 3)
        moves[:, self.atoms] = vectors.view(len(vectors), -1, 3) * -self.scale
        for places, part, many in self._parts(len(vectors)):
            x = part.features.to(torch.float64)
            for some in many:
                u = moves[some][:, places]
                along = u.new_zeros(len(u), *x.shape)
                for centre, moved, values in _by_centre(part):
                    along[:, centre] = u[:, moved].flatten(1) @ values.flatten(0, 1)
                out[some] += self._gradients_of_change(along, x, part.types)
        return out

    def state_dict(self) -> dict[str, Tensor]:
        """Derivatives, atoms and weight; features and model are kept with the energies."""
        derivatives = self.batch.derivatives
        assert derivatives is not None  # the objective has seen to it
        return {
            "force_centre": derivatives.centre,
            "force_moved": derivatives.moved,
            "force_values": derivatives.values,
            "force_atoms": self.atoms,
            "force_scale": torch.tensor(self.scale, dtype=torch.float64),
        }

    def _parts(self, n_vectors: int) -> Iterator[tuple[Tensor, AtomBatch, list[slice]]]:
        """Atoms of each structure with forces, the structure, and vectors that fit at once."""
        for index in self._chosen:
            part = self.batch.select([index])
            step = max(1, BLOCK // max(1, part.features.numel()))
            slices = [slice(k, k + step) for k in range(0, n_vectors, step)]
            yield self._order[index], part, slices

    def _slopes_along(self, vectors: Tensor, x: Tensor, types: Tensor) -> Tensor:
        """Changes of dE/dx along the vectors, shape (K, atoms, features)."""

        def slopes(w: dict[str, Tensor]) -> Tensor:
            return grad(lambda f: self._energy(w, f, types))(x)

        def along(vector: Tensor) -> Tensor:
            tangent: Tensor = jvp(slopes, (self._weights,), (self._split(vector),))[1]
            return tangent

        return vmap(along)(vectors)

    def _gradients_of_change(self, along: Tensor, x: Tensor, types: Tensor) -> Tensor:
        """Gradients by the weights of the changes of the energy, shape (K, P)."""

        def change(w: dict[str, Tensor], tangent: Tensor) -> Tensor:
            out: Tensor = jvp(lambda f: self._energy(w, f, types), (x,), (tangent,))[1]
            return out

        blocks = vmap(grad(change), in_dims=(None, 0))(self._weights, along)
        return torch.cat([blocks[name].flatten(1) for name in self._weights], dim=1)

    def _energy(self, w: dict[str, Tensor], features: Tensor, types: Tensor) -> Tensor:
        local: Tensor = functional_call(self.model, {**self._fixed, **w}, (features, types))
        return local.sum()

    def _split(self, vector: Tensor) -> dict[str, Tensor]:
        """A vector as the parameters it runs along."""
        parts = vector.split([w.numel() for w in self._weights.values()])
        return {n: p.view_as(w) for p, (n, w) in zip(parts, self._weights.items(), strict=True)}


class TrainingRows:
    """Products with the rows of energies, then those of forces.

    Args:
        energies: products with the one.
        forces: and with the other.
    """

    def __init__(self, energies: ModelRows, forces: ForceRows) -> None:
        self.energies, self.forces = energies, forces
        self.device, self.n_parameters = energies.device, energies.n_parameters
        self.n_rows = energies.n_rows + forces.n_rows

    def forward(self, vectors: Tensor) -> Tensor:
        """R v of every vector, shape (K, P) to (K, M)."""
        return torch.cat([self.energies.forward(vectors), self.forces.forward(vectors)], dim=1)

    def adjoint(self, vectors: Tensor) -> Tensor:
        """R^T u of every vector, shape (K, M) to (K, P)."""
        one, two = vectors.split([self.energies.n_rows, self.forces.n_rows], dim=1)
        return self.energies.adjoint(one.contiguous()) + self.forces.adjoint(two.contiguous())

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors from which, with the model, the products can be rebuilt."""
        return {**self.energies.state_dict(), **self.forces.state_dict()}


def training_products(
    model: nn.Module, batch: AtomBatch, objective: Objective, subset: Subset | None = None
) -> RowProducts:
    """Products with all rows of an objective, in the order of its residuals.

    Args:
        model: maps (features, types) to atomic energies; must not change afterwards.
        batch: training structures.
        objective: gives the row weights.
        subset: the weights to differentiate by, None for all.

    Returns:
        The products.
    """
    energies = ModelRows(model, batch, objective.row_scale(batch.counts), subset)
    atoms = objective.force_atoms(batch)
    if not len(atoms):
        return energies
    return TrainingRows(energies, ForceRows(model, batch, atoms, objective.force_scale, subset))


def _by_centre(part: AtomBatch) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Each environment, the atoms that change it, and how, in float64."""
    derivatives = part.derivatives
    if derivatives is None:
        raise InputError("forces need derivatives; describe the structures with derivatives=True")
    order = derivatives.centre.argsort(stable=True)
    sizes = torch.bincount(derivatives.centre, minlength=len(part)).tolist()
    for centre, pairs in enumerate(order.split(sizes)):
        yield centre, derivatives.moved[pairs], derivatives.values[pairs].to(torch.float64)
