import re
from pathlib import Path

import pytest

import torchlpr

README = Path(__file__).parents[1] / "README.md"


def test_the_quickstart_runs(tmp_path, monkeypatch, capsys):
    code = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    assert len(code) == 1
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(code[0], names)
    structures = torchlpr.read(tmp_path / "test_lpr.xyz")
    assert len(structures) == 10
    assert all((atoms.arrays["lpr"] > 0).all() for atoms in structures)
    loaded = torchlpr.Rigidity.load(tmp_path / "rigidity.pt")
    assert loaded.local(names["new"]).equal(names["lpr"])
    assert "minimum" in capsys.readouterr().out


def test_the_commands_it_names_exist():
    from torchlpr.cli.commands import COMMANDS

    named = set(re.findall(r"`torchlpr (\w+)", README.read_text()))
    assert named == set(COMMANDS)


@pytest.mark.parametrize("target", ["demo", "test"])
def test_the_make_targets_it_names_exist(target):
    assert f"make {target}" in README.read_text()
    assert f"\n{target}:" in (README.parent / "Makefile").read_text()


def test_links_lead_somewhere():
    for link in re.findall(r"\]\(([^)#:]+)\)", README.read_text()):
        assert (README.parent / link).exists(), link
