"""Bars appear for long work on a terminal, and nowhere else."""

import io
import sys

import pytest

from torchlpr import bars


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(
    monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, show: bool | None, delay: float
) -> str:
    monkeypatch.setattr(bars, "DELAY", delay)
    monkeypatch.setattr(sys, "stderr", stream)
    with bars.bar(3, "some work", "step", show) as bar:
        for _ in range(3):
            bar.update()
    return stream.getvalue()


@pytest.mark.parametrize(
    ("stream", "show", "delay", "visible"),
    [
        (Terminal, None, 0.0, True),
        (Terminal, None, 60.0, False),  # done before it would appear
        (io.StringIO, None, 0.0, False),  # a file or a pipe
        (io.StringIO, True, 60.0, True),
        (Terminal, False, 0.0, False),
    ],
)
def test_where_a_bar_is_seen(
    stream: type[io.StringIO],
    show: bool | None,
    delay: float,
    visible: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("RANK", raising=False)
    text = shown(monkeypatch, stream(), show, delay)
    assert ("some work" in text) == visible
    if not visible:
        assert text == ""


@pytest.mark.parametrize(("rank", "visible"), [("0", True), ("1", False)])
def test_the_first_process_alone_shows_it(
    rank: str, visible: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", rank)
    assert ("some work" in shown(monkeypatch, Terminal(), None, 0.0)) == visible
