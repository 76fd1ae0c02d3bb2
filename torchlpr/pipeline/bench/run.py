"""``torchlpr bench``: measure, write after every measurement, go on where a run was stopped."""

from __future__ import annotations

from pathlib import Path

import torch
from tqdm import tqdm

from torchlpr.errors import InputError
from torchlpr.files import atomic_path, make_folder
from torchlpr.pipeline.bench.figures import bench_figures
from torchlpr.pipeline.bench.measure import CLOCKS, machine
from torchlpr.pipeline.bench.points import Plan, full_plan, quick_plan
from torchlpr.pipeline.bench.report import BenchReport, as_markdown
from torchlpr.pipeline.bench.results import Results, read_results
from torchlpr.pipeline.bench.session import Bench
from torchlpr.pipeline.figures import have_plots

__all__ = ["bench_run", "devices", "redraw"]


def bench_run(
    out: str | Path,
    quick: bool = False,
    plan: Plan | None = None,
    note: str = "",
    clock: str = "wall",
    progress: bool = True,
) -> BenchReport:
    """Measure torchlpr and whatever peers are installed.

    A folder that holds results of the same plan and machine is gone on with.

    Args:
        out: folder for results.json, bench.md, bench.png and the features.
        quick: small sizes, less than a minute.
        plan: what to measure, instead of the quick or the full plan.
        note: what a reader should know about the circumstances.
        clock: wall, or cpu for the time that the process itself is at work, which on one thread
            says more where others use the machine; only on a machine without cuda.
        progress: show a progress bar.

    Returns:
        The tables.

    Raises:
        InputError: if the clock is unknown or misleads, or the folder holds results of something
            else.
    """
    if clock not in CLOCKS:
        raise InputError(f"clock {clock!r} is unknown; use one of {[*CLOCKS]}")
    if clock == "cpu" and (torch.get_num_threads() > 1 or torch.cuda.is_available()):
        raise InputError(
            "the cpu clock adds up threads and is blind to a GPU; set OMP_NUM_THREADS=1 and "
            "CUDA_VISIBLE_DEVICES= or use --clock wall"
        )
    folder = make_folder(out)
    plan = (plan or (quick_plan() if quick else full_plan())).on(devices())
    results = _open(folder / "results.json", plan, note, clock)
    bench = Bench(plan, results, folder)
    points = plan.points()
    tasks = sum(len(bench.methods(point)) for point in points)
    with tqdm(total=tasks, desc="bench", unit="method", disable=not progress) as bar:
        for point in points:
            bench.measure(point, bar)
    results.finish()
    results.save(folder / "results.json")
    return redraw(folder / "results.json", folder)


def devices() -> tuple[str, ...]:
    """Devices that are measured: the CPU, and a GPU where there is one."""
    return ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)


def redraw(path: str | Path, out: str | Path) -> BenchReport:
    """Write tables and figures of a results file.

    Args:
        path: results.json, finished or not.
        out: folder for bench.md and bench.png.

    Returns:
        The tables.
    """
    results, folder = read_results(path), make_folder(out)
    with atomic_path(folder / "bench.md") as temporary:
        temporary.write_text(as_markdown(results))
    if have_plots():
        bench_figures(results, folder)
    return BenchReport(results, folder)


def _open(path: Path, plan: Plan, note: str, clock: str) -> Results:
    """Results to go on with, or new ones."""
    here = machine(plan.devices, clock)
    if path.exists():
        results = read_results(path)
        changed = [name for name, value in here.items() if results.machine.get(name) != value]
        if changed or results.plan != plan.name:
            what = f"another {changed[0]}" if changed else f"the {results.plan} plan"
            raise InputError(f"{path} holds results of {what}; choose another --out or delete it")
        results.finished, results.note = None, note or results.note
        return results
    sweeps = [
        {
            "axis": sweep.axis,
            "label": sweep.label,
            "quantity": sweep.quantity,
            "device": sweep.points[0].device,
            "points": [point.key for point in sweep.points],
            "methods": list(plan.swept),
        }
        for sweep in plan.sweeps
    ]
    keys = [point.key for point in plan.comparisons]
    return Results(here, plan.name, sweeps, keys, note=note)
