import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from torchlpr import InputError, fit
from torchlpr.descriptors.scalar import ScalarFunctions
from torchlpr.studies import StudyReport, run_study
from torchlpr.studies import spline as module
from torchlpr.studies.registry import read_settings
from torchlpr.studies.spline import Settings, spline_claims, spline_fit
from torchlpr.studies.spline_data import KNOTS, spline

CONFIG = Path(__file__).parents[2] / "examples" / "spline" / "config.yaml"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[Path, StudyReport]:
    folder = tmp_path_factory.mktemp("spline")
    return folder, run_study("spline", folder, CONFIG, quick=True)


@pytest.mark.xdist_group("spline")
def test_every_claim_holds(run) -> None:
    assert run[1].holds, str(run[1])
    assert len(run[1].claims) == 4
    files = {path.name for path in run[0].iterdir()}
    tables = {"spline.csv", "curves.csv", "summary.json"}
    assert files == {"panels.png", "convergence.png"} | tables


@pytest.mark.xdist_group("spline")
def test_the_tables_are_those_of_the_claims(run) -> None:
    with (run[0] / "spline.csv").open() as file:
        rows = {int(row["size"]): row for row in csv.DictReader(file)}
    assert [*rows] == [1, 2, 5, 10, 20, 50, 100]
    assert float(rows[1]["lpr_median"]) > 0.5  # robust, and wrong: a constant
    rise = float(rows[100]["lpr_median"]) / float(rows[2]["lpr_median"])
    assert run[1].claims[3].value == pytest.approx(rise, rel=1e-12)
    with (run[0] / "curves.csv").open() as file:
        curves = np.array(list(csv.reader(file))[1:], dtype=float)
    for size, row in rows.items():
        x, f, network, lpr = curves[curves[:, 0] == size, 1:].T
        assert x[[0, -1]].tolist() == [0, 6]
        error = np.sqrt(np.mean(np.square(network - f)))
        assert float(row["rmse_f"]) == pytest.approx(error, rel=1e-12)
        assert float(row["lpr_median"]) == pytest.approx(np.median(lpr), rel=1e-12)


def test_the_claims_can_fail() -> None:
    lazy = Settings(steps=1, newton_steps=0)
    fits = [spline_fit(size, 0, lazy) for size in (2, 50, 100)]
    holds = {claim.text: claim.holds for claim in spline_claims(fits)}
    assert len(holds) == 4
    assert not holds["N <= 2: RMSE of the training sums under 1e-3"]
    assert not holds["N >= 50: RMSE of f under 0.02 of its spread"]


@pytest.mark.parametrize("sizes", [[5], [10, 5, 20]])
def test_claims_need_their_sizes(tmp_path, sizes) -> None:
    settings = Settings(sizes=sizes, steps=1, newton_steps=0)
    report = module.run(settings, tmp_path, True)
    assert len(report.claims) == 0
    assert (tmp_path / "panels.png").stat().st_size > 1000


def test_the_config_is_the_default() -> None:
    assert read_settings(Settings, CONFIG) == Settings()


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
    spline_fit(3, 0, Settings(l2=1e-3))
    model, batch = seen[0]
    sums = model(batch.features, batch.types).reshape(3, 5).sum(dim=1)
    squares = sum(p.square().sum() for p in model.parameters())
    loss = ((sums - batch.labels()) / 5).square().mean() + 1e-3 * squares
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss, [*model.parameters()])])
    # a penalty wrong by a factor 3, the number of sums, would leave two thirds
    assert gradient.norm() < 5e-3 * 2e-3 * squares.sqrt()


def test_a_single_sum_is_learned_by_a_constant() -> None:
    settings = Settings(steps=400)
    one, two = spline_fit(1, 3, settings), spline_fit(1, 3, settings)
    assert torch.equal(one.prediction, two.prediction)
    assert one.stationarity.is_minimum
    # a constant network: 5 f = sum, shrunk by the penalty only
    assert float(one.prediction.std()) < 1e-6
    assert one.train_rmse < 1e-5
    with pytest.raises(InputError, match="sizes, seeds and terms"):
        Settings(sizes=[0])
