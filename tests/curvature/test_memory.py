"""Memory: what is predicted bounds what a process of its own takes, and refusals name remedies."""

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.cases import make_batch, random_tensor
from tests.curvature import peak_memory
from torchlpr import free_memory
from torchlpr.curvature import (
    build,
    choose_shape,
    memory,
    parameter_count,
    predict_memory,
)
from torchlpr.errors import InputError
from torchlpr.models import BehlerParrinelloMLP, LinearModel
from torchlpr.objective import Objective
from torchlpr.rigidity import Rigidity

FIELDS = ("shape", "structures", "features", "atoms", "limit", "sweep")
RUNS = [
    ("row", 500, 1000, 2000, 300_000_000, False),
    ("row", 500, 1000, 1500, 500_000_000, True),
    ("parameter", 2000, 90, 3000, 350_000_000, False),
    ("parameter", 1600, 90, 3000, 350_000_000, True),
]


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="the peak of a process is read from Linux"
)
def test_prediction_bounds_the_peak() -> None:
    """At most 1.5 times what the process takes above data, model and interpreter."""
    runs = [dict(zip(FIELDS, run, strict=True)) for run in RUNS]
    command = [sys.executable, "-W", "ignore", "-m", peak_memory.__name__, json.dumps(runs)]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=600, cwd=root)
    for run, measured in zip(RUNS, json.loads(done.stdout), strict=True):
        predicted = predicted_peak(*run)
        assert predicted <= run[4], run
        assert measured <= predicted <= 1.5 * measured, run


def predicted_peak(
    shape: memory.ShapeName, structures: int, features: int, atoms: int, limit: int, sweep: bool
) -> int:
    """With the chunks that the limit leads to."""
    p = parameter_count(BehlerParrinelloMLP(features, (14,), (16, 4)))
    chunk = memory.evaluation_chunk(shape, structures, p, limit, 1)
    built = predict_memory(shape, structures, p, atoms, chunk, 1)
    name = memory.NAMES[shape]
    factor = SimpleNamespace(shape_name=name, n_rows=structures, n_parameters=p)
    asked = memory.fitting_chunk(factor, atoms, limit, torch.device("cpu"), sweep, 1)
    used = predict_memory(shape, structures, p, atoms, asked, 1)
    return built.held + max(built.build, used.sweep if sweep else used.evaluate)


@pytest.mark.parametrize("shape", ["row", "parameter"])
def test_prediction_grows_with_every_size(shape: memory.ShapeName) -> None:
    base = {"n_rows": 100, "n_parameters": 400, "n_atoms": 1000, "chunk": 10}
    least = predict_memory(shape, **base)
    for name in base:
        more = predict_memory(shape, **base | {name: 3 * base[name]})
        assert all(a >= b for a, b in zip(more, least, strict=True)), name
        assert more != least or (name, shape) == ("n_rows", "parameter")


def test_chunks_keep_to_the_limit_and_change_nothing() -> None:
    model, train, test = LinearModel(300, [14]), make_batch(40, features=300), make_batch(
        400, seed=1, features=300
    )  # fmt: skip
    free = Rigidity(model, train, Objective(mu=0.1))
    least = predict_memory("row", 40, 300, len(test)).peak
    tight = Rigidity(model, train, Objective(mu=0.1), memory_limit=least + 100_000)
    chunk = memory.fitting_chunk(tight.factor, len(test), tight.memory_limit, torch.device("cpu"))
    assert 1 < chunk < len(test) / 10
    torch.testing.assert_close(tight.atoms(test), free.atoms(test), rtol=1e-12, atol=0)
    torch.testing.assert_close(tight.structures(test), free.structures(test), rtol=1e-12, atol=0)


@pytest.mark.parametrize("copies", [1, 3])
@pytest.mark.parametrize(("p", "rows"), [(10_000, 1000), (1_000_000, 200), (10_000_000, 3)])
def test_long_gradients_go_through_a_factor_together(p: int, rows: int, copies: int) -> None:
    factor = SimpleNamespace(shape_name="row space", n_rows=rows, n_parameters=p)
    device = torch.device("cpu")
    chunk = memory.fitting_chunk(factor, 10**6, 10**12, device, copies=copies)
    held = predict_memory("row", rows, p).held
    few = memory.KEPT_BYTES if copies == 1 else memory.CHUNK_BYTES
    assert chunk == 1 or 8 * p * chunk <= max(few, held / 4)
    if p == 1_000_000:  # each reads the 1.6 GB of the rows, whatever their number
        assert chunk == memory.TOGETHER
    one = predict_memory("row", rows, p, 10**6, 1, copies)
    least = one.held + one.evaluate
    assert memory.fitting_chunk(factor, 10**6, least, device, copies=copies) == 1


def test_the_choice_takes_memory_into_account() -> None:
    shape, reason = choose_shape(1900, 2000)
    assert shape == "row"
    assert "smaller one" in reason
    row, parameter = (predict_memory(s, 1900, 2000).peak for s in ("row", "parameter"))
    shape, reason = choose_shape(1900, 2000, memory_limit=(row + parameter) // 2)
    assert shape == "parameter"
    assert "the only exact one that fits into memory (at least" in reason


def test_nothing_fits() -> None:
    """The remedies that are named are just enough."""
    limit, both = 10_000_000_000, ("row", "parameter")
    with pytest.raises(InputError) as caught:
        memory.fitting_shape(both, 50_000, 60_000, limit)
    text = str(caught.value)
    assert re.search(r"50000 rows of 60000 parameters need [\d.]+ GB in row space and", text)
    assert "more than the memory limit of 10 GB" in text
    structures = int(re.search(r"at most (\d+) structures", text).group(1))
    assert memory.fitting_shape(both, structures, 60_000, limit)[0] == "row"
    assert choose_shape(structures, 60_000, memory_limit=limit)[0] == "row"
    with pytest.raises(InputError):
        memory.fitting_shape(both, structures + 1, 60_000, limit)
    assert choose_shape(structures + 1, 60_000, memory_limit=limit)[0] == "matrix-free"
    assert text.endswith("or raise memory_limit")
    with pytest.raises(InputError, match=r"take at most \d+ parameters"):
        memory.fitting_shape(both, 5000, 60_000, 1_000_000_000)


def test_refused_before_anything_is_allocated() -> None:
    model, train = LinearModel(4, [14]), make_batch(5)
    for shape in ("row", "parameter"):
        with pytest.raises(InputError, match="memory limit of 1 kB"):
            Rigidity(model, train, Objective(mu=1.0), shape, memory_limit=1000)
        with pytest.raises(InputError, match="memory limit"):
            build(random_tensor(0, 5, 4), 1.0, shape, memory_limit=1000)
    with pytest.raises(InputError, match="takes 560 B to iterate and 500 B are to be had"):
        Rigidity(model, train, Objective(mu=1.0), memory_limit=1000)
    with pytest.raises(InputError, match="use shape='row'"):
        memory.fitting_shape(("parameter",), 10, 100_000, 1_000_000_000)
    rigidity = Rigidity(model, train, Objective(mu=1.0))
    rigidity.memory_limit = 1000
    with pytest.raises(InputError, match="ask for fewer atoms"):
        rigidity.local(train)
    for change in (rigidity.add, rigidity.remove):
        with pytest.raises(InputError, match=r"changing 5 of 5 rows needs .* fewer at a time"):
            change(train)
    for bad in (0, -1, True):
        with pytest.raises(InputError, match="positive number of bytes"):
            Rigidity(model, train, Objective(mu=1.0), memory_limit=bad)


@pytest.mark.skipif(not free_memory.MEMINFO.is_file(), reason="/proc/meminfo is Linux")
def test_free_memory_is_that_of_the_machine() -> None:
    total = int(re.search(r"MemTotal: +(\d+)", Path("/proc/meminfo").read_text()).group(1)) * 1024
    assert 0 < free_memory.free_memory() <= total
    assert free_memory.memory_limit() <= 0.75 * total
    assert free_memory.memory_limit(123) == 123


@pytest.mark.parametrize(
    ("line", "folder", "files"),
    [
        ("0::/job/step", "job", ("memory.max", "memory.current", "inactive_file")),
        (
            "4:memory:/job/step",
            "memory/job",
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ),
        ("4:memory:/of/the/host", "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes",
                                             "total_inactive_file")),
    ],
    ids=["version 2", "version 1", "inside a container"],
)  # fmt: skip
def test_control_groups_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, folder: str, files: tuple[str, ...]
) -> None:
    """The limit may be set on a group above that of the process; page cache can be dropped."""
    group = tmp_path / folder
    (group / "step").mkdir(parents=True)
    (group / files[0]).write_text("5000000\n")
    (group / files[1]).write_text("3000000\n")
    (group / "memory.stat").write_text(f"other 7\n{files[2]} 400000\n")
    (tmp_path / "mine").write_text(f"9:cpu:/x\n{line}\n")
    monkeypatch.setattr(free_memory, "GROUP_OF_PROCESS", tmp_path / "mine")
    monkeypatch.setattr(free_memory, "GROUP_ROOT", tmp_path)
    assert free_memory.free_memory() == 2_400_000
    (group / files[0]).write_text("max\n")
    assert free_memory.free_memory() > 2_400_000


@pytest.mark.parametrize(
    ("number", "text"), [(999, "999 B"), (1.5e6, "1.5 MB"), (2e9, "2 GB"), (3.25e12, "3.25 TB")]
)
def test_bytes_for_a_reader(number: float, text: str) -> None:
    assert free_memory.format_bytes(number) == text
