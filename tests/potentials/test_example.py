"""The example of a pretrained potential, in small and with a toy."""

import csv
import importlib.util
import json
from pathlib import Path

import pytest

from tests.potentials.toy import Messages, cells

pytest.importorskip("matplotlib")
SCRIPT = Path(__file__).parents[2] / "examples" / "pretrained" / "pretrained.py"


def test_all_weights_and_the_last_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("pretrained", SCRIPT)
    assert spec
    assert spec.loader
    pretrained = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pretrained)
    groups = {"alloys": cells(4, seed=2), "silicon": cells(3, ["Si"], seed=3)}
    monkeypatch.setattr(pretrained, "structures", lambda data: (cells(6), groups))
    monkeypatch.setattr(pretrained, "SevenNetPotential", lambda name: Messages())
    summary = pretrained.main(["no folder", "--out", str(tmp_path), "--threads", "1"])
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    # the kernel counts the two in different ways
    assert summary["measured peak"] > 0.99 * summary["memory before"] > 0
    assert (tmp_path / "pretrained.png").stat().st_size > 0
    with (tmp_path / "comparison.csv").open() as file:
        table = list(csv.DictReader(file))
    assert len(table) == 3 * len(pretrained.SHARES)
    assert {row["class"] for row in table} == {"all atoms", *groups}
    assert all(-1 <= float(row["spearman"]) <= 1 for row in table)
    # weights that are frozen are weights that cannot give way
    assert all(float(row["ratio_5"]) >= 1 for row in table)
    with (tmp_path / "rigidity.csv").open() as file:
        assert len(list(csv.DictReader(file))) == summary["atoms evaluated"] == 20
