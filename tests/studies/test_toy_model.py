import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from torchlpr.cli.main import main
from torchlpr.errors import InputError
from torchlpr.studies import STUDIES, Claim, StudyReport, run_study
from torchlpr.studies.registry import read_settings
from torchlpr.studies.toy_data import GRID, ToyData, radial_basis
from torchlpr.studies.toy_model import Settings

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[Path, StudyReport]:
    folder = tmp_path_factory.mktemp("toy")
    return folder, run_study("toy_model", folder, EXAMPLES / "toy_model/config.yaml", quick=True)


@pytest.mark.xdist_group("toy")
def test_every_claim_holds(run) -> None:
    assert run[1].holds, str(run[1])
    assert len(run[1].claims) == 10
    summary = json.loads((run[0] / "summary.json").read_text())
    assert summary["holds"]
    assert [c["text"] for c in summary["claims"]] == [c.text for c in run[1].claims]


@pytest.mark.xdist_group("toy")
def test_figures_have_their_numbers_beside_them(run) -> None:
    names = {path.name for path in run[0].glob("*.png")}
    assert names == {"perturbed_linear.png", "perturbed_network.png", "profile.png", "rise.png"}
    with (run[0] / "profile.csv").open() as file:
        table = list(csv.reader(file))
    assert table[0] == ["x", "lpr_mu_1e-06", "lpr_mu_0.0001", "lpr_mu_0.01", "lpr_mu_1"]
    values = np.array(table[1:], dtype=float)
    np.testing.assert_array_equal(values[:, 0], GRID)
    # written out from the definition
    data = ToyData.draw()
    rows = radial_basis(data.x.ravel()).reshape(8, 5, 33).mean(1)
    phi = radial_basis(GRID)
    for column, mu in ((2, 1e-4), (4, 1.0)):
        h = rows.T @ rows + mu * np.eye(33)
        lpr = 1 / np.einsum("kp,kp->k", phi, np.linalg.solve(h, phi.T).T)
        np.testing.assert_allclose(values[:, column], lpr, rtol=1e-8)


@pytest.mark.xdist_group("toy")
def test_the_moved_prediction_is_where_it_was_asked_to_be(run) -> None:
    with (run[0] / "perturbed_linear.csv").open() as file:
        table = np.array(list(csv.reader(file))[1:], dtype=float)
    x = ToyData.draw().x.ravel()[18]
    change = np.interp(x, table[:, 0], table[:, 2] - table[:, 1])
    assert change == pytest.approx(1.19, abs=0.01)  # between points of the grid


def test_a_claim_that_fails_is_said(tmp_path) -> None:
    claims = (Claim("one", 1.0, True), Claim("two", 2.0, False))
    report = StudyReport("name", "data", claims, tmp_path)
    assert not report.holds
    assert "FAILS  two: 2" in str(report)
    assert "holds  one: 1" in str(report)


def test_the_command_fails_where_a_claim_does(monkeypatch, tmp_path, capsys) -> None:
    claims = (Claim("two", 2.0, False),)
    report = StudyReport("toy_model", "data", claims, tmp_path)
    monkeypatch.setattr("torchlpr.studies.toy_model.run", lambda *_: report)
    with pytest.raises(SystemExit, match="1"):
        main(["study", "toy_model", "--out", str(tmp_path)])
    assert "FAILS" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["nothing"],
            f"there is no study 'nothing'; there are {', '.join(STUDIES)}",
        ),
        (["toy_model", "--config", "absent.yaml"], "cannot read the settings in absent.yaml"),
        (["toy_model", "--config", "bad.yaml"], "has ['mo'], which is no setting; there are seed"),
    ],
)
def test_bad_input(words, message, monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.yaml").write_text("mo: 3\n")
    assert main(["study", *words]) == 2
    assert message in capsys.readouterr().err


def test_the_help_names_every_study(capsys) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["study", "--help"])
    assert ", ".join(STUDIES) in " ".join(capsys.readouterr().out.split())


def test_settings_in_the_example_are_the_defaults() -> None:
    found = read_settings(Settings, EXAMPLES / "toy_model/config.yaml")
    assert found == Settings()
    assert read_settings(Settings, None) == Settings()


def test_settings_have_their_types(tmp_path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("mu: 1e-3\nmus: [1, 1e-2]\n")
    found = read_settings(Settings, path)
    assert found == Settings(mu=1e-3, mus=(1.0, 1e-2))
    path.write_text("mus: 3\n")
    with pytest.raises(InputError, match=r'cannot use .*settings.yaml: .*"mus".*: 3'):
        read_settings(Settings, path)


def test_settings_must_be_a_mapping(tmp_path) -> None:
    path = tmp_path / "list.yaml"
    path.write_text("- 1\n")
    with pytest.raises(InputError, match="no setting"):
        read_settings(Settings, path)


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_has_its_folder(name: str) -> None:
    folder = EXAMPLES / name
    assert {f"{name}.py", "config.yaml", "README.md"} <= {p.name for p in folder.iterdir()}
    assert f"torchlpr study {name}" in (folder / "README.md").read_text()
    for figure in folder.glob("*.png"):
        assert figure.name in (folder / "README.md").read_text()
    assert shutil.which("python") is None or compile(
        (folder / f"{name}.py").read_text(), name, "exec"
    )
