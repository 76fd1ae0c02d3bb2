r"""SOAP vectors without their mirror half: p(n, n') = p(n', n) where both neighbours are alike.

With V the orthonormal columns :math:`(e_{nn'} + e_{n'n})/\sqrt 2` every SOAP vector is
:math:`x = V V^\top x`, whatever the structure. Weights, rows and factor rotated by V give the same
energies and, since the regulariser is isotropic, the same rigidities, from little more than half
the numbers.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from torchlpr.curvature.subsets import Subset
from torchlpr.descriptors.soap import SOAP
from torchlpr.models import BehlerParrinelloMLP, LinearModel

__all__ = ["Folding", "Segment", "Unfolded", "segments"]


class Folding:
    """Rotation of SOAP vectors onto the columns with n <= n'.

    Args:
        soap: the descriptor.

    Attributes:
        kept: columns of the SOAP vector that stay, shape (folded,).
        scale: what those are multiplied with, shape (folded,), float64.
    """

    def __init__(self, soap: SOAP) -> None:
        n = soap.max_radial + 1
        column = torch.arange((soap.max_angular + 1) * n * n).reshape(-1, n, n)  # [l, n, n']
        self.one, self.two = torch.triu_indices(n, n).unbind()
        kept, mirror = [], []
        for place, (a, b) in enumerate(soap.pairs):
            shifted = column + place * column.numel()
            kept.append((shifted[:, self.one, self.two] if a == b else shifted).flatten())
            mirror.append((shifted[:, self.two, self.one] if a == b else shifted).flatten())
        self.kept, self._mirror = torch.cat(kept), torch.cat(mirror)
        scale = torch.ones(len(self.kept), dtype=torch.float64)
        self.scale = scale.masked_fill(self.kept != self._mirror, math.sqrt(2))

    def __call__(self, matrix: Tensor) -> Tensor:
        """The matrix times V, shape (..., features) to (..., folded), float64."""
        m = matrix.detach().to(torch.float64)
        return (m[..., self.kept] + m[..., self._mirror]) / 2 * self.scale

    def vectors(self, matrix: Tensor, parts: Sequence["Segment"]) -> Tensor:
        """Vectors of weights with the columns of features folded.

        Args:
            matrix: one vector a row, shape (K, parameters).
            parts: what the parameters are.

        Returns:
            Shape (K, fewer parameters), float64.
        """
        n = len(matrix)
        blocks = matrix.detach().split([part.width for part in parts], dim=1)
        return torch.cat(
            [
                self(block.reshape(n, part.width // part.features, part.features)).flatten(1)
                if part.features
                else block
                for block, part in zip(blocks, parts, strict=True)
            ],
            dim=1,
        )


class Unfolded(Folding):
    """Features that have no mirror half: V is the identity.

    Args:
        n_features: how many they are.
    """

    def __init__(self, n_features: int) -> None:
        self.kept = self._mirror = torch.arange(n_features)
        self.scale = torch.ones(n_features, dtype=torch.float64)


class Segment(NamedTuple):
    """Consecutive weights in a parameter vector.

    Attributes:
        width: how many they are.
        features: length of a feature vector where they are a matrix with a column for each
            feature, else 0.
    """

    width: int
    features: int


def segments(model: nn.Module, subset: Subset) -> list[Segment]:
    """What the chosen weights of a head are, in their order.

    Args:
        model: network, linear or kernel head.
        subset: the chosen weights.

    Returns:
        Segments that make up the parameter vector.
    """
    found, start = [], 0
    if isinstance(model, LinearModel):
        blocks = [Segment(model.n_features, model.n_features) for _ in model.types]
    elif isinstance(model, BehlerParrinelloMLP):
        blocks = [
            Segment(p.numel(), model.n_features if name.split(".")[2:] == ["0", "weight"] else 0)
            for name, p in model.named_parameters()
        ]
    else:
        return [Segment(len(subset), 0)]
    for block in blocks:
        if subset.position(start, start + block.width) is not None:
            found.append(block)
        start += block.width
    return found
