r"""Deflation: the strongest directions of the rows in closed form, so that few products remain.

With an orthonormal basis U (M x r) of combinations of rows and C = U^T S, the Hessian splits into

    I + S^T S = (I + C^T C) + S^T (I - U U^T) S,       P = I + C^T C <= I + S^T S

and P^-1/2 (I + S^T S) P^-1/2 = I + Z^T Z with Z = (I - U U^T) S P^-1/2: the same form again, its
spectrum begins at 1 again (so that the prescribed node stays exact), and it ends where the
strongest direction left out ends. With U complete (r = M) nothing remains to iterate.

Source: Halko, Martinsson and Tropp, SIAM Rev. 53, 217 (2011), algorithm 4.4, for the basis;
Frangella, Tropp and Udell, SIAM J. Matrix Anal. Appl. 44, 718 (2023), as a preconditioner.
"""

from __future__ import annotations

import torch
from torch import Tensor

from torchlpr.curvature.quadrature import Map
from torchlpr.models.affine import affine

__all__ = ["Deflated", "strongest_directions"]


def strongest_directions(
    rows: Map, n_rows: int, n_parameters: int, rank: int, like: Tensor, block: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Approximate leading singular triplets of S, by subspace iteration from a fixed seed.

    Args:
        rows: S.
        n_rows: M.
        n_parameters: P.
        rank: number r of directions, at most min(M, P).
        like: a tensor on the device that the directions shall be on.
        block: vectors for which products are taken at once.

    Returns:
        Left vectors (r, M), values (r,) in descending order and right vectors (r, P) with
        left S = values right; left and right are orthonormal.
    """
    if rank >= n_rows:
        left = torch.eye(n_rows, dtype=torch.float64, device=like.device)
    else:
        generator = torch.Generator().manual_seed(0)
        images = []
        for start in range(0, rank, block):
            size = min(block, rank - start), n_parameters
            random = torch.randn(size, dtype=torch.float64, generator=generator)
            images.append(rows.forward(random.to(like.device)))
        left = _orthonormal(torch.cat(images))
        # one power iteration sharpens the basis where the spectrum falls slowly
        images = [rows.forward(rows.adjoint(part)) for part in left.split(block)]
        left = _orthonormal(torch.cat(images))
    compressed = torch.cat([rows.adjoint(part) for part in left.split(block)])
    rotation, values, right = torch.linalg.svd(compressed, full_matrices=False)
    return rotation.mT @ left, values, right


def _orthonormal(vectors: Tensor) -> Tensor:
    """Orthonormal rows that span the given ones."""
    return torch.linalg.qr(vectors.mT).Q.mT


class Deflated:
    """The map Z = (I - U U^T) S P^-1/2 that is left when some directions are solved for.

    Args:
        rows: S.
        left: U^T, orthonormal, shape (r, M).
        values: singular values of C = U^T S, shape (r,).
        right: right singular vectors of C, orthonormal, shape (r, P).
    """

    def __init__(self, rows: Map, left: Tensor, values: Tensor, right: Tensor) -> None:
        self.rows, self.left, self.values, self.right = rows, left, values, right

    def half(self, vectors: Tensor) -> Tensor:
        """P^-1/2 v of every vector, shape (K, P) to (K, P)."""
        if not len(self.values):
            return vectors
        rest, inside = _split(vectors, self.right)
        return rest.addmm_(inside * (1 + self.values.square()).rsqrt(), self.right)

    def half_(self, vectors: Tensor) -> Tensor:
        """P^-1/2 v of every vector in place, to rounding of v rather than of the result."""
        inside = affine(vectors, self.right)
        return vectors.addmm_(
            inside.mul_(1 - (1 + self.values.square()).rsqrt()), self.right, alpha=-1
        )

    def forward(self, vectors: Tensor) -> Tensor:
        """Z v of every vector, shape (K, P) to (K, M)."""
        return _split(self.rows.forward(self.half(vectors)), self.left)[0]

    def adjoint(self, vectors: Tensor) -> Tensor:
        """Z^T u of every vector, shape (K, M) to (K, P)."""
        return self.half(self.rows.adjoint(_split(vectors, self.left)[0]))


def _split(x: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """Part outside the span of orthonormal rows, and coordinates inside; projected twice."""
    inside = x @ basis.mT
    rest = x - inside @ basis
    again = rest @ basis.mT
    return rest - again @ basis, inside + again
