"""Time and memory against size, one row of panels a sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torchlpr.analysis.figures import figure, save_figure
from torchlpr.analysis.plots_scaling import scaling
from torchlpr.pipeline.bench.results import Results

__all__ = ["bench_figures", "curves"]


def curves(
    results: Results, sweep: dict[str, Any], quantity: str
) -> dict[str, tuple[list[float], list[float]]]:
    """Costs along a sweep.

    Args:
        results: of a run.
        sweep: one of its sweeps.
        quantity: build, evaluate or total for seconds, memory for MiB.

    Returns:
        By method, sizes and costs, where they were measured.
    """
    found: dict[str, tuple[list[float], list[float]]] = {}
    for key in sweep["points"]:
        if key not in results.points:
            continue  # the run was stopped before
        size = float(results.points[key][sweep["axis"]])
        for name in sweep["methods"]:
            record = results.records.get(key, {}).get(name)
            if record is None:
                continue
            if quantity == "memory":
                cost = None if not record.memory else record.memory / 2**20
            else:
                cost = record.seconds(quantity)
            if cost is not None:
                sizes, costs = found.setdefault(name, ([], []))
                sizes.append(size)
                costs.append(cost)
    return found


def bench_figures(results: Results, folder: Path) -> list[Path]:
    """Draw time and memory of every device.

    Args:
        results: of a run, finished or not.
        folder: where to write bench.png, and bench_cuda.png for that device.

    Returns:
        The files.
    """
    written = []
    for device in dict.fromkeys(sweep["device"] for sweep in results.sweeps):
        sweeps = [s for s in results.sweeps if s["device"] == device and _drawable(results, s)]
        if not sweeps:
            continue
        fig, axes = figure(len(sweeps), 2, panel=(4.9, 2.7))
        lines: dict[str, Any] = {}
        for row, sweep in zip(axes, sweeps, strict=True):
            styles = {name: number for number, name in enumerate(sweep["methods"])}
            for ax, quantity, ylabel in (
                (row[0], sweep["quantity"], f"{sweep['quantity']} / s"),
                (row[1], "memory", "memory above the data / MiB"),
            ):
                found = curves(results, sweep, quantity)
                if not found:
                    ax.set_axis_off()
                    continue
                drawn = scaling(ax, found, xlabel=sweep["label"], ylabel=ylabel, styles=styles)
                lines |= {str(line.get_label()): line for line in drawn}
        fig.legend(lines.values(), lines.keys(), loc="outside upper center", ncols=3, frameon=False)
        fig.suptitle("")
        name = "bench.png" if device == "cpu" else f"bench_{device}.png"
        written.append(save_figure(fig, folder / name))
    return written


def _drawable(results: Results, sweep: dict[str, Any]) -> bool:
    return bool(curves(results, sweep, sweep["quantity"]))
