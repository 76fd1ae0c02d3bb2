"""Streams of rows: killed by SIGKILL and started again, they end in the same last bit."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.cases import ONE, make_batch, mlp
from tests.curvature import killed_stream
from torchlpr.curvature import Accumulator, accumulate, build, energy_rows, streaming
from torchlpr.errors import InputError
from torchlpr.models import LinearModel
from torchlpr.objective import Objective
from torchlpr.serialization import read_document

SHAPES: list[Any] = ["row", "parameter"]


def assert_same_bits(left: Accumulator, right: Accumulator) -> None:
    for name, tensor in left.state_dict().items():
        assert torch.equal(tensor, right.state_dict()[name]), name


def test_killed_and_resumed(tmp_path: Path) -> None:
    """Half-way through the fifth checkpoint in both shapes, and at any time."""
    plans = [["row", 5], ["parameter", 5], ["row", 0]]
    paths = [tmp_path / str(i) / "rows.pt" for i in range(len(plans))]
    for path in paths:
        path.parent.mkdir()
    words = [[shape, str(path), write] for path, (shape, write) in zip(paths, plans, strict=True)]
    command = [sys.executable, "-W", "ignore", "-m", killed_stream.__name__, json.dumps(words)]
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    root = Path(__file__).parents[2]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, check=True, timeout=300, cwd=root, env=environment
    )
    assert json.loads(done.stdout) == [signal.SIGKILL] * len(plans)
    for (shape, write), path in zip(plans, paths, strict=True):
        finished = read_document(path, "accumulator")["batches"]  # the last one is whole
        if write:
            assert finished == write - 1
            assert len(list(path.parent.iterdir())) == 2  # and the half file lies beside it
        assert 1 <= finished < killed_stream.BATCHES
        resumed = killed_stream.stream(shape, path)
        assert_same_bits(resumed, killed_stream.stream(shape, None))
        assert [file.name for file in path.parent.iterdir()] == ["rows.pt"]
        assert read_document(path, "accumulator")["batches"] == killed_stream.BATCHES


@pytest.mark.parametrize("shape", SHAPES)
def test_a_finished_stream_is_read_back(
    shape: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows.pt"
    whole = killed_stream.stream(shape, path)
    monkeypatch.setattr(streaming, "training_row_chunks", None)  # no row is computed again
    assert_same_bits(killed_stream.stream(shape, path), whole)


@pytest.mark.parametrize("shape", SHAPES)
def test_equals_all_rows_at_once(shape: Any) -> None:
    model, objective = killed_stream.model(), Objective(mu=0.3)
    rows = torch.cat([energy_rows(model, b, objective) for b in killed_stream.batches()])
    streamed = killed_stream.stream(shape, None).factor(0.3).quadratic_form(rows)
    torch.testing.assert_close(
        streamed, build(rows, 0.3).quadratic_form(rows), rtol=1e-10, atol=1e-12
    )


def another(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        next(model.parameters()).add_(1.0)
    return model


def test_a_foreign_checkpoint_is_refused(tmp_path: Path) -> None:
    path, model, objective = tmp_path / "rows.pt", LinearModel(4, [14]), Objective(mu=1.0)
    first, second = make_batch(3, seed=1), make_batch(3, seed=2)
    accumulate(model, [first, second], objective, "row", path)
    accumulate(model, [first, second], Objective(mu=7.0), "row", path)  # mu plays no part
    begun = "begun with another model, objective or order of batches"
    for batches in ([second, first], [first]):
        with pytest.raises(InputError, match=begun):
            accumulate(model, batches, objective, "row", path)
    with pytest.raises(InputError, match=begun):
        accumulate(model, [first, second], Objective(1.0, energy_weight=2.0), "row", path)
    with pytest.raises(InputError, match=begun):
        accumulate(another(model), [first, second], objective, "row", path)
    with pytest.raises(InputError, match="4 parameters in shape 'row', not 4 in 'parameter'"):
        accumulate(model, [first, second], objective, "parameter", path)
    with pytest.raises(InputError, match="no batches"):
        accumulate(model, [], objective, "row")


def test_a_checkpoint_of_another_activation_is_refused(tmp_path: Path) -> None:
    """Weights of the same shapes and numbers, and yet other rows."""
    path, batch, objective = tmp_path / "rows", make_batch(4), Objective(mu=1.0)
    accumulate(mlp(ONE)(), [batch], objective, "row", path)
    with pytest.raises(InputError, match="begun with another model"):
        accumulate(mlp(ONE, activation="tanh")(), [batch], objective, "row", path)
