"""Products with the rows against rows that are stored."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from tests.cases import FEATURES, MODELS, ONE, Case, make_batch, mlp, random_tensor
from torchlpr.curvature import (
    DenseRows,
    MatrixFreeSettings,
    ModelRows,
    RowProducts,
    build_matrix_free,
    energy_rows,
    parameter_count,
)
from torchlpr.errors import InputError
from torchlpr.objective import Objective


class Foreign(nn.Module):
    """A module that torchlpr has no closed form for, around one that it has."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, features: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
        return self.inner(features, types)


def check(products: RowProducts, rows: torch.Tensor) -> None:
    assert (products.n_rows, products.n_parameters) == tuple(rows.shape)
    v = random_tensor(1, 3, rows.shape[1]).to(rows.device)
    u = random_tensor(2, 3, rows.shape[0]).to(rows.device)
    forward, adjoint = products.forward(v), products.adjoint(u)
    torch.testing.assert_close(forward, v @ rows.mT, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(adjoint, u @ rows, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("foreign", [False, True])
def test_are_products_with_the_stored_rows(case: Case, foreign: bool) -> None:
    model = Foreign(case.model()) if foreign else case.model()
    batch, objective = case.batch(structures=6), Objective(mu=1.0, energy_weight=2.5)
    products = ModelRows(model, batch, objective.row_scale(batch.counts))
    check(products, energy_rows(model, batch, objective))


@pytest.mark.parametrize("foreign", [False, True])
@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize("name", ["mlp bias silu two species", "kernel two species"])
def test_chunks_cross_structures_which_may_be_interleaved(
    name: str, size: int, foreign: bool
) -> None:
    types, build = MODELS[name]
    model = Foreign(build()) if foreign else build()
    batch = make_batch(6, types)
    order = torch.randperm(len(batch), generator=torch.Generator().manual_seed(1))
    mixed = type(batch)(batch.features[order], batch.types[order], batch.structure[order])
    objective = Objective(mu=1.0, per_atom=False)
    scale = objective.row_scale(mixed.counts)
    check(ModelRows(model, mixed, scale, size=size), energy_rows(model, batch, objective))


def test_stored_rows_have_the_same_door() -> None:
    rows = random_tensor(0, 4, 7)
    check(DenseRows(rows), rows)


def test_other_features_are_refused() -> None:
    model, batch = mlp(ONE)(), make_batch(3, ONE, features=FEATURES + 1)
    with pytest.raises(InputError, match="4 features an atom and the batch has 5"):
        ModelRows(model, batch, torch.ones(3))


class Largest(TorchDispatchMode):
    """Remembers the largest tensor that any operation made."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.numel = max(self.numel, out.numel())
        return out


def test_no_tensor_is_as_large_as_the_rows() -> None:
    model, batch = mlp(ONE, hidden=(40, 40))(), make_batch(300, ONE)
    rows = 300 * parameter_count(model)
    with Largest() as largest:
        products = ModelRows(model, batch, torch.ones(300), size=50)
        factor = build_matrix_free(products, 0.1, MatrixFreeSettings(directions=10))
        factor.quadratic_form(random_tensor(0, 4, products.n_parameters))
    assert 0 < largest.numel < rows / 10
    with Largest() as largest:
        energy_rows(model, batch, Objective(mu=1.0))
    assert largest.numel >= rows
