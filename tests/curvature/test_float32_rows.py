"""Products in float32: what they change stays within the bound, and a large bound is refused."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.cases import MODELS, make_batch, seeds, theorem
from tests.curvature.test_feature_span import dense, largest, make_problem
from tests.force_cases import make_force_batch
from tests.oracles import extended_precision
from torchlpr import AtomBatch, BehlerParrinelloMLP, InputError, Objective, Rigidity
from torchlpr.curvature import RowSpace
from torchlpr.curvature.deflated_rows import DeflatedRows
from torchlpr.curvature.float32_rows import BLOCK, Float32Rows


def rows_of(kind: str, m: int, p: int, rng: np.random.Generator) -> torch.Tensor:
    rows = rng.normal(size=(m, p))
    if kind == "one sign":  # sums grow, and their rounding with them
        rows = np.abs(rows) + 1.0
    if kind == "decaying":
        rows *= np.logspace(0, -6, p)
    if kind == "duplicated":
        rows[m // 2 :] = rows[: m - m // 2]
    return torch.from_numpy(rows)


@theorem
@given(
    seed=seeds,
    kind=st.sampled_from(["generic", "one sign", "decaying", "duplicated"]),
    ratio=st.floats(-3, 3),
    scale=st.sampled_from([1e-12, 1.0, 1e10]),
)
def test_errors_are_within_their_bounds(seed: int, kind: str, ratio: float, scale: float) -> None:
    """Against 80 digits, for rows and gradients of any scale."""
    rng = np.random.default_rng(seed)
    m, p = int(rng.integers(1, 8)), int(rng.integers(1, 12))
    rows = scale * rows_of(kind, m, p, rng)
    gradients = torch.from_numpy(np.vstack([rng.normal(size=(2, p)), rows[:1]]))
    mu = 10.0**ratio * float(torch.linalg.matrix_norm(rows, 2)) ** 2
    value, share = extended_precision.forms(rows.numpy(), gradients.numpy(), mu)
    found = Float32Rows(RowSpace(rows, torch.tensor(mu, dtype=torch.float64))).quadratic_form(
        gradients
    )
    assert (np.abs(found.forms.value.numpy() - value) <= found.value_error.numpy()).all()
    assert (np.abs(found.forms.regulariser.numpy() - share) <= found.share_error.numpy()).all()


@pytest.mark.parametrize("kind", ["generic", "one sign", "decaying"])
def test_long_rows_in_blocks(kind: str) -> None:
    rng = np.random.default_rng(1)
    p = 3 * BLOCK + 7
    rows = rows_of(kind, 20, p, rng)
    gradients = torch.from_numpy(np.abs(rng.normal(size=(50, p))) + rows[:1].numpy())
    mu = torch.tensor(float(torch.linalg.matrix_norm(rows, 2)) ** 2).double()
    exact = RowSpace(rows, mu)._residual_form(gradients)[0]
    found = Float32Rows(RowSpace(rows, mu)).quadratic_form(gradients)
    error = (found.forms.value - exact.value).abs()
    assert bool((error <= found.value_error).all())
    assert float((error / exact.value).max()) > 1e-10  # float32 it was
    assert float((found.value_error / exact.value).max()) < 1e-3  # and the bound is of use


def many_rows(types: tuple[int, ...]) -> tuple[BehlerParrinelloMLP, AtomBatch, AtomBatch]:
    """More than are deflated: each atom a structure of its own."""
    model, train, test = make_problem(types, noise=1e-3)
    shifted = torch.cat([test.features * (1 + 0.01 * k) for k in range(4)])
    atoms = AtomBatch(shifted, test.types.repeat(4), torch.arange(len(shifted)))
    return model, replace(train, structure=torch.arange(len(train))), atoms


@pytest.mark.parametrize("types", [(14,), (6, 14)])
@pytest.mark.parametrize("ratio", [1e-2, 1e-4, 1e-6])
def test_many_atoms_of_a_network(ratio: float, types: tuple[int, ...]) -> None:
    """In the span of the features, and one by one."""
    model, train, test = many_rows(types)
    objective = Objective(mu=ratio * largest(model, train))
    expected = dense(model, train, test, objective.mu)
    exact = Rigidity(model, train, objective, "row")
    rough = Rigidity(model, train, objective, "row", float32_error=1e-4)
    torch.testing.assert_close(rough.local(test), expected, rtol=1e-4, atol=0)
    assert vars(rough)["_span"] is not None
    found, plain = rough.atoms(test), exact.atoms(test)
    assert not torch.equal(found.rigidity, plain.rigidity)
    torch.testing.assert_close(found.mu_fraction, plain.mu_fraction, rtol=0, atol=1e-4)
    few = test.select(torch.arange(10))
    torch.testing.assert_close(rough.local(few), expected[:10], rtol=1e-4, atol=0)
    torch.testing.assert_close(rough.total(few), exact.total(few), rtol=1e-4, atol=0)
    assert torch.equal(rough.intervals(few).lower, exact.intervals(few).lower)  # float64 as ever


@pytest.mark.parametrize("name", MODELS)
def test_all_models_and_what_changes_them(name: str, tmp_path: Path) -> None:
    types, build = MODELS[name]
    objective = Objective(mu=0.1, force_weight=0.3)
    model, train = build(), make_force_batch(6, types)
    test, more = make_batch(5, types, seed=3), make_force_batch(2, types, seed=4)
    before = test.features.clone()
    rough = Rigidity(model, train, objective, "row", float32_error=1e-3)
    rough.save(tmp_path / "rigidity.pt")
    loaded = Rigidity.load(tmp_path / "rigidity.pt")
    streamed = Rigidity.from_batches(model, [train], objective, "row", float32_error=1e-3)
    exact = Rigidity(model, train, objective, "row")
    for found, plain in (
        (rough, exact), (loaded, exact), (streamed, exact), (rough.add(more), exact.add(more)),
        (rough.add(more).remove(more), exact), (rough.recast("row"), exact),
    ):  # fmt: skip
        assert found.float32_error == 1e-3
        lpr = found.local(test)
        torch.testing.assert_close(lpr, plain.local(test), rtol=1e-3, atol=0)
    assert torch.equal(test.features, before)  # gradients of linear heads are features


def test_the_bound_of_deflated_rows_is_of_use_where_that_of_all_is_not() -> None:
    rng = np.random.default_rng(0)
    u, _, vt = np.linalg.svd(rng.normal(size=(80, 2000)), full_matrices=False)
    rows = torch.from_numpy((u * np.logspace(0, -8, 80)) @ vt)
    gradients = torch.from_numpy(rng.normal(size=(30, 80)) @ rows.numpy()) + 1e-3 * rows[:30]
    gradients += 1e-5 * torch.from_numpy(rng.normal(size=gradients.shape))
    mu = torch.tensor(1e-6).double()
    factor = RowSpace(rows, mu)
    plain = Float32Rows(factor).quadratic_form(gradients)
    exact = factor.quadratic_form(gradients)
    assert float((plain.value_error / exact.value).min()) > 0.01
    forms = DeflatedRows(factor, 1e-3).quadratic_form_(gradients.clone())
    torch.testing.assert_close(forms.value, exact.value, rtol=1e-6, atol=0)


def test_too_small_a_mu_is_refused_and_never_evaluated_otherwise() -> None:
    model = BehlerParrinelloMLP(24, [14], (8, 5), "tanh", seed=0)
    train, test = (make_batch(90, seed=seed, atoms=1, features=24) for seed in (1, 2))
    objective = Objective(mu=1e-10 * largest(model, train))
    rigidity = Rigidity(model, train, objective, "row", float32_error=1e-9)
    pattern = (
        r"may change a rigidity or a mu-fraction by \d.\de[-+]\d+, more than .*=1.0e-09: mu is"
    )
    for ask in (rigidity.atoms, rigidity.structures):
        with pytest.raises(InputError, match=pattern):
            ask(test)


@pytest.mark.parametrize("shape", ["parameter", "matrix-free", "column", "auto"])
def test_other_shapes_are_refused(shape: str) -> None:
    types, build = MODELS["linear"]
    model, train = build(), make_batch(20, types)  # auto takes parameter space
    wanted = "parameter space" if shape == "auto" else shape
    pattern = f"float32_error=0.001 is for row space, but this rigidity is in shape '{wanted}'"
    with pytest.raises(InputError, match=pattern):
        Rigidity(model, train, Objective(mu=0.1), shape, float32_error=1e-3)
    if shape != "auto":
        row = Rigidity(model, train, Objective(mu=0.1), "row", float32_error=1e-3)
        with pytest.raises(InputError, match=pattern):
            row.recast(shape)


@pytest.mark.parametrize("error", [-1.0, 1.0, float("nan")])
def test_the_error_is_a_relative_one(error: float) -> None:
    model, train = MODELS["linear"][1](), make_batch(3)
    with pytest.raises(InputError, match=r"float32_error is a relative error in .0, 1., not"):
        Rigidity(model, train, Objective(mu=0.1), "row", float32_error=error)


def test_a_gradient_of_zeros_has_its_own_error() -> None:
    types, build = MODELS["linear"]
    test = make_batch(3, types)
    test.features[1] = 0.0
    rigidity = Rigidity(build(), make_batch(3, types), Objective(0.1), "row", float32_error=1e-3)
    with pytest.raises(InputError, match="gradient 1 is zero"):
        rigidity.local(test)


def test_little_memory_is_refused() -> None:
    model, train, test = make_problem((14,))
    objective = Objective(mu=1e-2 * largest(model, train))
    tight = Rigidity(model, train, objective, "row", float32_error=1e-3, memory_limit=100_000_000)
    with pytest.raises(InputError, match=r"rows in float32 take .* raise memory_limit or leave"):
        tight.structures(test)


@pytest.fixture
def few_digits() -> Iterator[None]:
    torch.set_float32_matmul_precision("high")
    yield
    torch.set_float32_matmul_precision("highest")


@pytest.mark.usefixtures("few_digits")
def test_fewer_digits_than_float32_have_no_bound() -> None:
    rows = RowSpace(torch.eye(3).double(), torch.tensor(1.0).double())
    with pytest.raises(InputError, match="in precision 'high', for which there is no bound; call"):
        Float32Rows(rows)
