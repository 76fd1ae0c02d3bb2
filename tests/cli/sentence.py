"""What every refusal looks like."""

from collections.abc import Sequence

import pytest

from tests.pipeline.small import torchlpr


def refused(
    capsys: pytest.CaptureFixture[str], line: Sequence[object], words: Sequence[str]
) -> str:
    """Exit code 2, one sentence on stderr that holds all the words; --debug adds the traceback."""
    capsys.readouterr()
    assert torchlpr(*line) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("torchlpr: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    for word in words:
        assert word in err, err
    assert torchlpr(*line, "--debug") == 2
    debug = capsys.readouterr().err
    assert debug.startswith("Traceback (most recent call last)")
    assert debug.endswith("\n" + err)
    return err
