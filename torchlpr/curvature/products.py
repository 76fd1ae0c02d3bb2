"""Products with the rows R of the Gauss-Newton Hessian without storing any row.

R v is a derivative along v of the weighted structure energies (forward mode), R^T u is the gradient
of their sum weighted by u (backward mode). Both run over chunks of atoms for many vectors at once:
memory beyond the vectors is one chunk's, whatever the number of structures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp, vjp, vmap

from torchlpr.curvature.gradients import (
    CHUNK_BYTES,
    check_parameters,
    parameter_count,
    split_parameters,
)
from torchlpr.curvature.layered_products import layered_adjoint, layered_forward
from torchlpr.curvature.subsets import Subset
from torchlpr.models import BehlerParrinelloMLP, LinearInParameters
from torchlpr.structures.batch import AtomBatch

__all__ = ["DenseRows", "ModelRows", "RowProducts", "Scaled"]


class RowProducts(Protocol):
    """Rows R of shape (M, P) that are known by their products only."""

    n_rows: int
    n_parameters: int
    device: torch.device

    def forward(self, vectors: Tensor) -> Tensor:
        """R v of every vector, shape (K, P) to (K, M)."""

    def adjoint(self, vectors: Tensor) -> Tensor:
        """R^T u of every vector, shape (K, M) to (K, P)."""

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors from which the products can be rebuilt."""


class DenseRows:
    """Products with rows that are stored after all.

    Args:
        rows: R, shape (M, P), float64.
    """

    def __init__(self, rows: Tensor) -> None:
        self.rows, self.device = rows, rows.device
        self.n_rows, self.n_parameters = rows.shape

    def forward(self, vectors: Tensor) -> Tensor:
        """R v of every vector, shape (K, P) to (K, M)."""
        return vectors @ self.rows.mT

    def adjoint(self, vectors: Tensor) -> Tensor:
        """R^T u of every vector, shape (K, M) to (K, P)."""
        return vectors @ self.rows

    def state_dict(self) -> dict[str, Tensor]:
        """The rows."""
        return {"matrix": self.rows}


class Scaled:
    """The map S = R diag(mu)^-1/2.

    Args:
        rows: products with R.
        mu: strength of the regulariser, shape () or (P,), all positive.
    """

    def __init__(self, rows: RowProducts, mu: Tensor) -> None:
        self.rows, self.root = rows, mu.rsqrt()

    def forward(self, vectors: Tensor) -> Tensor:
        """S v of every vector, shape (K, P) to (K, M)."""
        return self.rows.forward(vectors * self.root)

    def adjoint(self, vectors: Tensor) -> Tensor:
        """S^T u of every vector, shape (K, M) to (K, P)."""
        return self.rows.adjoint(vectors) * self.root


class ModelRows:
    """Products with the rows scale_A sum_{k in A} dE_k/dw of a model, in float64.

    Args:
        model: maps (features, types) to atomic energies; must not change afterwards.
        batch: training structures; their energies are not used.
        scale: weight of each structure's row, shape (structures,); see
            :meth:`torchlpr.Objective.row_scale`.
        subset: the weights to differentiate by, None for all.
        size: atoms a chunk, by default what keeps a chunk's intermediates within 256 MiB.
    """

    def __init__(
        self,
        model: nn.Module,
        batch: AtomBatch,
        scale: Tensor,
        subset: Subset | None = None,
        size: int | None = None,
    ) -> None:
        check_parameters(model, batch.features)
        self.model, self.batch, self.subset, self.size = model, batch, subset, size
        self.device = batch.features.device
        self.scale = scale.to(device=self.device, dtype=torch.float64)
        self.n_rows = batch.n_structures
        self.n_parameters = parameter_count(model) if subset is None else len(subset)
        self._fixed, self._weights = split_parameters(model, subset)

    @torch.no_grad()
    def forward(self, vectors: Tensor) -> Tensor:
        """R v of every vector.

        Args:
            vectors: shape (K, P), float64.

        Returns:
            Shape (K, M).
        """
        out = vectors.new_zeros(len(vectors), self.n_rows)
        for x, types, structure in self._chunks(len(vectors)):
            out.index_add_(1, structure, self._forward(vectors, x, types))
        return out.mul_(self.scale)

    @torch.no_grad()
    def adjoint(self, vectors: Tensor) -> Tensor:
        """R^T u of every vector.

        Args:
            vectors: shape (K, M), float64.

        Returns:
            Shape (K, P).
        """
        out = vectors.new_zeros(len(vectors), self.n_parameters)
        weighted = vectors * self.scale
        for x, types, structure in self._chunks(len(vectors)):
            self._adjoint(weighted[:, structure], x, types, out)
        return out

    def state_dict(self) -> dict[str, Tensor]:
        """The training environments and their weights; the model is kept by whoever owns it."""
        return {
            "features": self.batch.features,
            "types": self.batch.types,
            "structure": self.batch.structure,
            "scale": self.scale,
        }

    def _chunks(self, n_vectors: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Features, types and structure of consecutive atoms."""
        widest = self.batch.features.shape[1]
        if isinstance(self.model, BehlerParrinelloMLP):
            widest += 2 * n_vectors * max([1, *self.model.hidden])
        elif isinstance(self.model, LinearInParameters):
            widest += parameter_count(self.model) + n_vectors
        else:  # an unknown module: as if each layer were as wide as its input
            widest *= 4 * n_vectors
        step = self.size or max(1, CHUNK_BYTES // (8 * widest))
        for start in range(0, len(self.batch), step):
            part = slice(start, start + step)
            x = self.batch.features[part].to(torch.float64)
            yield x, self.batch.types[part], self.batch.structure[part]

    def _basis(self, model: LinearInParameters, x: Tensor, types: Tensor) -> Tensor:
        basis = model.basis(x, types).to(torch.float64)
        return basis if self.subset is None else self.subset.columns(basis)

    def _forward(self, vectors: Tensor, x: Tensor, types: Tensor) -> Tensor:
        """Derivative of every atomic energy along every vector, shape (K, atoms)."""
        if isinstance(self.model, LinearInParameters):
            return vectors @ self._basis(self.model, x, types).mT
        if isinstance(self.model, BehlerParrinelloMLP):
            return layered_forward(self.model, vectors, x, types, self.subset)

        def along(vector: Tensor) -> Tensor:
            tangent: Tensor = jvp(
                self._energies(x, types), (self._weights,), (self._split(vector),)
            )[1]
            return tangent

        return vmap(along)(vectors)

    def _adjoint(self, weights: Tensor, x: Tensor, types: Tensor, out: Tensor) -> None:
        """Add the gradients of weighted sums of atomic energies; weights of shape (K, atoms)."""
        if isinstance(self.model, LinearInParameters):
            out.addmm_(weights, self._basis(self.model, x, types))
        elif isinstance(self.model, BehlerParrinelloMLP):
            layered_adjoint(self.model, weights, x, types, self.subset, out)
        else:
            pull = vjp(self._energies(x, types), self._weights)[1]
            blocks = vmap(pull)(weights)[0]
            out += torch.cat([blocks[name].flatten(1) for name in self._weights], dim=1)

    def _energies(self, x: Tensor, types: Tensor) -> Callable[[dict[str, Tensor]], Tensor]:
        return lambda w: functional_call(self.model, {**self._fixed, **w}, (x, types))

    def _split(self, vector: Tensor) -> dict[str, Tensor]:
        """A vector as the parameters it runs along."""
        parts = vector.split([w.numel() for w in self._weights.values()])
        return {n: p.view_as(w) for p, (n, w) in zip(parts, self._weights.items(), strict=True)}
