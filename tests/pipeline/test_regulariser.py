"""Rigidity over the mu of a search, against rigidities built anew at each."""

from dataclasses import replace

import numpy as np
import pytest

from tests.cases import MODELS, make_batch
from tests.force_cases import make_force_batch
from torchlpr import AtomBatch, Objective, Rigidity
from torchlpr.pipeline import regulariser
from torchlpr.pipeline.regulariser import lpr_quantiles, search_table
from torchlpr.training import LMSettings, fit
from torchlpr.training.grid_search import search_mu

GRID = [1.0, 1e-2, 1e-5]
LM = {"optimizer": "lm", "lm_settings": LMSettings(10, newton_steps=0), "progress": False}


@pytest.mark.parametrize("structures", [4, 40])
@pytest.mark.parametrize("name", ["linear two species", "kernel", "mlp"])
def test_quantiles_are_those_of_each_trained_model(name: str, structures: int) -> None:
    types, build = MODELS[name]
    train, objective, model = make_batch(structures, types, 1), Objective(mu=1.0), build()
    options = LM if name == "mlp" else {}
    search = search_mu(model, train, None, objective, GRID, rule="evidence", **options)
    found = lpr_quantiles(search, model, train, objective)
    for k, mu in enumerate(search.mus):
        trial, own = build(), replace(objective, mu=mu)
        fit(trial, train, own, **options)
        lpr = Rigidity(trial, train, own).local(train).numpy()
        np.testing.assert_allclose(found[k], np.quantile(lpr, [0.05, 0.5, 0.95]), rtol=1e-9)


def test_quantiles_of_some_atoms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 15 atoms evenly spaced, the first and the last among them; and in chunks."""
    monkeypatch.setattr(regulariser, "ATOMS", 15)
    monkeypatch.setattr(regulariser, "chunk_size", lambda _: 4)
    train, objective = make_force_batch(20), Objective(mu=1.0, force_weight=0.3)
    model = MODELS["linear"][1]()
    search = search_mu(model, train, None, objective, GRID, rule="evidence")
    atoms = np.round(np.linspace(0, len(train) - 1, 15)).astype(int)
    assert len(set(atoms)) == 15
    found = lpr_quantiles(search, model, train, objective)
    for k, mu in enumerate(search.mus):
        lpr = Rigidity(model, train, replace(objective, mu=mu)).local(train).numpy()[atoms]
        np.testing.assert_allclose(found[k], np.quantile(lpr, [0.05, 0.5, 0.95]), rtol=1e-9)


def test_the_table_has_what_the_search_found() -> None:
    types, build = MODELS["kernel"]
    parts: list[AtomBatch] = [make_batch(12, types, 1), make_batch(8, types, 2)]
    model, objective = build(), Objective(mu=1.0)
    search = search_mu(model, *parts, objective, GRID)
    table = search_table(search, model, parts[0], objective)
    assert [row["mu"] for row in table] == [1.0, 1e-2, 1e-5]
    assert [row["rmse_validation"] for row in table] == list(search.rmse_validation or ())
    dof = [row["effective_dof"] for row in table]
    assert dof == search.criteria.effective_dof.tolist()
    assert all(row["lpr_5"] < row["lpr_50"] < row["lpr_95"] for row in table)
