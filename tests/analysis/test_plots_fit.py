"""Parity, residuals and learning curves, read back from their artists."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from torchlpr.analysis.figures import figure, save_figure
from torchlpr.analysis.plots_fit import parity, residuals
from torchlpr.analysis.plots_learning import learning_curve, read_metrics
from torchlpr.errors import InputError

# as Lightning 2.6 writes it, three batches an epoch, LearningRateMonitor("epoch")
METRICS = """\
epoch,lr-Adam,step,train/loss,train/rmse,val/loss,val/rmse
,0.01,0,,,,
0,,2,,,0.16,0.4
0,,2,0.25,0.5,,
,0.009,3,,,,
1,,5,,,0.09,0.3
1,,5,0.16,0.4,,
,0.0081,6,,,,
"""


@pytest.fixture
def sets():
    train = (torch.tensor([-4.0, -3.0, -2.0]), torch.tensor([-4.003, -2.996, -2.0]))
    return {"train": train, "test": (np.array([-3.5]), np.array([-3.4]))}


def labels(legend):
    return [text.get_text() for text in legend.get_texts()]


def test_parity(ax, sets):
    train, test = parity(ax, sets)
    assert_allclose(train.get_offsets(), np.c_[[-4, -3, -2], [-4.003, -2.996, -2]], rtol=1e-6)
    assert_allclose(test.get_offsets(), [[-3.5, -3.4]])
    rmse = 1000 * np.sqrt((0.003**2 + 0.004**2) / 3)
    (text,) = ax.texts
    assert text.get_text() == f"RMSE / (meV/atom)\ntrain: {rmse:.3g}\ntest: 100"
    assert labels(ax.get_legend()) == ["train", "test"]
    assert ax.get_xlim() == ax.get_ylim()
    assert ax.get_aspect() == 1
    (line,) = ax.lines
    assert line.get_slope() == 1
    assert line.get_xy1()[0] == line.get_xy1()[1]


def test_residuals_are_predicted_minus_reference_in_mev(ax, sets):
    train, test = residuals(ax, sets)
    assert_allclose(train.get_offsets()[:, 1], [-3, 4, 0], atol=1e-3)
    assert_allclose(test.get_offsets(), [[-3.5, 100]])
    assert "meV/atom" in ax.get_ylabel()


def test_parity_refuses(ax):
    with pytest.raises(InputError, match="no energies"):
        parity(ax, {})
    with pytest.raises(InputError, match="predicted energies of train"):
        parity(ax, {"train": ([1.0, 2], [1.0])})
    with pytest.raises(InputError, match="index 1"):
        parity(ax, {"train": ([1.0, 2], [1.0, np.nan])})


def test_read_metrics_of_lightning(tmp_path):
    (tmp_path / "metrics.csv").write_text(METRICS)
    series = read_metrics(tmp_path / "metrics.csv")
    assert set(series) == {"lr-Adam", "train/loss", "train/rmse", "val/loss", "val/rmse"}
    assert_allclose(series["val/rmse"], [[0, 1], [0.4, 0.3]])
    # the rate is logged without an epoch, at the start of it
    assert_allclose(series["lr-Adam"], [[0, 1, 2], [0.01, 0.009, 0.0081]])


def test_learning_curve(ax, tmp_path):
    (tmp_path / "metrics.csv").write_text(METRICS)
    lines = {line.get_label(): line for line in learning_curve(ax, tmp_path / "metrics.csv")}
    names = ["train/loss", "train/rmse", "val/loss", "val/rmse", "lr-Adam"]
    assert list(lines) == labels(ax.get_legend()) == names
    assert_allclose(lines["train/rmse"].get_xydata(), [[1, 0.5], [2, 0.4]])
    assert lines["train/rmse"].get_color() == lines["train/loss"].get_color()
    assert lines["train/rmse"].get_color() != lines["val/rmse"].get_color()
    assert lines["train/loss"].get_linestyle() == "--"
    twin = lines["lr-Adam"].axes
    assert twin is not ax
    assert twin.get_ylabel() == "learning rate"
    assert (ax.get_xscale(), ax.get_yscale(), twin.get_yscale()) == ("log",) * 3
    assert ax.get_xlabel() == "epoch"


def test_learning_curve_of_forces(ax):
    epochs = np.arange(3)
    lines = learning_curve(
        ax, {"train rmse": (epochs, [3, 2, 1]), "step length": (epochs, [1, 1, 1])}, "force"
    )
    assert ax.get_ylabel() == "force RMSE / (eV/Å)"
    assert lines[-1].axes.get_ylabel() == "step length"


def test_learning_curve_from_arrays_of_a_diverged_run(ax):
    epochs = np.arange(4)
    (line,) = learning_curve(
        ax, {"val_rmse": (epochs, [1, 0.5, np.nan, np.inf]), "norm": (epochs, epochs)}
    )
    assert_allclose(line.get_xdata(), [1, 2, 3, 4])
    assert len(ax.figure.axes) == 1


def test_learning_curve_refuses(ax, tmp_path):
    with pytest.raises(InputError, match="no file"):
        learning_curve(ax, tmp_path / "absent.csv")
    with pytest.raises(InputError, match="no loss"):
        learning_curve(ax, {"norm": ([1], [2])})
    with pytest.raises(InputError, match="epochs"):
        learning_curve(ax, {"loss": ([1], [2, 3])})
    (tmp_path / "a.csv").write_text("step,loss\n1,2\n")
    with pytest.raises(InputError, match="epoch"):
        learning_curve(ax, tmp_path / "a.csv")


def test_real_silicon_smoke(silicon, tmp_path):
    pytest.importorskip("matplotlib")
    counts = [len(s) for s in silicon.structures]
    rows = torch.stack([part.mean(0) for part in silicon.features.split(counts)]).numpy()
    energies = np.array([s.get_potential_energy() / len(s) for s in silicon.structures])
    centre = energies[:14].mean()
    x = rows - rows[:14].mean(0)
    hessian = x[:14].T @ x[:14] + 1e-5 * np.eye(x.shape[1])
    predicted = centre + x @ np.linalg.solve(hessian, x[:14].T @ (energies[:14] - centre))
    (tmp_path / "metrics.csv").write_text(METRICS)
    sets = {"train": (energies[:14], predicted[:14]), "test": (energies[14:], predicted[14:])}
    fig, axes = figure(1, 3)
    parity(axes[0, 0], sets)
    residuals(axes[0, 1], sets)
    learning_curve(axes[0, 2], tmp_path / "metrics.csv")
    assert save_figure(fig, tmp_path / "fit.png").stat().st_size > 10_000
