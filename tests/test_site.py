"""The pages of the site: the tutorial runs, and every example is in the gallery by itself."""

import re
import shlex
from pathlib import Path

import ase.io
import pytest

from torchlpr.cli.commands import COMMANDS
from torchlpr.cli.main import command_line, main

ROOT = Path(__file__).parents[1]
SITE = ROOT / "examples/site"
PAGES = sorted(SITE.glob("*.md"))


def test_the_tutorial_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```(python|console)\n(.*?)```", (SITE / "tutorial.md").read_text(), re.S)
    done = []
    for kind, text in blocks:
        if kind == "python":
            exec(text, {})
            continue
        for line in text.splitlines():
            words = shlex.split(line)
            assert words[0] == "torchlpr"
            assert main(words[1:]) == 0, capsys.readouterr().err
            done.append(words[1])
    assert done == ["fit", "rigidity", "explain", "design", "calibrate", "export"]
    written = ase.io.read("new_lpr.xyz", ":")
    assert all("lpr" in atoms.arrays for atoms in written)
    # what the text says of the weakest atoms
    weakest = min(written, key=lambda atoms: atoms.arrays["lpr"].min())
    assert weakest.arrays["coordination"][weakest.arrays["lpr"].argmin()] != 4


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_on_the_pages_are_understood(page: Path) -> None:
    """Indented or fenced lines that begin with torchlpr parse, whatever files they name."""
    found = re.findall(r"^(?:    |)torchlpr ([a-z]\w* .*)$", page.read_text(), re.M)
    for line in found:
        words = shlex.split(line, comments=True)
        if words[0] in COMMANDS:
            command_line().parse_args(words)


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / link).resolve().is_file(), f"{page.name}: {link}"


def test_every_page_is_in_the_table_of_contents() -> None:
    contents = (SITE / "extensions/home.py").read_text()
    for page in PAGES:
        assert f"examples/site/{page.stem}\n" in contents


def test_every_module_is_in_the_reference() -> None:
    pages = "".join(page.read_text() for page in (SITE / "api").glob("*.rst"))
    here = {path.stem for path in (ROOT / "torchlpr").glob("[a-z]*") if path.name != "py.typed"}
    assert set(re.findall(r"^\.\. api:: torchlpr\.(\w+)$", pages, re.M)) == here - {"cli"}
