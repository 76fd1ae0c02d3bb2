from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.pipeline.small import silicon, torchlpr, write_config, write_frames


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Small matrices: threads would only wait for each other on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="package")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of silicon."""
    folder = tmp_path_factory.mktemp("finished")
    train = write_frames(folder / "si.xyz", silicon(10))
    config = write_config(folder / "c.yaml", train, model={"kind": "linear"})
    assert torchlpr("fit", "--config", config, "--out", folder / "run") == 0
    return folder / "run"
