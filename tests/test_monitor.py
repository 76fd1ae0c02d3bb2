"""The monitor tells a free offset from one that is held, and predicts what a structure mends."""

import json
import warnings
from pathlib import Path

import pytest
import torch

from torchlpr import AtomBatch, BehlerParrinelloMLP, InvariantPointMonitor, LinearModel, Objective
from torchlpr.errors import InputError
from torchlpr.monitor import MappingReport
from torchlpr.rigidity import Rigidity, offset_rigidity
from torchlpr.training import AdamSettings, fit

ENERGY = torch.tensor([-1.0, 0.5], dtype=torch.float64)
OBJECTIVE = Objective(mu=1e-7)


def structures(*shares: tuple[int, int], noise: float = 0.05) -> AtomBatch:
    """Structures of so many atoms in the one and in the other of two distant environments."""
    generator = torch.Generator().manual_seed(len(shares))
    kind = torch.cat([torch.tensor([0] * a + [1] * b) for a, b in shares])
    owner = torch.repeat_interleave(torch.tensor([a + b for a, b in shares]))
    centres = torch.tensor([[1.0, 0.0, 0.2], [0.0, 1.0, 0.2]], dtype=torch.float64)
    spread = torch.randn(len(kind), 3, generator=generator, dtype=torch.float64)
    energies = torch.zeros(len(shares), dtype=torch.float64).index_add_(0, owner, ENERGY[kind])
    return AtomBatch(centres[kind] + noise * spread, torch.full_like(kind, 14), owner, energies)


FIXED = structures(*[(4, 4)] * 20)
POINTS = structures((4, 0), (0, 2), noise=0.0)


def train(batch: AtomBatch, monitor: InvariantPointMonitor) -> None:
    model = BehlerParrinelloMLP(3, [14], (6,), "tanh", seed=3)
    settings = AdamSettings(epochs=300, lr=0.02)
    fit(model, batch, OBJECTIVE, "adam", settings=settings, progress=False, callbacks=[monitor])


def test_a_fixed_ratio_is_told_and_mended(tmp_path: Path) -> None:
    monitor = InvariantPointMonitor(
        FIXED, POINTS, OBJECTIVE, every=150, path=tmp_path / "log.jsonl"
    )
    with pytest.warns(UserWarning, match=r"ad hoc. Add one structure such as invariant point"):
        train(FIXED, monitor)
    assert [report.epoch for report in monitor.reports] == [150, 300]
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [150, 300]
    last = monitor.reports[-1]
    assert last.ad_hoc
    assert last.rmse < 0.01 < max(map(abs, last.errors)) / 5
    mended = AtomBatch.cat([FIXED, POINTS.select([0])])
    second = InvariantPointMonitor(mended, POINTS, OBJECTIVE, every=1000)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        train(mended, second)
    report = second.reports[-1]
    assert not report.ad_hoc
    assert abs(report.errors[0]) < 0.2 * abs(last.errors[0])
    assert report.offset is not None
    assert last.offset is not None
    assert report.offset > 100 * last.offset
    assert "held by the data" in str(report)


def test_the_predicted_gain_is_what_comes() -> None:
    """For a model linear in its weights, whatever they are."""
    model = LinearModel(3, [14])
    monitor = InvariantPointMonitor(FIXED, POINTS, OBJECTIVE)
    report = monitor.report(model)
    assert monitor.labels is not None
    assert report.offset_floor is not None
    for k in range(2):
        more = AtomBatch.cat([FIXED, POINTS.select([k])])
        labels = torch.cat([monitor.labels, -torch.ones(int(POINTS.counts[k])).long()])
        held = offset_rigidity(Rigidity(model, more, OBJECTIVE), more, labels)
        assert report.gains[k] == pytest.approx(float(held.rigidity[0]), rel=1e-8)
    expected = Rigidity(model, FIXED, OBJECTIVE).total(POINTS)
    torch.testing.assert_close(torch.tensor(report.rigidity), expected.float())


def test_one_cloud_has_no_offset() -> None:
    cloud = structures(*[(8, 0)] * 10, noise=0.3)
    monitor = InvariantPointMonitor(cloud, POINTS, OBJECTIVE)
    report = monitor.report(LinearModel(3, [14]))
    assert monitor.labels is None
    assert report.offset is None
    assert report.gains == []
    assert "clusters" not in str(report)


def test_bad_points_are_refused() -> None:
    with pytest.raises(InputError, match="structure 1 among the invariant points"):
        InvariantPointMonitor(FIXED, structures((2, 0), (1, 1), noise=0.0), OBJECTIVE)
    with pytest.raises(InputError, match="every must be"):
        InvariantPointMonitor(FIXED, POINTS, OBJECTIVE, every=0)
    with pytest.raises(InputError, match="tolerance must be an energy"):
        InvariantPointMonitor(FIXED, POINTS, OBJECTIVE, tolerance=-1.0)
    bare = AtomBatch(POINTS.features, POINTS.types, POINTS.structure)
    with pytest.raises(InputError, match="no energies"):
        InvariantPointMonitor(FIXED, bare, OBJECTIVE)


@pytest.mark.parametrize(
    ("error", "floor", "tolerance", "ad_hoc"),
    [
        (5e-4, 0.1, 1e-3, False),  # far above the RMSE of totals, but nothing to worry about
        (5e-4, 0.1, 0.0, True),
        (-2e-3, 0.1, 1e-3, True),
        (0.0, 0.9, 1e-3, True),  # right by chance
    ],
)
def test_what_counts_as_wrong(error, floor, tolerance, ad_hoc) -> None:
    report = MappingReport(1, 1e-5, [0.0, error], [1.0, 1.0], 1e-4, floor, [1.0, 2.0], tolerance)
    assert report.ad_hoc is ad_hoc
