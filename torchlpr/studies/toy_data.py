"""A scalar input, groups of inputs, and sums of a known function as the only labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from torchlpr.structures.batch import AtomBatch

__all__ = ["ToyData", "radial_basis", "scaled_input", "truth"]

Floats = npt.NDArray[np.float64]
Features = Callable[[Floats], Floats]

CENTRES, WIDTH = np.linspace(-3, 13, 33), 0.8
GRID = np.linspace(-2, 12, 281)


def truth(x: Floats) -> Floats:
    """The local quantity that nobody sees, sin x + 0.3 x - 0.04 x^2."""
    return np.asarray(np.sin(x) + 0.3 * x - 0.04 * x**2)


def radial_basis(x: Floats) -> Floats:
    """Features of the linear model: 33 Gaussians, shape (atoms, 33)."""
    return np.asarray(np.exp(-((x[:, None] - CENTRES) ** 2) / (2 * WIDTH**2)))


def scaled_input(x: Floats) -> Floats:
    """Feature of the network: x itself, to order one, shape (atoms, 1)."""
    return np.asarray((x[:, None] - 5) / 3)


@dataclass(frozen=True)
class ToyData:
    """Groups X_A of inputs; the label of a group is the sum of the truth over it.

    Attributes:
        x: shape (groups, inputs of a group).
    """

    x: Floats

    @classmethod
    def draw(cls, groups: int = 8, size: int = 5, spread: float = 1.2, seed: int = 7) -> ToyData:
        """Inputs normally distributed around centres equally spaced from 1 to 9.

        Args:
            groups: how many.
            size: inputs of a group.
            spread: standard deviation around the centre.
            seed: of the random numbers.

        Returns:
            The data.
        """
        rng = np.random.default_rng(seed)
        return cls(np.stack([rng.normal(c, spread, size) for c in np.linspace(1, 9, groups)]))

    def train(self, features: Features) -> AtomBatch:
        """The groups as structures with energies."""
        flat = points(self.x.ravel(), features)
        groups = torch.arange(self.x.size) // self.x.shape[1]
        labels = torch.from_numpy(truth(self.x).sum(1))
        return AtomBatch(flat.features, flat.types, groups, labels)


def points(x: Floats, features: Features) -> AtomBatch:
    """Single inputs, each as a structure of its own, without labels.

    Args:
        x: shape (n,).
        features: of the model.

    Returns:
        The batch; the inputs pass for hydrogen atoms.
    """
    return AtomBatch(
        torch.from_numpy(features(x)),
        torch.ones(len(x), dtype=torch.int64),
        torch.arange(len(x)),
    )
