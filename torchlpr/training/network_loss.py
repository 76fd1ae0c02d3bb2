r"""The energy loss of a network at some weights: residuals, gradient, second derivatives.

.. math:: H v = R^\top R v + S v + \mu v, \qquad S = \sum_m r_m \frac{\partial^2 r_m}{\partial w^2}

in closed form, without a graph. S also in single precision, for steps whose worth the loss decides.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from torchlpr.curvature.layered import layered_sums
from torchlpr.curvature.passes import NetworkPass, Weighted
from torchlpr.models import BehlerParrinelloMLP
from torchlpr.objective import Objective
from torchlpr.structures.batch import AtomBatch
from torchlpr.structures.species import atoms_of_each_type, in_atom_order

__all__ = ["NetworkLoss", "NetworkStructures"]


class NetworkStructures:
    """Training structures as networks of species go through them, made once.

    Args:
        model: the network; its species count.
        batch: structures with energies, float64.
        objective: the loss; forces play no part.
    """

    def __init__(self, model: BehlerParrinelloMLP, batch: AtomBatch, objective: Objective) -> None:
        self.batch, self.objective = batch, objective
        self.labels, self.counts = batch.labels(), batch.counts
        self.scale = objective.row_scale(self.counts).to(batch.features)
        self.groups = atoms_of_each_type(batch.types, model.types)
        alone = len(self.groups) == 1  # no gather: features stay in place
        self.features = [batch.features if alone else batch.features[g] for g in self.groups]
        self.structure = [batch.structure if alone else batch.structure[g] for g in self.groups]

    @cached_property
    def single(self) -> list[Tensor]:
        """Features of each species in single precision."""
        return [x.to(torch.float32) for x in self.features]


class NetworkLoss:
    """The loss at the weights that the network has now; later changes of them play no part.

    Args:
        model: the network, float64.
        structures: those it is trained on.

    Attributes:
        residuals: weighted errors of the energies, shape (structures,), eV.
    """

    def __init__(self, model: BehlerParrinelloMLP, structures: NetworkStructures) -> None:
        s = self._structures = structures
        self._model = model
        with torch.no_grad():
            self._passes = [
                NetworkPass(network, x)
                for network, x in zip(model.networks, s.features, strict=True)
            ]
            local = in_atom_order([p.energies for p in self._passes], s.groups)
            self.residuals = s.objective.residuals(local, s.batch.structure, s.counts, s.labels)
        self._sizes = [sum(p.numel() for p in n.parameters()) for n in model.networks]
        self._shapes = [[p.shape for p in n.parameters()] for n in model.networks]

    def gradient(self) -> Tensor:
        """Of the data loss, R^T r, shape (P,)."""
        parts = [p.gradients(c) for p, c in zip(self._passes, self._factors, strict=True)]
        return _flat(parts)

    def rows(self) -> Tensor:
        """R = dr/dw, shape (structures, P)."""
        s = self._structures
        rows = layered_sums(self._model, s.batch, passes=self._passes)
        return rows.mul_(s.scale.unsqueeze(1))

    def product(self, vector: Tensor) -> Tensor:
        """(R^T R + S) v.

        Args:
            vector: v, shape (P,).

        Returns:
            Shape (P,).
        """
        s, directions = self._structures, self._split(vector)
        tangents = [p.push(d) for p, d in zip(self._passes, directions, strict=True)]
        each = zip(self._passes, directions, tangents, strict=True)
        local = in_atom_order([p.energy_change(d, t) for p, d, t in each], s.groups)
        change = torch.zeros_like(s.labels).index_add_(0, s.batch.structure, local) * s.scale**2
        return _flat([
            p.second(weighted, d, t, change[number].unsqueeze(1))
            for p, weighted, d, t, number in zip(
                self._passes, self._weighted, directions, tangents, s.structure, strict=True
            )
        ])

    def change(self, vector: Tensor) -> Tensor:
        """Change of the atomic energies along a direction of the weights.

        Args:
            vector: v, shape (P,).

        Returns:
            g_k . v, shape (atoms,), eV.
        """
        pairs = zip(self._passes, self._split(vector), strict=True)
        parts = [p.energy_change(d, p.push(d)) for p, d in pairs]
        return in_atom_order(parts, self._structures.groups)

    def bend(self, vector: Tensor) -> Tensor:
        """S v in single precision: relative errors of some 1e-6 of its norm.

        Args:
            vector: v, shape (P,).

        Returns:
            Shape (P,), float64.
        """
        largest = float(vector.abs().max())  # keeps what is small above the smallest float32
        size = largest if largest > 0 else 1.0
        directions = self._split((vector / size).to(torch.float32))
        return size * _flat([
            p.second(weighted, d, p.push(d))
            for (p, weighted), d in zip(self._single, directions, strict=True)
        ]).to(torch.float64)

    @cached_property
    def _factors(self) -> list[Tensor]:
        """dL/dE of the atoms of each species, shape (atoms of the species, 1)."""
        one = self.residuals * self._structures.scale
        return [one[number].unsqueeze(1) for number in self._structures.structure]

    @cached_property
    def _weighted(self) -> list[Weighted]:
        return [p.weighted(c) for p, c in zip(self._passes, self._factors, strict=True)]

    @cached_property
    def _single(self) -> list[tuple[NetworkPass, Weighted]]:
        """In single precision."""
        singles = zip(self._passes, self._factors, self._structures.single, strict=True)
        passes = [(p.to(x), c.to(x)) for p, c, x in singles]
        return [(p, p.weighted(c)) for p, c in passes]

    def _split(self, vector: Tensor) -> list[list[Tensor]]:
        """A vector as the parameters of each network."""
        return [
            [
                part.view(shape)
                for part, shape in zip(own.split([s.numel() for s in shapes]), shapes, strict=True)
            ]
            for own, shapes in zip(vector.split(self._sizes), self._shapes, strict=True)
        ]


def _flat(parts: list[list[Tensor]]) -> Tensor:
    return torch.cat([piece.reshape(-1) for part in parts for piece in part])
