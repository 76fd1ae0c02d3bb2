r"""A network on as many features as the training set spans: smaller, and exactly the same minima.

With the thin SVD X = Z V^T of the features, X W^T = Z (W V)^T: a first layer W acts through W V
alone, and at a minimum of a loss with L2 term the rest of W is zero. With forces the derivatives
of the features count among them. SOAP vectors of one system
span a few hundred of thousands of dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain

import torch
from torch import Tensor, nn

from torchlpr.models.mlp import BehlerParrinelloMLP
from torchlpr.structures.batch import AtomBatch

__all__ = ["Compression", "compress", "feature_span"]

ROUNDING = 1e-14  # singular values below this share of the largest are rounding
BLOCK = 8192  # rows of the features at a time
WORTH = 0.7  # of the features, or the smaller network is not worth its making


def feature_span(features: Tensor, changes: Tensor | None = None) -> Tensor:
    """Orthonormal basis of the space that the rows of a matrix span, to rounding.

    Args:
        features: shape (atoms, features).
        changes: further rows, such as derivatives of features, shape (rows, features).

    Returns:
        V, shape (features, r).
    """
    triangle = features[:0]
    parts = [features] if changes is None else [features, changes]
    for block in chain.from_iterable(p.split(max(BLOCK, p.shape[1])) for p in parts):
        triangle = torch.linalg.qr(torch.cat([triangle, block]), mode="r").R
    _, values, right = torch.linalg.svd(triangle, full_matrices=False)
    rank = int((values > ROUNDING * values.max()).sum()) if values.numel() else 0
    return right[:rank].mT.contiguous()


@dataclass(frozen=True)
class Compression:
    """A network and its training structures in the coordinates of the features' span.

    Attributes:
        model: the network on r features, with the atomic energies of the one it was made from;
            what that one's first layers had outside of the span is gone.
        batch: the structures with features Z = X V, shape (atoms, r).
        basis: V, shape (features, r), orthonormal columns.
    """

    model: BehlerParrinelloMLP
    batch: AtomBatch
    basis: Tensor

    @classmethod
    def of(cls, model: BehlerParrinelloMLP, batch: AtomBatch, basis: Tensor) -> Compression:
        """Rotate a network and its training structures.

        Args:
            model: the network.
            batch: its training structures.
            basis: V, which spans their features.

        Returns:
            The smaller network and its batch.
        """
        rank, options = basis.shape[1], (model.hidden, model.activation, model.bias)
        small = BehlerParrinelloMLP(rank, model.types, *options, dtype=basis.dtype)
        small.to(basis.device).load_state_dict(_transformed(model, basis))
        features, derivatives = batch.features @ basis, batch.derivatives
        moved = None if derivatives is None else derivatives.mapped(basis)
        return cls(small, replace(batch, features=features, derivatives=moved), basis)

    def enter(self, model: nn.Module) -> None:
        """Give the small network what the full one's weights are inside of the span.

        Args:
            model: the network that was compressed, or one like it.
        """
        self.model.load_state_dict(_transformed(model, self.basis))

    def leading(self, share: float) -> Compression | None:
        """A smaller one still, in the directions along which features vary most.

        Args:
            share: of the largest singular value of the features, above which a direction counts.

        Returns:
            The smaller network, no longer exact, or None where there is little to gain.
        """
        sizes = torch.linalg.vector_norm(self.batch.features, dim=0)
        kept = sizes > share * sizes.max()
        if not 0 < int(kept.sum()) <= WORTH * len(kept):
            return None
        pick = torch.eye(len(kept), dtype=sizes.dtype, device=sizes.device)[:, kept]
        return replace(Compression.of(self.model, self.batch, pick), basis=self.basis @ pick)

    def expand(self, model: nn.Module) -> None:
        """Give the full network the weights of the small one.

        Args:
            model: the network that was compressed; changed in place.
        """
        model.load_state_dict(_transformed(self.model, self.basis.mT))


def compress(model: nn.Module, batch: AtomBatch) -> Compression | None:
    """Make a network smaller, where that is worth it.

    Args:
        model: maps (features, types) to atomic energies.
        batch: training structures.

    Returns:
        The smaller network, or None where there is nothing to gain.
    """
    if not isinstance(model, BehlerParrinelloMLP):
        return None
    basis = feature_span(batch.features)
    if basis.shape[1] <= WORTH * model.n_features and batch.derivatives is not None:
        basis = feature_span(batch.features, batch.derivatives.values.flatten(0, 1))
    if not 0 < basis.shape[1] <= WORTH * model.n_features:
        return None
    return Compression.of(model, batch, basis)


def _transformed(model: nn.Module, basis: Tensor) -> dict[str, Tensor]:
    """The weights with each species' first layer W replaced by W basis."""
    weights = dict(model.state_dict())
    return {k: w @ basis if k.endswith(".0.weight") else w for k, w in weights.items()}
