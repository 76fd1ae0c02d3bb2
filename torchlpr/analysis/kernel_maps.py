"""Kernel principal components: the map in the geometry of the sparse-kernel model."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from torchlpr.analysis.kernels import NormalisedKernel
from torchlpr.analysis.landmarks import draw_landmarks
from torchlpr.analysis.maps import centred_scatter, check_features, outward
from torchlpr.errors import InputError

__all__ = ["EXACT_ATOMS", "KernelMap", "kernel_principal_components"]

EXACT_ATOMS = 1000  # all eigenvectors of so large a kernel take about a second on two cores


@dataclass(frozen=True)
class KernelMap:
    r"""Principal components in the space of the kernel :math:`(\hat x \cdot \hat x')^\zeta`.

    Attributes:
        kernel: the kernel with the reference atoms, all atoms or the landmarks.
        weights: coordinates are ``kernel @ weights - offset``, shape (references, n).
        offset: shape (n,).
        explained: share of the variance along each component, shape (n,); with landmarks, of the
            variance that the landmarks span.
    """

    kernel: NormalisedKernel
    weights: Tensor
    offset: Tensor
    explained: Tensor

    @classmethod
    def fit(
        cls,
        features: Tensor,
        zeta: int = 2,
        n: int = 2,
        landmarks: int | Tensor = 500,
        types: Tensor | None = None,
        exact_atoms: int = EXACT_ATOMS,
    ) -> KernelMap:
        """Find the kernel principal components, in float64.

        Up to ``exact_atoms`` atoms the full kernel is diagonalised; above, the Nyström
        approximation projects onto the span of landmark atoms.

        Args:
            features: shape (atoms, features), not zero.
            zeta: power of the kernel between normalised features, 1 or more.
            n: number of components.
            landmarks: number of landmarks, drawn in proportion from each species with a fixed
                seed; or indices of atoms (of farthest-point sampling, say), which are then used
                whatever the number of atoms.
            types: atomic numbers, shape (atoms,), to set the kernel between species to zero.
            exact_atoms: largest number of atoms for the full kernel.

        Returns:
            The map.

        Raises:
            InputError: if shapes disagree, an atom has no features, or fewer than n components
                have variance.
        """
        check_features(features, n)
        atoms = len(features)
        if atoms <= exact_atoms and not isinstance(landmarks, Tensor):
            kernel = NormalisedKernel.between(features, types, torch.arange(atoms), zeta)
            chart = _exact(kernel, n)
        else:
            chosen = draw_landmarks(atoms, landmarks, types)
            kernel = NormalisedKernel.between(features, types, chosen, zeta)
            chart = _nystrom(kernel, features, types, n)
        sign = outward(chart.project(features, types))
        return replace(chart, weights=chart.weights * sign, offset=chart.offset * sign)

    def project(self, features: Tensor, types: Tensor | None = None) -> Tensor:
        """Place atoms on the map, those that made it or new ones.

        Args:
            features: shape (atoms, features), the features the map was made from.
            types: atomic numbers, shape (atoms,), if the map keeps species apart.

        Returns:
            Coordinates, shape (atoms, n), dimensionless, float64.

        Raises:
            InputError: if the number of features is another, or the map needs types.
        """
        return torch.cat([k @ self.weights - self.offset for k in self.kernel(features, types)])


def kernel_principal_components(
    features: Tensor,
    zeta: int = 2,
    n: int = 2,
    landmarks: int | Tensor = 500,
    types: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Kernel principal components of atomic features, exact up to 1000 atoms.

    Args:
        features: shape (atoms, features), not zero.
        zeta: power of the kernel between normalised features.
        n: number of components.
        landmarks: number or indices of the landmarks, see :meth:`KernelMap.fit`; a number has no
            effect up to 1000 atoms.
        types: atomic numbers, shape (atoms,), to set the kernel between species to zero.

    Returns:
        Coordinates of the atoms, shape (atoms, n), dimensionless, and the share of the variance
        along each component, shape (n,); both float64. Signs: the atom farthest out along a
        component lies on its positive side.
    """
    chart = KernelMap.fit(features, zeta, n, landmarks, types)
    return chart.project(features, types), chart.explained


def _exact(kernel: NormalisedKernel, n: int) -> KernelMap:
    """Eigenvectors of the doubly centred kernel of all atoms."""
    full = kernel.square()
    column = full.mean(0)
    centred = full - column - column[:, None] + column.mean()
    values, vectors = _leading(centred, n, len(full))
    weights = vectors / values.sqrt()
    # the columns of weights sum to zero, so only the column means of the kernel remain
    return KernelMap(kernel, weights, column @ weights, values / centred.trace())


def _nystrom(kernel: NormalisedKernel, features: Tensor, types: Tensor | None, n: int) -> KernelMap:
    """Principal components of the features K_L K_LL^(-1/2) of all atoms, L the landmarks."""
    values, vectors = torch.linalg.eigh(kernel.square())
    # directions that repeated landmarks do not span hold no part of any atom's features
    kept = values > 1e-10 * values[-1]
    whiten = vectors[:, kept] / values[kept].sqrt()
    mean, scatter = centred_scatter(lambda: (rows @ whiten for rows in kernel(features, types)))
    squares, axes = _leading(scatter, n, len(features))
    return KernelMap(kernel, whiten @ axes, mean @ axes, squares / scatter.trace())


def _leading(matrix: Tensor, n: int, atoms: int) -> tuple[Tensor, Tensor]:
    """The n largest eigenvalues, descending, and their vectors, if they stand above rounding."""
    values, vectors = torch.linalg.eigh(matrix)
    # a normalised kernel is at most one, so these eigenvalues add up to at most the atoms
    resolved = int((values > 1e-14 * atoms).sum())
    if resolved < n:
        raise InputError(
            f"the atoms differ along {resolved} kernel components only; ask for no more than that"
        )
    return values.flip(0)[:n], vectors.flip(1)[:, :n]
