"""Rows over a triangle, against products with it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torchlpr.models.triangular import solve_gram_rows, solve_rows

SIZES = st.integers(0, 40)


def _triangle(n: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(n, n, dtype=torch.float64, generator=generator) / max(1, n)
    return (matrix + 2 * torch.eye(n, dtype=torch.float64)).triu()


@given(n=SIZES, k=SIZES, seed=st.integers(0, 9), upper=st.booleans())
def test_products_with_the_triangle_give_the_rows_back(
    n: int, k: int, seed: int, upper: bool
) -> None:
    triangle = _triangle(n, seed) if upper else _triangle(n, seed).mT
    rows = torch.randn(k, n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    found = solve_rows(triangle, rows, upper)
    torch.testing.assert_close(found @ triangle, rows, rtol=1e-12, atol=1e-13)
    assert found.shape == rows.shape
    assert found.is_contiguous()  # what follows reads rows


def test_rows_over_the_gram_matrix_of_a_triangle() -> None:
    triangle, rows = _triangle(30, 0), torch.ones(4, 30, dtype=torch.float64)
    found = solve_gram_rows(triangle, rows)
    torch.testing.assert_close(found @ (triangle.mT @ triangle), rows, rtol=1e-12, atol=0)


@pytest.mark.parametrize("upper", [True, False])
def test_derivatives_and_batches(upper: bool) -> None:
    triangle = _triangle(5, 1) if upper else _triangle(5, 1).mT
    rows = torch.randn(3, 4, 5, dtype=torch.float64).requires_grad_()
    expected = torch.stack([solve_rows(triangle, part, upper) for part in rows])
    torch.testing.assert_close(solve_rows(triangle, rows, upper), expected, rtol=1e-14, atol=0)
    each = triangle.expand(3, 5, 5)
    torch.testing.assert_close(solve_rows(each, rows, upper), expected, rtol=1e-14, atol=0)
    assert torch.autograd.gradcheck(lambda t, b: solve_rows(t, b, upper), (
        triangle.clone().requires_grad_(), rows,
    ))  # fmt: skip
