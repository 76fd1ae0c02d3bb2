"""Principal components of atomic environments: the plane on which an LPR map is drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from torchlpr.errors import InputError

__all__ = ["PrincipalMap", "principal_components"]

BLOCK = 4096  # atoms handled at once, so that no centred copy of all features is made


@dataclass(frozen=True)
class PrincipalMap:
    """A linear map of features onto their principal axes.

    Attributes:
        mean: mean of the features that made the map, shape (features,).
        axes: orthonormal principal axes, shape (features, n); of the atoms that made the map, the
            one farthest out along an axis has a positive coordinate.
        explained: share of the variance along each axis, shape (n,).
    """

    mean: Tensor
    axes: Tensor
    explained: Tensor

    @classmethod
    def fit(cls, features: Tensor, n: int = 2) -> PrincipalMap:
        """Find the principal axes, in float64.

        The singular values of the centred features where atoms are few, the eigenvalues of the
        covariance (features x features) where they outnumber the features.

        Args:
            features: shape (atoms, features), any units.
            n: number of axes.

        Returns:
            The map.

        Raises:
            InputError: if there are fewer atoms or features than axes, a feature is not finite,
                or all atoms have the same features.
        """
        check_features(features, n)
        if features.shape[0] > features.shape[1]:
            mean, scatter = centred_scatter(lambda: blocks(features))
            squares, vectors = torch.linalg.eigh(scatter)
            squares, vectors = squares.flip(0).clamp(min=0), vectors.flip(1)
        else:
            x = features.to(torch.float64)
            mean = x.mean(0)
            _, singular, adjoint = torch.linalg.svd(x - mean, full_matrices=False)
            squares, vectors = singular.square(), adjoint.T
        total = squares.sum()
        # features of equal atoms differ by rounding, about 1e-15 of their size
        if total <= 1e-24 * features.shape[0] * mean.square().sum():
            raise InputError("all atoms have the same features, so there is no map to draw")
        raw = cls(mean, vectors[:, :n].contiguous(), squares[:n] / total)
        return cls(mean, raw.axes * outward(raw.project(features)), raw.explained)

    def project(self, features: Tensor) -> Tensor:
        """Place atoms on the map, those that made it or new ones.

        Args:
            features: shape (atoms, features), the features the map was made from.

        Returns:
            Coordinates, shape (atoms, n), in units of the features, float64.

        Raises:
            InputError: if the number of features is another.
        """
        if features.ndim != 2 or features.shape[1] != len(self.mean):
            raise InputError(
                f"the map takes {len(self.mean)} features an atom, "
                f"but the features have shape {tuple(features.shape)}"
            )
        return torch.cat([(x - self.mean) @ self.axes for x in blocks(features)])


def principal_components(features: Tensor, n: int = 2) -> tuple[Tensor, Tensor]:
    """Principal components of atomic features.

    Args:
        features: shape (atoms, features), any units.
        n: number of components.

    Returns:
        Coordinates of the atoms, shape (atoms, n), in units of the features, and the share of the
        variance along each component, shape (n,); both float64. Signs: the atom farthest out
        along a component lies on its positive side.
    """
    chart = PrincipalMap.fit(features, n)
    return chart.project(features), chart.explained


def blocks(features: Tensor) -> Iterator[Tensor]:
    """Features of some atoms at a time, float64."""
    # an empty tensor splits into one empty block, so that projecting no atoms gives no rows
    yield from (block.to(torch.float64) for block in features.split(BLOCK))


def centred_scatter(again: Callable[[], Iterable[Tensor]]) -> tuple[Tensor, Tensor]:
    """Mean and scatter matrix sum_i (x_i - mean)(x_i - mean)^T in two passes over the rows."""
    sums = [(block.sum(0), block.shape[0]) for block in again()]
    mean = torch.stack([total for total, _ in sums]).sum(0) / sum(count for _, count in sums)
    scatter = mean.new_zeros(len(mean), len(mean))
    for block in again():
        centred = block - mean
        scatter.addmm_(centred.T, centred)
    return mean, scatter


def outward(coordinates: Tensor) -> Tensor:
    """Sign of the entry of largest magnitude in each column, shape (n,)."""
    farthest = coordinates.abs().argmax(0, keepdim=True)
    return torch.where(coordinates.gather(0, farthest)[0] < 0, -1.0, 1.0).to(coordinates)


def check_features(features: Tensor, n: int) -> None:
    """Refuse features that have no n principal components."""
    if features.ndim != 2 or not 1 <= n <= min(features.shape):
        raise InputError(
            f"{n} components need a matrix with at least {max(n, 1)} atoms and as many features, "
            f"not the shape {tuple(features.shape)}"
        )
    if not bool(torch.isfinite(features).all()):
        atom = int((~torch.isfinite(features)).any(1).nonzero()[0])
        raise InputError(f"features of atom {atom} are not finite; look at its geometry")
