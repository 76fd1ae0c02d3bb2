"""Features of one structure with the way back to its geometry, whatever the descriptor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import ase
import torch
from torch import Tensor

from torchlpr.descriptors.geometry import Geometry
from torchlpr.descriptors.soap import SOAP
from torchlpr.descriptors.soap_gradients import soap_gradients
from torchlpr.descriptors.state import Descriptor
from torchlpr.descriptors.symmetry import SymmetryFunctions
from torchlpr.structures.validation import validate

__all__ = ["FeatureGradients", "feature_gradients"]


class FeatureGradients(Protocol):
    """Features of some atoms of a structure, and the way back to its geometry."""

    @property
    def atoms(self) -> slice:
        """Which atoms of the structure."""

    @property
    def features(self) -> Tensor:
        """As the descriptor gives them, shape (atoms, features), float64."""

    def pull_back(self, sensitivity: Tensor) -> tuple[Tensor, Tensor]:
        """From dE/dx to dE/dr, shape (structure's atoms, 3), and by the strain, shape (3, 3)."""


def feature_gradients(descriptor: Descriptor, atoms: ase.Atoms) -> Iterator[FeatureGradients]:
    """Features of one structure with their derivatives, chunk after chunk.

    Args:
        descriptor: SOAP or symmetry functions.
        atoms: the structure.

    Yields:
        Consecutive atoms.
    """
    if isinstance(descriptor, SOAP):
        yield from soap_gradients(descriptor, atoms)
    else:
        yield _symmetry_gradients(descriptor, atoms)


@dataclass(frozen=True)
class _Recorded:
    """Features with the graph that made them."""

    atoms: slice
    features: Tensor
    _graph: Tensor
    _inputs: tuple[Tensor, Tensor]

    def pull_back(self, sensitivity: Tensor) -> tuple[Tensor, Tensor]:
        positions, strain = torch.autograd.grad(
            self._graph, self._inputs, sensitivity.to(self._graph)
        )
        return positions, strain


def _symmetry_gradients(descriptor: SymmetryFunctions, atoms: ase.Atoms) -> FeatureGradients:
    validate([atoms], "the input", types=descriptor.types)
    geometry = Geometry.from_structures([atoms], descriptor.cutoff)
    moves = torch.zeros_like(geometry.positions).requires_grad_()
    strain = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
    deform = torch.eye(3, dtype=torch.float64) + strain
    moved = replace(
        geometry,
        positions=(geometry.positions + moves) @ deform,
        cells=geometry.cells @ deform,
    )
    graph = descriptor.features(moved)
    return _Recorded(slice(0, len(atoms)), graph.detach(), graph, (moves, strain))
