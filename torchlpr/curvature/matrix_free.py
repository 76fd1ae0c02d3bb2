r"""Matrix-free: certified intervals of quadratic forms where no row can be stored.

In coordinates scaled by diag(mu)^-1/2 the Hessian is I + S^T S with S = R diag(mu)^-1/2, whose
spectrum begins at 1. Building finds the strongest directions of S (see
:mod:`torchlpr.curvature.deflation`); an evaluation iterates on what they leave (see
:mod:`torchlpr.curvature.quadrature`), many gradients at once, until each interval is narrow enough.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from torchlpr.curvature.deflation import Deflated, strongest_directions
from torchlpr.curvature.factor import QuadraticForm
from torchlpr.curvature.products import RowProducts, Scaled
from torchlpr.curvature.quadrature import Quadrature, quadrature
from torchlpr.errors import InputError
from torchlpr.free_memory import format_bytes, memory_limit

__all__ = ["Bounds", "MatrixFree", "MatrixFreeSettings"]

EPS = torch.finfo(torch.float64).eps
DIRECTIONS = 256  # beyond, projections on the directions cost what they spare in products
BATCH = 256  # vectors at once: enough for matrix products to run at full speed
# products are exact for rows that differ by this many eps from R, relative to its norm
PRODUCT_ERROR = 32.0
SOLVE_TOLERANCE = 1e-8


@dataclass(frozen=True)
class MatrixFreeSettings:
    """How far the matrix-free shape iterates.

    Attributes:
        tolerance: width of an interval, relative to its lower end, at which a gradient is done.
        max_products: most products with the Hessian for one gradient.
        directions: number of strongest directions of the rows that building finds (twice as many
            products) and keeps (P numbers each); None takes up to 256, as memory allows, 0 none.
        memory_limit: bytes to work in, None for three quarters of what is free.
    """

    tolerance: float = 1e-6
    max_products: int = 1000
    directions: int | None = None
    memory_limit: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.tolerance < 1:
            raise InputError(f"tolerance must lie between 0 and 1, not be {self.tolerance}")
        for name, least in (("max_products", 1), ("directions", 0), ("memory_limit", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise InputError(f"{name} must be at least {least}, not {value}")


class Bounds(NamedTuple):
    """Certified intervals of quadratic forms; they hold whether converged or not.

    Attributes:
        lower: lower bounds of g^T H^-1 g = 1/LPR, shape (K,), eV^2.
        upper: upper bounds.
        regulariser_lower: lower bounds of v^T diag(mu) v with v = H^-1 g, shape (K,), eV^2.
        regulariser_upper: upper bounds of it.
        products: products with the Hessian that each took, shape (K,), int64.
        converged: whether the interval is as narrow as was asked for, shape (K,).
    """

    lower: Tensor
    upper: Tensor
    regulariser_lower: Tensor
    regulariser_upper: Tensor
    products: Tensor
    converged: Tensor


class MatrixFree:
    """Gauss-Newton Hessian known by its products, with the strongest directions of its rows.

    There is no factor: a determinant cannot be had, and nothing is differentiable.

    Args:
        rows: products with R.
        mu: strength of the regulariser, shape () or (P,), all positive.
        settings: how far to iterate.
        directions: left vectors, values and right vectors of the deflation, where they are known.
    """

    shape_name = "matrix-free"

    def __init__(
        self,
        rows: RowProducts,
        mu: Tensor,
        settings: MatrixFreeSettings | None = None,
        directions: tuple[Tensor, Tensor, Tensor] | None = None,
    ) -> None:
        self.n_rows, self.n_parameters = rows.n_rows, rows.n_parameters
        self.rows, self.mu = rows, mu
        self.settings = settings or MatrixFreeSettings()
        self._scaled = Scaled(rows, mu)
        with torch.no_grad():
            left, values, right = directions or self._find_directions()
        # some directions are always found: the first value is the norm that rounding scales with
        self.norm = float(values[0]) if len(values) else 0.0
        self._directions = left, values, right
        kept = min(len(values), self._n_directions())
        self._map = Deflated(self._scaled, left[:kept], values[:kept], right[:kept])

    @property
    def rounding(self) -> float:
        """Relative rounding error that bounds are widened by."""
        return PRODUCT_ERROR * EPS * (1 + self.norm)

    def _n_directions(self) -> int:
        if self.settings.directions is not None:
            return min(self.settings.directions, self.n_rows, self.n_parameters)
        share = self._limit() // 4
        fitting = share // (8 * 3 * (self.n_rows + self.n_parameters))
        return min(DIRECTIONS, self.n_rows, self.n_parameters, fitting)

    def _limit(self) -> int:
        return memory_limit(self.settings.memory_limit, self.rows.device)

    def _find_directions(self) -> tuple[Tensor, Tensor, Tensor]:
        rank = min(max(self._n_directions(), 4), self.n_rows, self.n_parameters)
        like = torch.empty(0, dtype=torch.float64, device=self.rows.device)
        if not rank:
            return (
                like.new_zeros(0, self.n_rows),
                like.new_zeros(0),
                like.new_zeros(0, self.n_parameters),
            )
        return strongest_directions(
            self._scaled, self.n_rows, self.n_parameters, rank, like, self._batch()[0]
        )

    def _batch(self) -> tuple[int, str | None]:
        """Vectors at once, and the side on which orthogonality is kept.

        A vector takes ten numbers a parameter, six a row, and for orthogonality the shorter
        side once for each step.

        Returns:
            Number of vectors, and "u", "v" or None for no orthogonalisation.

        Raises:
            InputError: if not even one vector fits.
        """
        short = min(self.n_rows, self.n_parameters)
        one = 8 * (10 * self.n_parameters + 6 * self.n_rows)
        kept = 2 * 8 * short * min(self.settings.max_products, short)
        share = self._limit() // 2
        if share // (one + kept) >= min(16, BATCH):
            side = "u" if self.n_rows <= self.n_parameters else "v"
            return min(BATCH, share // (one + kept)), side
        if share < one:
            raise InputError(
                f"a vector of {self.n_parameters} parameters and {self.n_rows} rows takes "
                f"{format_bytes(one)} to iterate and {format_bytes(share)} are to be had; raise "
                "memory_limit or choose fewer parameters"
            )
        return min(BATCH, share // one), None

    @torch.no_grad()
    def _iterate(self, gradients: Tensor, tolerance: float) -> Quadrature:
        size, basis = self._batch()
        parts = []
        for part in gradients.detach().split(size):
            start = self._map.half(part * self.mu.rsqrt())
            found = quadrature(self._map, start, tolerance, self.settings.max_products, basis)
            # H^-1 g in scaled coordinates
            parts.append(found._replace(solution=self._map.half(found.solution)))
        if not parts:
            empty = gradients.new_zeros(0)
            return Quadrature(empty, empty, gradients, empty.long())
        return Quadrature(*(torch.cat(fields) for fields in zip(*parts, strict=True)))

    def bounds(self, gradients: Tensor) -> Bounds:
        """Certified intervals, whatever width they have reached within ``max_products``.

        Args:
            gradients: shape (K, P), float64.

        Returns:
            Intervals of values and regulariser shares, shape (K,) each.
        """
        tolerance = max(self.settings.tolerance, EPS)
        found = self._iterate(gradients, tolerance)
        upper = (found.lower + found.width) * (1 + self.rounding)
        norm = torch.linalg.vector_norm(found.solution, dim=1)
        # the error of the solution is within sqrt(width) in the norm of I + S^T S, which is larger
        error = found.width.sqrt() + self.rounding * upper.sqrt()
        return Bounds(
            found.lower * (1 - self.rounding),
            upper,
            (norm - error).clamp(min=0).square(),
            torch.minimum((norm + error).square(), upper),
            found.steps,
            found.width <= tolerance * found.lower,
        )

    def quadratic_form(self, gradients: Tensor) -> QuadraticForm:
        """g^T H^-1 g, the middle of its interval, to half the tolerance.

        Args:
            gradients: shape (K, P), float64.

        Returns:
            Values and regulariser shares, shape (K,) each. The share has an error of at most
            2 sqrt(width * share), see :meth:`bounds`.
        """
        found = self._iterate(gradients, self.settings.tolerance)
        self._require(found, self.settings.tolerance)
        value = found.lower + 0.5 * found.width
        share = found.solution.square().sum(1)
        return QuadraticForm(value, torch.minimum(share, value))

    def solve(self, vectors: Tensor) -> Tensor:
        """H^-1 v with an error of at most 1e-8 of it, in the norm of H.

        Args:
            vectors: shape (K, P), float64.

        Returns:
            Shape (K, P).
        """
        found = self._iterate(vectors, SOLVE_TOLERANCE**2)
        self._require(found, SOLVE_TOLERANCE**2)
        return found.solution * self.mu.rsqrt()

    def effective_dof(self) -> float:
        """tr(H^-1 R^T R), as the sum of the quadratic forms of all M rows: as dear as M atoms."""
        total = 0.0
        for start in range(0, self.n_rows, BATCH):
            count = min(BATCH, self.n_rows - start)
            unit = torch.zeros(count, self.n_rows, dtype=torch.float64, device=self.rows.device)
            unit[:, start : start + count].fill_diagonal_(1.0)
            total += float(self.quadratic_form(self.rows.adjoint(unit)).value.sum())
        return total

    def state_dict(self) -> dict[str, Tensor]:
        """Directions, settings and what the rows are made of."""
        left, values, right = self._directions
        limits = [self.settings.tolerance, float(self.settings.max_products)]
        return {
            "mu": self.mu,
            "left": left,
            "values": values,
            "right": right,
            "kept": torch.tensor(len(self._map.values)),
            "settings": torch.tensor(limits, dtype=torch.float64),
            **self.rows.state_dict(),
        }

    def _require(self, found: Quadrature, tolerance: float) -> None:
        """Refuse to give numbers that are not as accurate as was asked for."""
        open_ = found.width > tolerance * found.lower
        if bool(open_.any()):
            gap = float((found.width / found.lower)[open_].max())
            raise InputError(
                f"{int(open_.sum())} of {len(open_)} quadratic forms reached a "
                f"relative interval of {gap:.1e} instead of {tolerance:.1e} in "
                f"{self.settings.max_products} products; raise max_products, directions or the "
                "tolerance, or ask for the intervals, which hold all the same"
            )
