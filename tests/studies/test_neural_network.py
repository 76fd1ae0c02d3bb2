import csv
import os
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from hypothesis import given
from hypothesis import strategies as st

from tests.cases import ONE, TWO, make_batch, mlp, ridges, seeds, theorem
from tests.training import dense
from torchlpr import BehlerParrinelloMLP, InputError, Objective, Rigidity
from torchlpr.studies import run_study
from torchlpr.studies.carbon_data import density, film_density, slab_heights
from torchlpr.studies.deep_linear import as_ridge, metric, ridge_rigidity
from torchlpr.studies.network_variants import CONVERGED, EARLY, LINEAR
from torchlpr.studies.neural_network import Settings, low_density_film
from torchlpr.studies.registry import read_settings

CONFIG = Path(__file__).parents[2] / "examples/neural_network/config.yaml"
needs_data = pytest.mark.skipif(
    not (Path(os.environ.get("TORCHLPR_DATA", ".")) / "carbon_pbe/carbon_pbe.xyz").is_file(),
    reason="TORCHLPR_DATA does not name a folder with carbon_pbe/carbon_pbe.xyz",
)
HIDDEN = [(), (3,), (4, 3), (2, 5, 3)]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("network")
    return folder, run_study("neural_network", folder, CONFIG, quick=True)


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


@needs_data
@pytest.mark.slow
@pytest.mark.xdist_group("network study")
def test_every_claim_holds(run) -> None:
    assert run[1].holds, str(run[1])
    assert {"variance.png", "film.png", "atoms.json.gz"} <= {p.name for p in run[0].iterdir()}


@needs_data
@pytest.mark.slow
@pytest.mark.xdist_group("network study")
def test_tables(run) -> None:
    results = {row["variant"]: row for row in table(run[0] / "results.csv")}
    atoms = table(run[0] / "atoms.csv")
    assert list(results) == [CONVERGED, EARLY, LINEAR, "sparse kernel"]
    assert len(atoms) == 216
    for name in (CONVERGED, EARLY, LINEAR):
        lpr, variance = (
            np.array([float(row[f"{name} {what}"]) for row in atoms])
            for what in ("LPR", "subsampled variance")
        )
        ranks = [np.argsort(np.argsort(x)) for x in (lpr, variance)]
        rank = np.corrcoef(ranks)[0, 1]
        assert float(results[name]["Spearman, subsampled"]) == pytest.approx(rank, abs=0.006)
        slope = np.polyfit(np.log(lpr), np.log(variance), 1)[0]
        assert float(results[name]["slope, subsampled"]) == pytest.approx(slope, abs=0.006)
        # T1: mu/|g|^2 is the least that the regulariser alone gives
        assert all(0 < float(row[f"{name} mu-fraction"]) <= 1 for row in atoms)


def test_without_the_data(monkeypatch, tmp_path) -> None:
    monkeypatch.delenv("TORCHLPR_DATA", raising=False)
    with pytest.raises(InputError, match="set TORCHLPR_DATA to the folder that holds carbon_pbe"):
        run_study("neural_network", tmp_path)


def test_the_config_is_the_default() -> None:
    assert read_settings(Settings, CONFIG) == Settings()


def definition(layers: list[np.ndarray], x: np.ndarray, rows: np.ndarray, mu: float) -> np.ndarray:
    """LPR of each row of x by derivatives of a product of matrices, and one dense inverse."""

    def gradient(v: np.ndarray) -> np.ndarray:
        parts = []
        for number in range(len(layers)):
            below, above = v, np.ones((1, 1))
            for weight in layers[:number]:
                below = weight @ below
            for weight in layers[:number:-1]:
                above = above @ weight
            parts.append(np.outer(above[0], below).ravel())
        return np.concatenate(parts)

    r, g = (np.array([gradient(v) for v in part]) for part in (rows, x))
    inverse = np.linalg.inv(r.T @ r + mu * np.eye(r.shape[1]))
    return 1 / np.einsum("kp,pq,kq->k", g, inverse, g)


@theorem
@given(seed=seeds, hidden=st.sampled_from(HIDDEN), mu=ridges)
def test_a_linear_network_is_ridge_regression(seed, hidden, mu) -> None:
    model = BehlerParrinelloMLP(4, ONE, hidden, "linear", seed=seed % 1000)
    train, atoms = make_batch(5, seed=seed % 1000), make_batch(3, seed=seed % 999 + 1)
    layers = [p.detach().numpy() for p in model.parameters()]
    x = train.features.numpy()
    rows = np.array([x[train.structure == a].mean(0) for a in range(5)])
    expected = definition(layers, atoms.features.numpy(), rows, mu)
    found = ridge_rigidity(model, train, Objective(mu), atoms)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    network = Rigidity(model, train, Objective(mu)).local(atoms)
    np.testing.assert_allclose(network, expected, rtol=1e-9)


@pytest.mark.parametrize("hidden", HIDDEN)
def test_the_metric_is_that_of_derivatives(hidden) -> None:
    model = BehlerParrinelloMLP(4, ONE, hidden, "linear", seed=3)
    batch = make_batch(4, atoms=1)
    g = dense.rows(model, batch, Objective(1.0))
    x = batch.features.numpy()
    np.testing.assert_allclose(x @ metric(model).numpy() @ x.T, g @ g.T, rtol=1e-12)
    features = as_ridge(model, batch).features.numpy()
    np.testing.assert_allclose(features @ features.T, g @ g.T, rtol=1e-11, atol=1e-13)
    if hidden == (4, 3):
        w1, w2, w3 = (p.detach().numpy() for p in model.parameters())
        last = w3 @ w2
        paper = (last**2).sum() * np.eye(4) + (w3**2).sum() * w1.T @ w1 + w1.T @ w2.T @ w2 @ w1
        np.testing.assert_allclose(metric(model), paper, rtol=1e-12)


@pytest.mark.parametrize("build", [mlp(ONE), mlp(TWO, activation="linear"), mlp(ONE, bias=True)])
def test_other_networks_have_no_such_metric(build) -> None:
    with pytest.raises(InputError, match="only a network of one species with linear activation"):
        metric(build())


def slab(thickness: float, axis: int = 2, shift: float = 0.0, atoms: int = 5) -> Atoms:
    positions = np.full((atoms, 3), 0.5)
    positions[:, axis] = np.linspace(0, thickness, atoms) + shift
    cell = np.full(3, 3.0)
    cell[axis] = 40.0
    frame = Atoms(f"C{atoms}", positions=positions, cell=cell, pbc=True)
    frame.wrap()
    return frame


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("shift", [0.0, 17.0, 35.0])
def test_films(axis, shift) -> None:
    film = slab(10.0, axis, shift)
    height, found = slab_heights(film)
    assert found == axis
    np.testing.assert_allclose(np.diff(np.sort(height)), 2.5, atol=1e-9)
    assert film_density(film) == pytest.approx(density(film) * 4)
    many = [slab(8.0), slab(16.0), slab(12.0), slab(16.5, atoms=3)]
    assert low_density_film(many) is many[1]
