"""Rigidity without stored rows, and restricted to some weights."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.cases import FEATURES, MODELS, TWO, make_batch, mlp
from tests.oracles import autograd_loops, dense
from torchlpr import InputError, Objective, Rigidity
from torchlpr.curvature import MatrixFree, MatrixFreeSettings, parameter_subset

OBJECTIVE = Objective(mu=1e-3, energy_weight=2.0)
TIGHT = MatrixFreeSettings(1e-10)


def oracle(model, train, test, columns) -> tuple[np.ndarray, np.ndarray]:
    """LPR and mu-fraction from one autograd pass an atom, dense algebra."""
    gradients = [
        autograd_loops.atomic_gradients(model, b.features, b.types).numpy()[:, columns]
        for b in (train, test)
    ]
    rows = np.sqrt(2.0) * dense.group_means(gradients[0], train.structure)
    return (
        dense.augmented_qr(rows, gradients[1], 1e-3),
        dense.mu_fraction(rows, gradients[1], 1e-3),
    )


@pytest.mark.parametrize("directions", [0, None])
@pytest.mark.parametrize("size", [3, 40])
@pytest.mark.parametrize("name", MODELS)
def test_against_dense_algebra(name: str, size: int, directions: int | None) -> None:
    types, build = MODELS[name]
    model, train, test = build(), make_batch(size, types, seed=1), make_batch(4, types, seed=2)
    settings = MatrixFreeSettings(1e-8, directions=directions)
    rigidity = Rigidity(model, train, OBJECTIVE, "matrix-free", matrix_free=settings)
    assert rigidity.reason == "matrix-free, as asked"
    expected, fraction = oracle(model, train, test, slice(None))
    np.testing.assert_allclose(rigidity.local(test), expected, rtol=1e-8)
    np.testing.assert_allclose(rigidity.mu_fraction(test), fraction, rtol=1e-3)
    interval = rigidity.intervals(test)
    assert (interval.lower.numpy() <= expected).all()
    assert (expected <= interval.upper.numpy()).all()
    assert (interval.mu_fraction_lower.numpy() <= fraction).all()
    assert (fraction <= interval.mu_fraction_upper.numpy()).all()
    assert (interval.upper <= interval.lower * (1 + 2e-8)).all()


def test_structures_too() -> None:
    types, build = MODELS["mlp two species"]
    model, train, test = build(), make_batch(9, types, seed=1), make_batch(4, types, seed=2)
    exact = Rigidity(model, train, OBJECTIVE)
    iterated = Rigidity(model, train, OBJECTIVE, "matrix-free", matrix_free=TIGHT)
    torch.testing.assert_close(iterated.total(test), exact.total(test), rtol=1e-9, atol=0)


def test_an_exact_shape_has_intervals_without_width() -> None:
    types, build = MODELS["linear"]
    train = make_batch(9, types, seed=1)
    rigidity = Rigidity(build(), train, OBJECTIVE)
    interval = rigidity.intervals(train)
    assert torch.equal(interval.lower, rigidity.local(train))
    assert torch.equal(interval.upper, interval.lower)
    assert torch.equal(interval.mu_fraction_lower, interval.mu_fraction_upper)


def test_too_few_products_are_refused_but_intervals_hold() -> None:
    model = mlp(TWO, hidden=(12,))()
    train, test = make_batch(60, TWO, seed=1), make_batch(4, TWO, seed=2)
    few = MatrixFreeSettings(1e-9, max_products=3, directions=0)
    rigidity = Rigidity(model, train, OBJECTIVE, "matrix-free", matrix_free=few)
    with pytest.raises(InputError, match="raise max_products, directions or the tolerance"):
        rigidity.local(test)
    interval = rigidity.intervals(test)
    expected, _ = oracle(model, train, test, slice(None))
    assert (interval.lower.numpy() <= expected).all()
    assert (expected <= interval.upper.numpy()).all()
    assert (interval.upper > interval.lower * (1 + 1e-6)).all()


def test_auto_iterates_when_memory_is_short_and_says_so() -> None:
    model, train = mlp(TWO, hidden=(30, 30))(), make_batch(400, TWO, seed=1)
    test = make_batch(3, TWO, seed=2)
    tight = MatrixFreeSettings(1e-6, memory_limit=8 * 10**6)
    rigidity = Rigidity(model, train, OBJECTIVE, matrix_free=tight)
    assert isinstance(rigidity.factor, MatrixFree)
    assert rigidity.reason.startswith("matrix-free, 400 rows, 2100 parameters need ")
    assert "8 MB are allowed" in rigidity.reason
    roomy = Rigidity(model, train, OBJECTIVE)
    assert roomy.reason.startswith("row space")
    torch.testing.assert_close(rigidity.local(test), roomy.local(test), rtol=1e-6, atol=0)


@pytest.mark.parametrize("shape", ["auto", "matrix-free"])
@pytest.mark.parametrize("which", ["last-layer", "species", "*weight"])
@pytest.mark.parametrize("name", ["mlp bias silu two species", "linear", "kernel two species"])
def test_restricted_to_some_weights(name: str, which: str, shape: str, tmp_path: Path) -> None:
    types, build = MODELS[name]
    model, train, test = build(), make_batch(6, types, seed=1), make_batch(4, types, seed=2)
    if which == "species":
        which = f"species:{types[0]}"
        single = types[:1] * int((test.types == types[0]).sum())
        test = type(test)(
            test.features[test.types == types[0]],
            torch.tensor(single),
            torch.arange(len(single)),
        )
    rigidity = Rigidity(model, train, OBJECTIVE, shape, which, TIGHT)
    columns = parameter_subset(model, which).indices.numpy()
    expected, _ = oracle(model, train, test, columns)
    np.testing.assert_allclose(rigidity.local(test), expected, rtol=1e-9)
    whole = Rigidity(model, train, OBJECTIVE).local(test)
    assert (rigidity.local(test) >= whole * (1 - 1e-9)).all()
    rigidity.save(tmp_path / "rigidity.pt")
    again = Rigidity.load(tmp_path / "rigidity.pt")
    assert again.parameters == [which]
    torch.testing.assert_close(again.local(test), rigidity.local(test), rtol=1e-12, atol=0)
    torch.testing.assert_close(again.total(test), rigidity.total(test), rtol=1e-12, atol=0)


def test_atoms_that_no_chosen_weight_reaches_are_refused() -> None:
    model, train = mlp(TWO)(), make_batch(6, TWO)
    rigidity = Rigidity(model, train, OBJECTIVE, parameters="species:Ga")
    with pytest.raises(InputError, match="does not depend on any weight"):
        rigidity.local(train)


def test_features_must_fit_the_model_before_anything_is_computed() -> None:
    wrong = make_batch(3, TWO, features=FEATURES + 2)
    with pytest.raises(InputError, match="takes 4 features"):
        Rigidity(mlp(TWO)(), wrong, OBJECTIVE, "matrix-free")
