"""Another shape, or fewer weights, from the factor alone: as built anew from the training set."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.cases import MODELS, make_batch
from tests.force_cases import make_force_batch
from tests.oracles import autograd_loops, dense, extended_precision
from torchlpr import AtomBatch, InputError, Objective, Rigidity
from torchlpr.curvature import MatrixFreeSettings, atomic_gradients, build, training_rows

OBJECTIVE = Objective(mu=1e-2, energy_weight=2.0, force_weight=0.3)
SHAPES = ["row", "parameter", "matrix-free"]
FINE = MatrixFreeSettings(tolerance=1e-11)
CHOICES = {"mlp bias silu two species": ["all", "last-layer", "networks.?.2.*"],
           "linear two species": ["all"], "kernel two species": ["all"]}  # fmt: skip
CASES = [(name, choice) for name, choices in CHOICES.items() for choice in choices]


def partly(batch: AtomBatch, without: list[int]) -> AtomBatch:
    """Some structures lose their forces."""
    gone = torch.isin(batch.structure, torch.tensor(without)).unsqueeze(1)
    return replace(batch, forces=torch.where(gone, torch.nan, batch.forces))


@pytest.mark.parametrize("before", SHAPES)
@pytest.mark.parametrize(("name", "parameters"), CASES)
def test_equals_the_one_built_anew(name: str, parameters: str, before: str, tmp_path: Path) -> None:
    types, build_model = MODELS[name]
    model, train = build_model(), partly(make_force_batch(6, types), [1, 4])
    test = make_batch(3, types, seed=5)
    whole = Rigidity(model, train, OBJECTIVE, before, matrix_free=FINE)
    whole.save(tmp_path / "whole.pt")
    for source in (whole, Rigidity.load(tmp_path / "whole.pt")):
        for after in ("auto", *SHAPES):
            if before == "parameter" and after in ("row", "matrix-free"):
                continue
            found = source.recast(after, parameters)
            expected = Rigidity(model, train, OBJECTIVE, "parameter", parameters).atoms(test)
            rtol = 1e-6 if found.factor.shape_name == "matrix-free" else 1e-9
            torch.testing.assert_close(found.atoms(test), expected, rtol=rtol, atol=0)
            assert found.factor.n_rows == OBJECTIVE.n_rows(train)
            assert found.factor.n_parameters == len(found.subset)
            if after != "auto":
                assert found.reason == f"{found.factor.shape_name}, as asked"
            found.save(tmp_path / "found.pt")
            again = Rigidity.load(tmp_path / "found.pt")
            assert torch.equal(again.local(test), found.local(test))


@pytest.mark.parametrize("ratio", [1e-4, 1e-8, 1e-12])
@pytest.mark.parametrize("before", ["row", "parameter"])
def test_digits_of_a_cut(before: str, ratio: float) -> None:
    """Against 80 digits, down to small mu, where rows are fewer and more than the weights left."""
    types, build_model = MODELS["mlp bias silu two species"]
    for structures in (5, 60):
        model, train = build_model(), make_batch(structures, types)
        test = make_batch(3, types, seed=5)
        rows = training_rows(model, train, Objective(mu=1.0)).numpy()
        objective = Objective(mu=ratio * float(np.linalg.norm(rows, 2)) ** 2)
        whole = Rigidity(model, train, objective, before)
        for parameters in ("last-layer", "networks.?.0.*"):
            cut = whole.recast("auto", parameters)
            columns = cut.subset.indices.numpy()
            gradients = atomic_gradients(model, test.features, test.types, cut.subset).numpy()
            exact = extended_precision.prediction_rigidity(
                rows[:, columns], gradients, objective.mu
            )
            np.testing.assert_allclose(cut.local(test), exact, rtol=1e-9)


def test_a_cut_of_a_cut_and_dense_rows() -> None:
    types, build_model = MODELS["mlp bias silu two species"]
    model, train, test = build_model(), make_batch(6, types), make_batch(3, types, seed=5)
    objective = Objective(mu=0.1)
    whole = Rigidity(model, train, objective, "row")
    half = whole.recast(parameters=["networks.*.2.*", "networks.*.4.*"])
    last = half.recast(parameters="last-layer")
    same = Rigidity(model, train, objective, parameters="last-layer")
    torch.testing.assert_close(last.atoms(test), same.atoms(test), rtol=1e-10, atol=0)
    free = whole.recast("matrix-free")  # of rows that are stored
    back = free.recast("row", "last-layer")
    torch.testing.assert_close(back.atoms(test), same.atoms(test), rtol=1e-10, atol=0)
    with pytest.raises(InputError, match=r"of these \d+ weights are not among the 6 that this"):
        last.recast(parameters="all")


def test_nothing_to_do_changes_nothing() -> None:
    types, build_model = MODELS["mlp"]
    model, train = build_model(), make_batch(6, types)
    for shape in SHAPES:
        whole = Rigidity(model, train, Objective(mu=0.1), shape)
        for asked in ("auto", shape):
            found = whole.recast(asked)
            assert found.factor is whole.factor
            assert found.reason == whole.reason


def test_what_auto_says() -> None:
    types, build_model = MODELS["mlp bias silu two species"]
    model, train = build_model(), make_batch(8, types)
    whole = Rigidity(model, train, Objective(mu=0.1))
    assert whole.factor.shape_name == "row space"
    found = whole.recast(parameters="last-layer")
    assert found.reason.startswith(
        "parameter space, 8 rows, 6 parameters: the P x P triangle is the smaller one (at least"
    )
    assert whole.recast(parameters="networks.*.0.*").reason.startswith("row space, 8 rows, 40 par")
    cut = Rigidity(model, train, Objective(mu=0.1), "parameter").recast(parameters="last-layer")
    assert cut.reason == "parameter space, cut from the triangle that is kept"


def test_what_is_refused() -> None:
    types, build_model = MODELS["mlp"]
    model, train = build_model(), make_batch(6, types)
    rigidity = Rigidity(model, train, Objective(mu=0.1), "parameter")
    for shape in ("row", "matrix-free"):
        with pytest.raises(InputError, match=f"shape='{shape}' needs the rows, of which .* anew"):
            rigidity.recast(shape)
    with pytest.raises(InputError, match="shape 'rwo' is unknown; use one of"):
        rigidity.recast("rwo")
    with pytest.raises(InputError, match="shape='column' where columns are shared among ranks"):
        Rigidity(model, train, Objective(mu=0.1), "row").recast("column")
    with pytest.raises(InputError, match="no parameter is called 'last'"):
        rigidity.recast(parameters="last")


def test_a_mu_for_each_weight_is_cut_too() -> None:
    """Factors are made of it by hand; the dense definition has the last word."""
    types, build_model = MODELS["mlp bias tanh"]
    model, train, test = build_model(), make_batch(6, types), make_batch(3, types, seed=5)
    rows = training_rows(model, train, Objective(mu=1.0))
    mu = torch.logspace(-3, 1, rows.shape[1], dtype=torch.float64)
    for shape in ("row", "parameter"):
        rigidity = Rigidity(model, train, Objective(mu=1.0), shape)
        rigidity.factor = build(rows, mu, shape)
        found = rigidity.recast("auto", ["networks.0.2.*", "networks.0.4.*"])
        chosen = found.subset.indices
        gradients = autograd_loops.atomic_gradients(model, test.features, test.types).detach()
        expected = dense.prediction_rigidity(rows[:, chosen], gradients[:, chosen], mu[chosen])
        np.testing.assert_allclose(found.local(test), expected, rtol=1e-9)
