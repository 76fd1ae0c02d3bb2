"""The spline study: its parts by definition, and a small version of it with its own acceptance."""

import csv
import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import yaml

from torchlpr import InputError, fit
from torchlpr.descriptors.scalar import ScalarFunctions
from torchlpr.pipeline import spline as module
from torchlpr.pipeline.spline import KNOTS, SplineSettings, spline, spline_fit

FOLDER = Path(__file__).parents[2] / "examples" / "spline"


@pytest.fixture(scope="module")
def study() -> ModuleType:
    spec = importlib.util.spec_from_file_location("spline_study", FOLDER / "study.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_small_study(study: ModuleType, tmp_path: Path) -> None:
    settings = SplineSettings(sizes=[1, 2, 50, 100], seeds=[0], steps=150, newton_steps=0)
    claims = study.run(tmp_path / "out", settings, progress=False)
    assert len(claims) == 4
    assert all(claims.values()), claims
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {"panels.png", "convergence.png", "spline.csv", "curves.csv"}
    with (tmp_path / "out" / "spline.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["size"]) for row in rows] == [1, 2, 50, 100]
    assert float(rows[0]["lpr_median"]) > 0.5  # robust, and wrong: a constant
    with (tmp_path / "out" / "curves.csv").open() as file:
        curve = [row for row in csv.DictReader(file) if row["size"] == "50"]
    error = [float(row["network"]) - float(row["f"]) for row in curve]
    assert float(rows[2]["rmse_f"]) == pytest.approx(np.sqrt(np.mean(np.square(error))), rel=1e-3)


def test_the_claims_can_fail(study: ModuleType) -> None:
    lazy = SplineSettings(steps=1, newton_steps=0)
    claims = study.acceptance([spline_fit(size, 0, lazy) for size in (2, 50, 100)])
    assert not claims["N <= 2: RMSE of the training sums under 1e-3"]
    assert not claims["N >= 50: RMSE of f under 0.02 std f"]
    assert len(study.acceptance([spline_fit(5, 0, lazy)])) == 0


def test_the_config_is_the_default() -> None:
    settings = SplineSettings(**yaml.safe_load((FOLDER / "config.yaml").read_text()))
    assert settings == SplineSettings()


def test_the_spline() -> None:
    """Through the knots, with two continuous derivatives, straight at the ends."""
    assert spline(torch.arange(7.0, dtype=torch.float64)).tolist() == pytest.approx(KNOTS)
    h = 1e-3
    x = torch.arange(0.0, 6 + h / 2, h, dtype=torch.float64)
    second = torch.diff(spline(x), n=2) / h**2
    assert second.diff().abs().max() < 0.05  # 0.001 times a third derivative
    assert second[[0, -1]].abs().max() < 0.05


def test_scalar_functions() -> None:
    encode = ScalarFunctions(0.0, 6.0, 8, 0.6, 7.0)
    x = torch.tensor([[0.5, 2.0], [3.0, 6.0]], dtype=torch.float64)
    batch = encode(x, [1.0, 2.0])
    centres = np.linspace(0, 6, 8)

    def plain(values: np.ndarray) -> np.ndarray:
        gauss = np.exp(-((values[:, None] - centres) ** 2) / (2 * 0.36))
        return gauss * (np.cos(np.pi * values / 7)[:, None] + 1) / 2

    grid = plain(np.linspace(0, 6, 301))
    expected = (plain(x.numpy().ravel()) - grid.mean(0)) / grid.std(0)
    np.testing.assert_allclose(batch.features, expected, rtol=1e-12, atol=1e-13)
    assert batch.structure.tolist() == [0, 0, 1, 1]
    assert batch.labels().tolist() == [1.0, 2.0]
    with pytest.raises(InputError, match=r"numbers from 0.0 to 6.0"):
        encode([[7.0]])
    with pytest.raises(InputError, match="need 0 <= lower < upper < cutoff"):
        ScalarFunctions(0.0, 6.0, 8, 0.6, 5.0)


def test_mu_is_that_of_the_mean_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """The minimum of mean((sum/5)^2) + l2 |w|^2 has no gradient, by autograd on that loss."""
    seen = []

    def keep(model, batch, *rest, **options):
        seen.append((model, batch))
        return fit(model, batch, *rest, **options)

    monkeypatch.setattr(module, "fit", keep)
    spline_fit(3, 0, SplineSettings(l2=1e-3))
    model, batch = seen[0]
    sums = model(batch.features, batch.types).reshape(3, 5).sum(dim=1)
    squares = sum(p.square().sum() for p in model.parameters())
    loss = ((sums - batch.labels()) / 5).square().mean() + 1e-3 * squares
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss, [*model.parameters()])])
    # a penalty wrong by a factor 3, the number of sums, would leave two thirds
    assert gradient.norm() < 5e-3 * 2e-3 * squares.sqrt()


def test_a_single_sum_is_learned_by_a_constant() -> None:
    settings = SplineSettings(steps=400)
    one, two = spline_fit(1, 3, settings), spline_fit(1, 3, settings)
    assert torch.equal(one.prediction, two.prediction)
    assert one.stationarity.is_minimum
    # a constant network: 5 f = sum, shrunk by the penalty only
    assert float(one.prediction.std()) < 1e-6
    assert one.train_rmse < 1e-5
    with pytest.raises(InputError, match="sizes, seeds and terms"):
        SplineSettings(sizes=[0])
