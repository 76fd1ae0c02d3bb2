"""The search of mu against errors computed one by one."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.cases import MODELS, ONE, make_batch
from tests.force_cases import make_force_batch
from tests.training import dense
from torchlpr import AtomBatch, InputError, LinearModel, Objective
from torchlpr.training import LMSettings, fit
from torchlpr.training.evidence import mu_criteria
from torchlpr.training.grid_search import default_grid, search_mu
from torchlpr.training.leave_one_out import leave_one_out

LM = {"optimizer": "lm", "lm_settings": LMSettings(15, newton_steps=0), "progress": False}


def noisy(structures: int, seed: int) -> AtomBatch:
    """A linear law under noise, so that the best mu lies inside a wide grid."""
    batch = make_batch(structures, ONE, seed, features=6)
    weights = torch.tensor([1.0, -2.0, 0.5, 0.0, 0.0, 0.0]).double()
    totals = (
        torch.zeros(structures).double().index_add(0, batch.structure, batch.features @ weights)
    )
    return AtomBatch(batch.features, batch.types, batch.structure, totals + batch.labels())


def rmse(model: nn.Module, batch: AtomBatch) -> float:
    errors = []
    for a in range(batch.n_structures):
        one = batch.select([a])
        local = model(one.features, one.types).detach().numpy()
        errors.append(local.mean() - one.labels().numpy()[0] / len(local))
    return float(np.sqrt(np.mean(np.square(errors))))


@pytest.mark.parametrize("options", [{}, {"energy_weight": 3.0, "per_atom": False}], ids=str)
def test_the_best_of_a_linear_head(options: dict[str, float]) -> None:
    train, validation, model = noisy(8, seed=1), noisy(40, seed=2), LinearModel(6, ONE)
    grid, objective = [1e-6, 1e-2, 1.0, 1e3, 0.1, 10.0], Objective(mu=77.0, **options)
    search = search_mu(model, train, validation, objective, grid)
    assert search.mus == tuple(sorted(grid, reverse=True))
    r, t = dense.rows(model, train, objective), dense.targets(train, objective)
    errors, train_errors = [], []
    for mu in search.mus:
        trial = LinearModel(6, ONE)
        trial.weight.data = torch.from_numpy(dense.ridge(r, t, mu))
        errors.append(rmse(trial, validation))
        train_errors.append(rmse(trial, train))
    np.testing.assert_allclose(search.rmse_validation, errors, rtol=1e-9)
    np.testing.assert_allclose(search.rmse_train, train_errors, rtol=1e-9)
    best = search.mus[int(np.argmin(errors))]
    assert search.best == best
    assert best not in {1e-6, 1e3}
    assert not search.at_edge
    np.testing.assert_allclose(dense.flat(model), dense.ridge(r, t, best), rtol=1e-9)
    best_loss = dense.loss(model, train, Objective(mu=best, **options))
    assert search.result.loss == pytest.approx(float(best_loss.detach()), rel=1e-12)


def test_the_best_of_a_network_is_kept(tmp_path: Path) -> None:
    types, build = MODELS["mlp"]
    train, validation, grid = make_batch(9, types, 1), make_batch(20, types, 2), [1e-3, 0.3, 1e-1]
    model, trials = build(), {mu: build() for mu in grid}
    search = search_mu(model, train, validation, Objective(mu=5.0), grid, out=tmp_path, **LM)
    for mu, trial in trials.items():
        fit(trial, train, Objective(mu=mu), **LM)
    errors = {mu: rmse(trial, validation) for mu, trial in trials.items()}
    np.testing.assert_allclose(search.rmse_validation, [errors[mu] for mu in search.mus])
    assert search.best == min(errors, key=errors.__getitem__)
    np.testing.assert_array_equal(dense.flat(model), dense.flat(trials[search.best]))
    assert len([*tmp_path.iterdir()]) == 3


def test_close_values_of_mu_do_not_share_a_folder(tmp_path: Path) -> None:
    types, build = MODELS["mlp"]
    parts = make_batch(5, types, 1), make_batch(5, types, 2)
    grid = [1.01e-2, 1.02e-2]
    search = search_mu(build(), *parts, Objective(mu=1.0), grid, out=tmp_path, **LM)
    assert search.mus == (1.02e-2, 1.01e-2)


def test_ties_go_to_the_larger_mu() -> None:
    """Without a signal in validation, all weights predict its zeros equally well."""
    train = make_batch(6)
    blank = AtomBatch(torch.zeros(2, 4).double(), torch.tensor([14, 14]), torch.arange(2))
    validation = AtomBatch(blank.features, blank.types, blank.structure, torch.ones(2).double())
    search = search_mu(LinearModel(4, ONE), train, validation, Objective(mu=1.0), [1e-4, 1.0, 1e-2])
    assert search.rmse_validation == (1.0, 1.0, 1.0)
    assert search.best == 1.0
    assert search.at_edge
    alone = search_mu(LinearModel(4, ONE), train, validation, Objective(mu=1.0), [0.5])
    assert not alone.at_edge


def test_the_default_grid_follows_the_features() -> None:
    model, batch = LinearModel(4, ONE), make_batch(10)
    r = dense.rows(model, batch, Objective(mu=1.0))
    largest = np.linalg.eigvalsh(r.T @ r)[-1]
    expected = largest * 10.0 ** -np.arange(1, 15)
    np.testing.assert_allclose(default_grid(model, batch, Objective(mu=9.0)), expected, rtol=1e-12)
    assert default_grid(MODELS["mlp"][1](), batch, Objective(mu=9.0)) == (1e-3, 1e-4, 1e-5, 1e-6)


@pytest.mark.parametrize("name", ["linear", "mlp"])
@pytest.mark.parametrize("wrong", [-1.0, 0.0, float("nan")])
def test_values_that_are_no_mu(name: str, wrong: float) -> None:
    model = MODELS[name][1]()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(InputError, match="mu must be a positive number"):
        search_mu(model, make_batch(3), make_batch(3, seed=1), Objective(mu=1.0), [1.0, wrong])
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_nothing_to_validate_on() -> None:
    with pytest.raises(InputError, match="validation set is empty"):
        search_mu(LinearModel(4, ONE), make_batch(3), make_batch(3).select([]), Objective(mu=1.0))


def test_only_the_best_is_followed_to_its_minimum(tmp_path: Path) -> None:
    types, build = MODELS["mlp"]
    parts, model = (make_batch(9, types, 1), make_batch(20, types, 2)), build()
    settings = LMSettings(steps=3, newton_steps=50)
    options = {"optimizer": "lm", "lm_settings": settings, "progress": False}
    search = search_mu(model, *parts, Objective(mu=5.0), [1e-3, 1e-1], out=tmp_path, **options)
    assert search.result.stationarity.is_minimum
    assert search.result.stationarity.relative_gradient <= settings.tolerance
    assert {row[1] for row in search.result.steps} == {0, 1}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["minimum", "mu-0.001", "mu-0.1"]
    assert search.result.loss == pytest.approx(
        float(dense.loss(model, parts[0], Objective(mu=search.best)).detach())
    )


@pytest.mark.parametrize("name", ["linear", "mlp"])
def test_values_of_mu_as_an_array(name: str, tmp_path: Path) -> None:
    batch, objective = make_batch(6), Objective(mu=1.0)
    options = {**LM, "out": tmp_path}
    searches = [
        search_mu(MODELS[name][1](), batch, batch, objective, mus, **options)
        for mus in (np.logspace(-3, -2, 2), [1e-3, 1e-2])
    ]
    assert searches[0].mus == searches[1].mus == (1e-2, 1e-3)
    assert searches[0].rmse_validation == searches[1].rmse_validation
    folders = sorted(path.name for path in tmp_path.iterdir())
    assert folders == ([] if name == "linear" else ["mu-0.001", "mu-0.01"])


@pytest.mark.parametrize("name", ["linear", "kernel", "mlp"])
@pytest.mark.parametrize("rule", ["leave-one-out", "evidence"])
def test_rules_without_a_validation_set(rule: str, name: str) -> None:
    """Against what each model trained at its own mu says."""
    types, build = MODELS[name]
    train, grid = make_batch(9, types, 1), [10.0, 0.3, 1e-2]
    options = LM if name == "mlp" else {}
    model = build()
    search = search_mu(model, train, None, Objective(mu=5.0), grid, rule=rule, **options)
    scores = []
    for mu in grid:
        trial = build()
        fit(trial, train, Objective(mu=mu), **options)
        found = mu_criteria(trial, train, Objective(mu=mu))
        errors, evidence = float(found.rmse_leave_one_out[0]), float(found.log_evidence[0])
        scores.append(-errors if rule == "leave-one-out" else evidence)
        k = search.mus.index(mu)
        assert float(search.criteria.rmse_leave_one_out[k]) == pytest.approx(errors, rel=1e-9)
        assert float(search.criteria.log_evidence[k]) == pytest.approx(evidence, rel=1e-9)
        if name == "mlp":
            np.testing.assert_array_equal(dense.flat(search.models[k]), dense.flat(trial))
    assert search.best == grid[int(np.argmax(scores))]
    assert search.rule == rule
    assert search.rmse_validation is None
    assert len(search.models) == (3 if name == "mlp" else 0)
    validated = search_mu(build(), train, train, Objective(mu=5.0), grid, rule=rule, **options)
    assert validated.best == search.best
    assert validated.rmse_validation == validated.rmse_train


def test_evidence_of_weights_that_are_not_at_a_minimum() -> None:
    """Unsettled is where the loss of the linearised model lies below that of the network."""
    types, build = MODELS["mlp"]
    train, grid = make_batch(9, types, 1), [1.0, 0.1, 1e-3]
    for steps, expected in ((300, 0), (1, 1)):
        options = LM | {"lm_settings": LMSettings(steps, newton_steps=0)}
        search = search_mu(
            build(), train, None, Objective(mu=1.0), grid, rule="evidence", **options
        )
        changes = []
        for mu, model, noise in zip(
            search.mus, search.models, search.criteria.noise.tolist(), strict=True
        ):
            loss = float(dense.loss(model, train, Objective(mu=mu)).detach())
            changes.append(9 / 2 * (1 - 9 * noise**2 / (2 * loss)))
        unsettled = [mu for mu, nats in zip(search.mus, changes, strict=True) if nats > 1]
        assert search.unsettled == tuple(unsettled)
        assert len(unsettled) >= expected
        assert bool(unsettled) == bool(expected)


def test_forces_count_where_structures_are_left_out() -> None:
    train, objective = make_force_batch(5), Objective(mu=1.0, force_weight=3.0)
    grid = [1e4, 1e2, 1.0, 1e-2]
    search = search_mu(MODELS["linear"][1](), train, None, objective, grid, rule="leave-one-out")
    losses = []
    for mu in search.mus:
        found = leave_one_out(MODELS["linear"][1](), train, objective, [mu])
        assert float(found.squares.sum()) > float(found.errors.square().sum())
        losses.append(float(found.squares.mean()))
    assert search.best == search.mus[int(np.argmin(losses))]


@pytest.mark.parametrize("rule", ["minimum", "one-standard-error"])
def test_rules_that_need_a_validation_set(rule: str) -> None:
    batch = make_batch(6)
    with pytest.raises(InputError, match=f"rule '{rule}' compares validation errors, but"):
        search_mu(MODELS["linear"][1](), batch, None, Objective(mu=1.0), rule=rule)


def test_rules_that_cannot_judge() -> None:
    batch, objective = make_batch(6), Objective(mu=1.0)
    with pytest.raises(InputError, match="rule 'smallest' is unknown; use one of minimum, one-s"):
        search_mu(MODELS["linear"][1](), batch, None, objective, rule="smallest")
    one = batch.select([0])
    with pytest.raises(InputError, match="needs two training structures at least, not 1"):
        search_mu(MODELS["linear"][1](), one, None, objective, rule="leave-one-out")
    batch.labels().zero_()
    with pytest.raises(InputError, match="the evidence has no maximum"):
        search_mu(MODELS["linear"][1](), batch, None, objective, rule="evidence")


def test_no_value_of_mu() -> None:
    batch = make_batch(6)
    with pytest.raises(InputError, match="grid of mu is empty; give at least one value"):
        search_mu(MODELS["linear"][1](), batch, batch, Objective(mu=1.0), [])
