"""Sums over training rows that grow, merge, shrink, and survive a kill; mu comes at the end.

Both hold R^T R without its regulariser, so that two of them add up and any number of mu is served:

- :class:`RowAccumulator` the rows themselves, for fewer rows than parameters;
- :class:`TriangleAccumulator` the P x P triangle of the rows, for more rows than parameters.

Rows are detached: an accumulator has no derivative.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from torchlpr.curvature.factor import check_finite, regulariser_vector
from torchlpr.curvature.parameter_space import ParameterSpace
from torchlpr.curvature.row_matrix import Gram, find_rows
from torchlpr.curvature.row_space import RowSpace
from torchlpr.curvature.triangles import fold_rows
from torchlpr.errors import InputError

__all__ = ["Accumulator", "RowAccumulator", "TriangleAccumulator"]

GROWTH = 1.5  # of a buffer that is full


class RowAccumulator:
    """Rows, one below the other.

    Args:
        n_parameters: number P of weights.
        device: where the rows live.
        capacity: rows to make room for at once; more are taken in, at the price of a copy.
    """

    kind = "row"

    def __init__(
        self, n_parameters: int, device: torch.device | str = "cpu", capacity: int = 0
    ) -> None:
        self.n_parameters, self.n_rows = n_parameters, 0
        self._buffer = torch.empty(capacity, n_parameters, dtype=torch.float64, device=device)
        self._gram: Gram | None = None

    @property
    def rows(self) -> Tensor:
        """R, shape (M, P)."""
        return self._buffer[: self.n_rows]

    @property
    def gram(self) -> Gram:
        """R R^T for all factors of the same rows."""
        if self._gram is None:
            self._gram = Gram(self.rows)
        return self._gram

    @gram.setter
    def gram(self, products: Gram) -> None:
        self._gram = products

    def update(self, rows: Tensor) -> None:
        """Add rows.

        Args:
            rows: shape (k, P).
        """
        self._append(_checked(rows, self.n_parameters, self._buffer))

    def merge(self, other: RowAccumulator) -> None:
        """Add all rows of another accumulator, which stays as it is.

        Args:
            other: of the same kind and number of parameters.
        """
        _check_kind(self, other)
        self._append(other.rows.to(self._buffer))

    def downdate(self, rows: Tensor) -> None:
        """Take rows out, exactly.

        Args:
            rows: rows that went in, shape (k, P), equal to 1e-9 of their length.
        """
        keep = find_rows(self.rows, _checked(rows, self.n_parameters, self._buffer))
        self._buffer, self.n_rows = self.rows[keep], len(keep)
        self._gram = None if self._gram is None else self._gram.kept(keep, self.rows)

    def factor(self, mu: float | Tensor) -> RowSpace:
        """Factorise with a regulariser; later updates leave that factor as it is.

        Args:
            mu: positive, a number or shape (P,).

        Returns:
            The factor, which shares the rows.

        Raises:
            InputError: if mu is not allowed.
        """
        regulariser = regulariser_vector(mu, self._buffer)
        if bool((regulariser == 0).any()):
            raise InputError("row space needs every mu positive; accumulate in parameter space")
        if len(self._buffer) > self.n_rows:  # a view would drag the spare room into every file
            self._buffer = self.rows.clone()
        return RowSpace(self.rows, regulariser, gram=self.gram if not regulariser.ndim else None)

    def state_dict(self) -> dict[str, Tensor]:
        """The rows, as a copy."""
        return {"rows": self.rows.clone()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a saved state, to the same last bit.

        Args:
            state: as saved.
        """
        (rows,) = _state(state, ("rows",), self.n_parameters)
        # a new one: factors share the old
        self._buffer = torch.empty_like(rows, device=self._buffer.device)
        self.n_rows = 0
        self._append(rows.to(self._buffer))

    def _append(self, rows: Tensor) -> None:
        old, new = self.n_rows, self.n_rows + len(rows)
        if new > len(self._buffer):
            larger = self._buffer.new_empty(max(new, int(GROWTH * old)), self.n_parameters)
            larger[:old] = self.rows
            self._buffer = larger
        self._buffer[old:new] = rows
        self.n_rows, self._gram = new, None


class TriangleAccumulator:
    """Triangle S with S^T S = R^T R, by QR: rows are never squared.

    Rows that are taken out gather in a triangle of their own, and are subtracted only when a
    regulariser is known: then the loss of digits can be told, and is refused.

    Args:
        n_parameters: number P of weights.
        device: where the triangle lives.
        capacity: not needed here; accepted so that both kinds are made in the same way.
    """

    kind = "parameter"

    def __init__(
        self, n_parameters: int, device: torch.device | str = "cpu", capacity: int = 0
    ) -> None:
        del capacity
        self.n_parameters, self.n_rows = n_parameters, 0
        self._added = torch.empty(0, n_parameters, dtype=torch.float64, device=device)
        self._removed = self._added.clone()
        self._n_removed = 0

    def update(self, rows: Tensor) -> None:
        """Add rows.

        Args:
            rows: shape (k, P).
        """
        new = _checked(rows, self.n_parameters, self._added)
        self._added = fold_rows(self._added, new)
        self.n_rows += len(new)

    def merge(self, other: TriangleAccumulator) -> None:
        """Add all that another accumulator holds, which stays as it is.

        Args:
            other: of the same kind and number of parameters.
        """
        _check_kind(self, other)
        self._added = fold_rows(self._added, other._added.to(self._added))
        self._removed = fold_rows(self._removed, other._removed.to(self._added))
        self.n_rows += other.n_rows
        self._n_removed += other._n_removed

    def downdate(self, rows: Tensor) -> None:
        """Take rows out; whether digits survive is judged by :meth:`factor`.

        Args:
            rows: rows that went in, shape (k, P).
        """
        old = _checked(rows, self.n_parameters, self._added)
        self._removed = fold_rows(self._removed, old)
        self.n_rows -= len(old)
        self._n_removed += len(old)

    def factor(self, mu: float | Tensor) -> ParameterSpace:
        """Factorise with a regulariser, at a fraction of the cost of the rows' own QR.

        Args:
            mu: not negative, a number or shape (P,).

        Returns:
            The factor.

        Raises:
            InputError: if mu is not allowed, H is singular, or rows were taken out that never
                went in or whose removal would lose digits.
        """
        regulariser = regulariser_vector(mu, self._added)
        total = self.n_rows + self._n_removed
        whole = ParameterSpace.from_triangle(self._added, regulariser, total)
        if not self._n_removed:
            return whole
        return whole.downdate(self._removed, self._n_removed)

    def state_dict(self) -> dict[str, Tensor]:
        """Triangles of what was added and removed, and the numbers of rows."""
        counts = torch.tensor([self.n_rows, self._n_removed])
        return {"added": self._added, "removed": self._removed, "counts": counts}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a saved state, to the same last bit.

        Args:
            state: as saved.
        """
        added, removed, counts = _state(state, ("added", "removed", "counts"), self.n_parameters)
        self._added, self._removed = added.to(self._added), removed.to(self._added)
        self.n_rows, self._n_removed = map(int, counts)


Accumulator = RowAccumulator | TriangleAccumulator


def _checked(rows: Tensor, n_parameters: int, like: Tensor) -> Tensor:
    matrix = check_finite("row", rows.detach())
    if matrix.shape[1] != n_parameters:
        raise InputError(
            f"rows have {matrix.shape[1]} parameters and the accumulator {n_parameters}; "
            "both must belong to the same weights"
        )
    return matrix.to(like.device)


def _check_kind(mine: Accumulator, other: object) -> None:
    if type(other) is not type(mine):
        raise InputError(f"a {type(other).__name__} cannot be merged into a {type(mine).__name__}")
    if other.n_parameters != mine.n_parameters:
        raise InputError(
            f"an accumulator of {other.n_parameters} parameters cannot be merged into one of "
            f"{mine.n_parameters}"
        )


def _state(state: Mapping[str, Tensor], names: tuple[str, ...], width: int) -> list[Tensor]:
    if set(state) != set(names) or state[names[0]].shape[1] != width:
        raise InputError(
            f"this is no state of an accumulator of {width} parameters with {', '.join(names)}; "
            "load it into an accumulator of the kind and size that it was saved from"
        )
    return [state[name] for name in names]
