import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.oracles import autograd_loops, dense
from torchlpr.cli.main import main
from torchlpr.pipeline.bench import check, points, run, session
from torchlpr.pipeline.bench.methods import Unavailable
from torchlpr.pipeline.bench.points import Point
from torchlpr.pipeline.bench.problem import MU, Pool, make_problem

pytestmark = pytest.mark.xdist_group("bench")

QUICK = points.quick_plan()
BASE = Point(2, 8, 8, (3, 2), 6)
TINY = replace(
    QUICK,
    soap={"cutoff": 3.0, "max_radial": 1, "max_angular": 1},
    cells=1,
    test_cells=1,
    sweeps=points._sweeps(BASE, structures=(2, 4), hidden=((2, 2), (3, 2))),
    comparisons=(BASE, replace(BASE, hidden=())),
    swept=("torchlpr row", "torch.func row"),
    in_memory=("torchlpr row",),
)
PROBLEMS = {
    "network": Point(1, 1, 1, (1,), 1),
    "linear": Point(1, 1, 1, (), 1),
    "network, float32": Point(1, 1, 1, (1,), 1, dtype="float32"),
}


def words(*arguments: object) -> int:
    return main(["bench", *map(str, arguments)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command itself, quick and tiny: stopped at the fourth measurement, then gone on with."""
    out = tmp_path_factory.mktemp("bench")
    calls = []

    def stopped(*arguments):
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(arguments)
        return measure(*arguments)

    measure = session.measure
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "quick_plan", lambda: TINY)
        patch.setattr(session, "measure", stopped)
        assert words("--quick", "--out", out) == 130
        (out / "results.json").rename(out / "stopped.json")
        (out / "results.json").write_text((out / "stopped.json").read_text())
        patch.setattr(session, "measure", measure)
        assert words("--quick", "--out", out, "--note", "A test.") == 0
    return out


def samples(path: Path) -> dict[tuple[str, str], list[dict[str, float]]]:
    records = json.loads(path.read_text())["records"]
    return {(k, m): r["samples"] for k, ms in records.items() for m, r in ms.items()}


def test_every_point_has_every_method_or_a_reason(folder):
    results = json.loads((folder / "results.json").read_text())
    assert results["finished"]
    assert {"cpu", "cores", "threads", "clock", "devices", "torch"} <= set(results["machine"])
    plan = TINY.on(run.devices())
    assert set(results["points"]) == {point.key for point in plan.points()}
    for point in plan.points():
        names = check.METHODS if point in plan.comparisons else plan.swept
        assert set(results["records"][point.key]) == set(names)
        for name in names:
            record = results["records"][point.key][name]
            assert record["reason"] or record["samples"]
            assert name not in {*plan.swept, "torchlpr parameter"} or not record["reason"]
            for sample in record["samples"]:
                assert sample["evaluate_s"] > 0
                assert sample["gemm_gflops"] > 0
            if record["samples"]:
                assert record["difference"] < check.TOLERANCE[point.dtype]
                assert (record["memory"] is not None) == (name in TINY.in_memory)


def test_what_was_measured_before_an_interruption_stays(folder):
    before, after = samples(folder / "stopped.json"), samples(folder / "results.json")
    assert sum(map(len, before.values())) == 3
    for key, kept in before.items():
        assert after[key][: len(kept)] == kept


def test_a_results_file_is_drawn_again(folder, tmp_path, capsys):
    assert words("--results", folder / "results.json", "--out", tmp_path) == 0
    assert (tmp_path / "bench.md").read_text() == (folder / "bench.md").read_text()
    assert (tmp_path / "bench.png").stat().st_size > 10_000
    printed = capsys.readouterr().out
    assert "over floor" in printed
    assert "A test." in printed


def test_json_has_the_tables(folder, tmp_path, capsys):
    line = ["--results", folder / "results.json", "--out", tmp_path]
    assert words(*line) == 0
    text = capsys.readouterr().out
    assert words(*line, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    results = json.loads((folder / "results.json").read_text())
    assert shown["machine"] == results["machine"]
    assert shown["folder"] == str(tmp_path)
    assert len(shown["tables"]) == len(TINY.comparisons) + 1
    for table, key in zip(shown["tables"], results["comparisons"], strict=False):
        assert table["title"] in text
        measured = {m for m, r in results["records"][key].items() if r["samples"]}
        assert {row["method"] for row in table["rows"]} == measured
        for row in table["rows"]:
            assert f"{row['total s']:.4g}" in text


def test_an_unfinished_file_is_drawn_too(folder, tmp_path, capsys):
    assert words("--results", folder / "stopped.json", "--out", tmp_path) == 0
    assert "not finished" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "give a results.json"), ("[", "not JSON"), ("{}", "not a results file")],
)
def test_refuses_another_file(tmp_path, capsys, content, message):
    if content is not None:
        (tmp_path / "r.json").write_text(content)
    assert words("--results", tmp_path / "r.json", "--out", tmp_path) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(("clock", "threads"), [("sun", 1), ("cpu", 2)])
def test_refuses_a_clock_that_misleads(tmp_path, capsys, monkeypatch, clock, threads):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert words("--quick", "--out", tmp_path, "--clock", clock) == 2
    assert clock in capsys.readouterr().err


def test_does_not_mix_machines(folder, tmp_path, capsys):
    other = json.loads((folder / "results.json").read_text())
    other["machine"]["cpu"] = "abacus"
    (tmp_path / "results.json").write_text(json.dumps(other))
    assert words("--quick", "--out", tmp_path) == 2
    assert "results of another cpu" in capsys.readouterr().err


BROKEN = {"laplace-torch ASDL"}  # does not run with the published releases of its backend


@pytest.mark.parametrize("point", PROBLEMS.values(), ids=PROBLEMS)
@pytest.mark.parametrize("name", check.METHODS)
def test_each_method_gives_the_right_numbers(name, point):
    """Peers that are not installed, or do not apply, say so; torch's and ours have no excuse."""
    try:
        error = check.check(check.METHODS[name], point)
    except Unavailable as reason:
        own = name.startswith(("torchlpr", "torch.func", "autograd"))
        broken = str(reason).startswith("fails") and name not in BROKEN
        if own or broken or "differs" in str(reason):
            raise
        pytest.skip(str(reason))
    assert error < check.TOLERANCE[point.dtype]


@pytest.mark.parametrize("point", PROBLEMS.values(), ids=PROBLEMS)
def test_the_definition_is_that_of_the_oracle(point):
    problem = check.small_problem(point)
    network = problem.network.to(torch.float64)
    batches = [problem.train.to(dtype=torch.float64), problem.test.to(dtype=torch.float64)]
    rows, gradients = (
        autograd_loops.structure_rows(
            lambda_module(network), b.features, b.types, b.structure, 1 / b.counts.double()
        )
        for b in batches
    )
    expected = dense.prediction_rigidity(rows, gradients, problem.mu)
    np.testing.assert_allclose(check.definition(problem).numpy(), expected, rtol=1e-9)
    largest = np.linalg.norm(rows.numpy(), 2) ** 2
    assert problem.mu == pytest.approx(MU * largest, rel=1e-6)


def lambda_module(network: torch.nn.Module) -> torch.nn.Module:
    """The plain network behind the signature of torchlpr's models."""

    class Atomic(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, features, types):
            return self.network(features).squeeze(-1)

    return Atomic()


def test_a_wrong_method_is_not_timed():
    right = check.METHODS["torchlpr row"]
    wrong = replace(right, evaluate=lambda state, batch: 1.001 * right.evaluate(state, batch))
    with pytest.raises(Unavailable, match=r"differs from the definition by 1\.0e-03"):
        check.check(wrong, PROBLEMS["network"])


def test_random_features_have_the_statistics_of_real_ones():
    generator = torch.Generator().manual_seed(3)
    real = torch.rand(400, 5, dtype=torch.float64, generator=generator)
    real[:, 4] = real[:, 0] + real[:, 1]  # features of SOAP are dependent too
    pool = Pool(real, real[:10])
    drawn, is_real = pool.draw(20_000, test=False)
    assert not is_real
    torch.testing.assert_close(drawn.mean(0), real.mean(0), atol=0.01, rtol=0)
    torch.testing.assert_close(torch.cov(drawn.mT), torch.cov(real.mT), atol=0.005, rtol=0)
    torch.testing.assert_close(drawn[:, 4], drawn[:, 0] + drawn[:, 1], atol=1e-12, rtol=0)
    few, is_real = pool.draw(7, test=True)
    assert is_real
    assert few.equal(real[:7])


def test_memory_is_that_of_the_matrices(tmp_path):
    from torchlpr.pipeline.bench.memory import peak_memory

    generator = torch.Generator().manual_seed(3)
    both = torch.rand(2, 64, 200, dtype=torch.float64, generator=generator)
    torch.save({"train": both[0], "test": both[1]}, tmp_path / "pool.pt")
    point = Point(8, 8, 200, (8, 8), 16)
    problem = make_problem(point, Pool(*both))
    matrix = 8 * point.parameters**2  # 22 MB
    peak = peak_memory("torch.func parameter", point, problem.mu, tmp_path / "pool.pt")
    assert 1.9 * matrix < peak < 4 * matrix  # H and its factor
    assert peak_memory("torch.func row", point, problem.mu, tmp_path / "pool.pt") < matrix
