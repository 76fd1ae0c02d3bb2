"""Orthogonal updates of triangular factors, panel by panel: rows in, rows out, columns out.

A change of k rows costs O(k P^2) where a fresh factorisation costs O(M P^2).
"""

from __future__ import annotations

import torch
from torch import Tensor

from torchlpr.curvature.factor import qr_triangle
from torchlpr.models.triangular import solve_gram_rows, solve_rows

__all__ = [
    "drop_columns",
    "fold_rows",
    "remove_rows",
    "smallest_singular_value",
    "stacked_triangle",
]

PANEL = 64  # columns handled at once: wide enough for GEMM, narrow beside the triangle
INVERSE_STEPS = 8


def stacked_triangle(matrix: Tensor, scale: Tensor | None, last: Tensor) -> Tensor:
    """Triangle of [matrix * scale; last], matrix taken in blocks so that no copy of it is made.

    Args:
        matrix: shape (rows, n).
        scale: factor of each row or column that broadcasts against a block, shape (rows, 1), or
            None.
        last: what goes last, the small rows: Householder QR then keeps their relative accuracy.

    Returns:
        Upper triangle, shape (min(rows + len(last), n), n).
    """
    triangle, step = matrix[:0], max(matrix.shape[1], 1024)
    for start in range(0, len(matrix), step):
        block = matrix[start : start + step]
        if scale is not None:
            block = block * scale[start : start + step]
        triangle = qr_triangle(triangle, block)
    return qr_triangle(triangle, last)


def fold_rows(triangle: Tensor, rows: Tensor) -> Tensor:
    """Triangle T' with T'^T T' = T^T T + B^T B.

    Args:
        triangle: T, upper trapezoid, shape (r, P) with r <= P.
        rows: B, shape (k, P).

    Returns:
        Shape (min(r + k, P), P).
    """
    r, p = triangle.shape
    k = len(rows)
    if not k:
        return triangle
    if k >= r or triangle.requires_grad or rows.requires_grad:
        return qr_triangle(triangle, rows)
    upper, lower = triangle.clone(), rows.clone()
    for start in range(0, r, PANEL):
        end = min(start + PANEL, r)
        pair = torch.cat([upper[start:end, start:], lower[:, start:]])
        _reduce(pair, end - start)
        upper[start:end, start:], lower[:, start:] = pair[: end - start], pair[end - start :]
    if r == p:
        return upper
    tail = qr_triangle(lower[:, r:])
    return torch.cat([upper, torch.cat([tail.new_zeros(len(tail), r), tail], dim=1)])


def fold_diagonal(triangle: Tensor, root: Tensor) -> Tensor:
    """Triangle T' with T'^T T' = T^T T + diag(root)^2, by a fifth of the flops of a dense QR.

    Args:
        triangle: T, upper trapezoid, shape (r, P) with r <= P.
        root: shape (P,), the small rows: they go below, which keeps their relative accuracy.

    Returns:
        Shape (P, P).
    """
    r, p = triangle.shape
    lower = torch.diag(root)
    if triangle.requires_grad or root.requires_grad:
        return qr_triangle(triangle, lower)
    upper = triangle.clone()
    for start in range(0, r, PANEL):
        end = min(start + PANEL, r)
        # row i of the diagonal is empty left of column i, and a full row from there on
        pair = torch.cat([upper[start:end, start:], lower[:end, start:]])
        _reduce(pair, end - start)
        upper[start:end, start:], lower[:end, start:] = pair[: end - start], pair[end - start :]
    if r == p:
        return upper
    tail = qr_triangle(lower[:, r:])
    return torch.cat([upper, torch.cat([tail.new_zeros(len(tail), r), tail], dim=1)])


def drop_columns(triangle: Tensor, keep: Tensor) -> Tensor:
    """Triangle of some columns of T; orthogonal throughout, so nothing cancels.

    Args:
        triangle: T, upper, shape (M, M).
        keep: increasing indices of the columns that stay, shape (n,).

    Returns:
        T' with T'^T T' = (T^T T)[keep, keep], shape (n, n).
    """
    n = len(keep)
    gone = len(triangle) - n
    matrix = triangle[:, keep]
    if not gone:
        return matrix
    if matrix.requires_grad:
        return qr_triangle(matrix)
    untouched = int((keep == torch.arange(n, device=keep.device)).sum())  # before the first gap
    for start in range(untouched, n, PANEL):
        end = min(start + PANEL, n)
        # column j of those kept ends in row keep[j] <= j + gone
        block = matrix[start : end + gone, start:].clone()
        _reduce(block, end - start)
        matrix[start : end + gone, start:] = block
    return matrix[:n]


def remove_rows(triangle: Tensor, rows: Tensor) -> tuple[Tensor, float]:
    """Triangle T' with T'^T T' = T^T T - B^T B.

    With P = T^-T B^T and Y^T Y = I - P^T P the columns of [Y; P] are orthonormal; the rotations
    that turn them into [I; 0] turn [0; T] into [B; T'].

    Source: G. W. Stewart, IMA J. Appl. Math. 23, 203 (1979), doi:10.1093/imamat/23.2.203.

    Args:
        triangle: T, upper and not singular, shape (P, P).
        rows: B, shape (k, P).

    Returns:
        T', shape (P, P), and the smallest eigenvalue delta of I - P^T P, in (0, 1]: the smallest
        share of a direction's H that remains. The matrix that comes with a delta of zero or
        below means nothing.
    """
    p, k = len(triangle), len(rows)
    half = solve_rows(triangle, rows, upper=True).mT  # [p, k]
    remaining = torch.eye(k, dtype=half.dtype, device=half.device) - half.mT @ half
    delta = float(torch.linalg.eigvalsh(remaining)[0]) if k else 1.0
    if not (k and delta > 0):
        return triangle, delta
    y, failed = torch.linalg.cholesky_ex(remaining, upper=True)
    if bool(failed):
        return triangle, 0.0
    upper, out = triangle.clone(), torch.zeros_like(rows)
    for start in reversed(range(0, p, PANEL)):
        end = min(start + PANEL, p)
        reflectors, tau = torch.geqrf(torch.cat([y, half[start:end]]))
        y = reflectors[:k].triu()
        pair = torch.cat([out[:, start:], upper[start:end, start:]])
        pair = torch.ormqr(reflectors, tau, pair, left=True, transpose=True)
        out[:, start:] = pair[:k]
        block = pair[k:]
        _reduce(block, end - start)
        upper[start:end, start:] = block
    return upper, delta


def smallest_singular_value(triangle: Tensor) -> float:
    """Estimate of the smallest singular value by inverse iteration, never below the true one.

    Args:
        triangle: upper and not singular, shape (P, P).

    Returns:
        The estimate, usually within a few per cent.
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, len(triangle), generator=generator, dtype=triangle.dtype)
    x = x.to(triangle.device)
    for _ in range(INVERSE_STEPS):
        x = solve_gram_rows(triangle, x / x.norm())
    return float(x.norm()) ** -0.5


def _reduce(block: Tensor, columns: int) -> None:
    """Triangularise the first columns of a block in place, rotating the others along."""
    reflectors, tau = torch.geqrf(block[:, :columns].contiguous())
    if columns < block.shape[1]:
        rest = torch.ormqr(reflectors, tau, block[:, columns:], left=True, transpose=True)
        block[:, columns:] = rest
    block[:, :columns] = reflectors.triu()
