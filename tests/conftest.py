"""What every test may ask for."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of the real data sets; tests that need them are skipped where it is absent."""
    default = Path(__file__).parents[1] / ".." / "shared" / "data"
    folder = Path(os.environ.get("TORCHLPR_DATA", default)).resolve()
    if not folder.is_dir():
        pytest.skip("no real data: set TORCHLPR_DATA to the folder of the data sets")
    return folder
