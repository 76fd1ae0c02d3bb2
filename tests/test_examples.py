from pathlib import Path

import pytest

from torchlpr.cli.main import main

CONFIGS = sorted((Path(__file__).parents[1] / "examples/configs").glob("*.yaml"))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_configs_are_understood(config, tmp_path, capsys):
    # every key is read before the data are: only the structures are missing
    assert main(["fit", "--config", str(config), "--out", str(tmp_path / "run")]) == 2
    assert "does not exist; check the name of the file" in capsys.readouterr().err


def test_there_are_configs():
    assert [path.stem for path in CONFIGS] == [
        "minimal", "realistic", "symmetry_functions", "yoo_adam", "yoo_lbfgs",
    ]  # fmt: skip
