"""Memory: what is predicted bounds what a process of its own takes, within 25 per cent."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.potentials import peak_memory


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="the peak of a process is read from Linux"
)
def test_prediction_bounds_the_peak() -> None:
    command = [sys.executable, "-W", "ignore", "-m", peak_memory.__name__]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=600, cwd=root)
    predicted, measured = json.loads(done.stdout)
    assert measured <= predicted <= 1.25 * measured
