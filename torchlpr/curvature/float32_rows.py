r"""The difference form of row space with its products in float32, and a bound of what that does.

With w = R g / mu, K = I + R R^T / mu and E = I - K^-1,

    alpha = K^-1 w = w - E w,    g^T H^-1 g = |g|^2 / mu - w^T alpha

If w is computed with an error d, and E w with an error f, then alpha is wrong by at most |d| + |f|,
because K >= I, and g^T H^-1 g by at most |d| (2 |alpha| + |d| + 2 |f|) + |w| |f|. A product of
vectors of b numbers in float32 has an error of at most (b + 2) 2^-24 of the product of their
lengths, whatever the order of its sums; blocks of b columns are added up in float64, so that by
Cauchy and Schwarz

    |d| <= (b + 2) 2^-24 |R|_F |g| / mu,    |f| <= (b + 2) 2^-24 |E|_F |w|

Nothing here is estimated. Rows that are strong beside mu make the bound useless; they are to be
deflated before, see :mod:`torchlpr.curvature.deflated_rows`. Source: derived here, from the
standard bound of Higham, Accuracy and Stability of Numerical Algorithms (2002), chapter 3.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from torchlpr.curvature.factor import QuadraticForm
from torchlpr.curvature.row_space import RowSpace
from torchlpr.errors import InputError

__all__ = ["Bounded", "Float32Rows"]

BLOCK = 1024  # columns whose products are summed in float32
UNIT = 2.0**-24
EPS = torch.finfo(torch.float64).eps


class Bounded(NamedTuple):
    """Quadratic forms with bounds of their errors, shape (K,) each.

    Attributes:
        forms: values and regulariser shares.
        alpha: shape (K, M).
        alpha_error: bound of the length of its error.
        value_error: bound of the error of a value.
        share_error: bound of the error of a share.
    """

    forms: QuadraticForm
    alpha: Tensor
    alpha_error: Tensor
    value_error: Tensor
    share_error: Tensor


class Float32Rows:
    """Row space whose products with gradients are taken in float32.

    Args:
        factor: in row space, with one mu; its rows are copied.

    Raises:
        InputError: if torch has been told to multiply float32 matrices with fewer digits.
    """

    def __init__(self, factor: RowSpace) -> None:
        precision = torch.get_float32_matmul_precision()
        if precision != "highest":
            raise InputError(
                f"torch multiplies float32 matrices in precision {precision!r}, for which there is "
                "no bound; call torch.set_float32_matmul_precision('highest')"
            )
        self.mu, self.condition = factor.mu, factor.condition
        self._length = float(torch.linalg.vector_norm(factor.rows)) or 1.0
        self._rows = _Matrix(factor.rows / self._length)  # so that nothing overflows
        identity = torch.eye(factor.n_rows, dtype=torch.float64, device=factor.rows.device)
        self._lost = _Matrix(identity - torch.cholesky_inverse(factor.triangle, upper=True))  # E

    def quadratic_form(self, gradients: Tensor) -> Bounded:
        """g^T H^-1 g by the difference form, and how far from it that may be.

        Args:
            gradients: shape (K, P), float64.

        Returns:
            The forms with their bounds.
        """
        length, scale = torch.linalg.vector_norm(gradients, dim=1), self._length / self.mu
        w = self._rows.products(gradients).mul_(scale)
        alpha = w - self._lost.products(w)
        norm, data = length.square() / self.mu, alpha.square().sum(1)
        value = norm - (w * alpha).sum(1)
        of_w, of_product = self._rows.error(length) * scale, self._lost.error(w.norm(dim=1))
        of_alpha, twice = of_w + of_product, 2 * data.sqrt()
        rounding = 2 * EPS * (norm + self.condition * data)  # of float64
        of_value = of_w * (twice + of_w + 2 * of_product) + w.norm(dim=1) * of_product + rounding
        of_share = of_value + of_alpha * (twice + of_alpha)
        return Bounded(QuadraticForm(value, value - data), alpha, of_alpha, of_value, of_share)


class _Matrix:
    """A matrix in float32, whose products with vectors have a bounded error.

    Args:
        matrix: shape (rows, columns), float64.
    """

    def __init__(self, matrix: Tensor) -> None:
        self.length = float(torch.linalg.vector_norm(matrix))
        self.matrix = matrix.float()

    def products(self, vectors: Tensor) -> Tensor:
        """Y x of every vector, shape (K, columns) to (K, rows), float64."""
        total = vectors.new_zeros(len(vectors), len(self.matrix))
        for x, y in zip(vectors.split(BLOCK, 1), self.matrix.split(BLOCK, 1), strict=True):
            total += x.float() @ y.mT
        return total

    def error(self, length: Tensor) -> Tensor:
        """Bound of the length of the error of Y x, for vectors of these lengths."""
        rows, columns = self.matrix.shape
        terms = (min(BLOCK, columns) + 2) * UNIT
        underflow = 2.0**-126 * columns * rows**0.5 * (1 + self.length + length)
        return terms / (1 - terms) * self.length * length + underflow
