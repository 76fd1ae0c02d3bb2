"""What holds for every command: help with an example that parses, JSON, exit codes."""

import json
import re
import shlex
from pathlib import Path

import pytest

import torchlpr.studies
from torchlpr.cli.commands import COMMANDS
from torchlpr.cli.main import command_line, main
from torchlpr.pipeline import demo
from torchlpr.studies.report import Claim, StudyReport


def help_of(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_the_example_of_the_help_parses(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = help_of(name, capsys)
    example = shown[shown.index("\nexample:\n") :].splitlines()
    line, empty, *effect = example[2:]
    assert line.startswith(f"    torchlpr {name} "), line
    assert not empty
    assert " ".join(effect).strip().endswith(".")
    settings = command_line().parse_args([*shlex.split(line)[1:], "--json"])
    assert settings.subcommand == name
    assert settings[name].json


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_explained(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = re.sub(r"\s+", " ", help_of(name, capsys).split("options:")[1])
    for option in re.findall(r" (--[a-z]\w*) ", text.split("example:")[0]):
        after = text.split(f" {option} ", 1)[1]
        words = re.split(r" --[a-z]", after)[0]
        assert len(words.split()) > 2, f"{name} {option} has no help"


@pytest.mark.parametrize("name", COMMANDS)
def test_an_interrupted_command_returns_130(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = help_of(name, capsys)
    line = shown[shown.index("\nexample:\n") :].splitlines()[2]

    def interrupt(settings: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(COMMANDS[name], "run", staticmethod(interrupt))
    assert main(shlex.split(line)[1:]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_the_exit_codes_are_documented(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    listed = capsys.readouterr().out.split("exit codes:\n")[1]
    assert re.findall(r"^  (\d+) ", listed, re.MULTILINE) == ["0", "1", "2", "130"]


@pytest.mark.parametrize("holds", [True, False])
def test_the_verdict_of_a_study_is_its_exit_code(
    holds: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    claims = (Claim("one is one", 1.0, True), Claim("two is one", 2.0, holds))
    report = StudyReport("sums", "two numbers", claims, tmp_path)
    monkeypatch.setattr(torchlpr.studies, "run_study", lambda *_: report)
    for line, read in ((["study", "sums", "--json"], json.loads), (["study", "sums"], str)):
        if holds:
            assert main(line) == 0
        else:
            with pytest.raises(SystemExit) as caught:
                main(line)
            assert caught.value.code == 1
        shown = read(capsys.readouterr().out)
        assert "two is one" in str(shown)
        assert str(tmp_path) in str(shown)
        if isinstance(shown, dict):
            report.save()
            saved = json.loads((tmp_path / "summary.json").read_text())
            assert shown == saved | {"folder": str(tmp_path)}
            assert shown["holds"] == holds


def test_json_of_the_demo(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = demo.DemoReport([], 1.5, "there")
    monkeypatch.setattr(demo, "demo_run", lambda out, seed: report)
    assert main(["demo", "--out", "there", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"seconds": 1.5, "folder": "there"}
