"""Tables of what was measured, for a terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from torchlpr.analysis.plots_scaling import power_law
from torchlpr.analysis.statistics import format_table
from torchlpr.pipeline.bench.figures import curves
from torchlpr.pipeline.bench.results import Results

__all__ = ["BenchReport", "Table", "as_markdown", "as_text", "tables"]

HEADERS = (
    "method", "build s", "evaluate s", "total s", "over floor", "over torchlpr", "difference",
    "MiB",
)  # fmt: skip


class Table(NamedTuple):
    """A table with its title and what follows below it."""

    title: str
    headers: tuple[str, ...]
    rows: list[tuple[object, ...]]
    notes: list[str]


@dataclass(frozen=True)
class BenchReport:
    """What was measured, for a reader.

    Attributes:
        results: of a run, finished or not.
        folder: where its files are.
    """

    results: Results
    folder: Path

    def as_dict(self) -> dict[str, object]:
        """The tables as plain data, and what they belong to."""
        return {
            "machine": self.results.machine,
            "plan": self.results.plan,
            "finished": self.results.finished,
            "folder": str(self.folder),
            "tables": [
                {
                    "title": table.title,
                    "rows": [dict(zip(table.headers, row, strict=True)) for row in table.rows],
                    "notes": table.notes,
                }
                for table in tables(self.results)
            ],
        }

    def __str__(self) -> str:
        """The tables as text."""
        return f"{as_text(self.results)}\n\nEverything is in {self.folder}."


def tables(results: Results) -> list[Table]:
    """All tables of a run.

    Args:
        results: of a run, finished or not.

    Returns:
        One table for each comparison, and one of exponents.
    """
    made = [_comparison(results, key) for key in results.comparisons if key in results.points]
    rows = [
        (f"{sweep['label']} ({sweep['device']})", name, sweep["quantity"], *_exponents(*both))
        for sweep in results.sweeps
        for name, both in _both(results, sweep).items()
    ]
    headers = ("against", "method", "time of", "time exponent", "memory exponent")
    note = "Exponents b of cost ~ size^b are fitted to the three largest sizes (or to both)."
    return [*made, Table("How cost grows", headers, rows, [note])]


def _comparison(results: Results, key: str) -> Table:
    """All methods at one point, the fastest first."""
    point, records = results.point(key), results.records.get(key, {})
    totals = {name: t for name, r in records.items() if (t := r.seconds("total")) is not None}
    own = min((t for name, t in totals.items() if name.startswith("torchlpr")), default=None)
    rows: list[tuple[object, ...]] = []
    for name in sorted(totals, key=lambda n: totals[n]):
        record = records[name]
        rows.append((
            name,
            record.seconds("build"),
            record.seconds("evaluate"),
            totals[name],
            record.over_floor(point),
            None if own is None else totals[name] / own,
            record.difference,
            None if record.memory is None else record.memory / 2**20,
        ))
    notes = [f"{name}: {r.reason}" for name, r in records.items() if r.reason]
    sampled = [
        f"{name} evaluated {record.samples[0]['atoms_evaluated']} of the atoms; its time is "
        "scaled to all."
        for name, record in records.items()
        if record.samples and record.samples[0]["atoms_evaluated"] < point.test_atoms
    ]
    features = "real" if results.points[key]["real"] else "random, of real ones' statistics"
    title = f"{key}, P = {point.parameters}; features {features}"
    return Table(title, HEADERS, rows, [*sampled, *notes])


def _both(results: Results, sweep: dict[str, Any]) -> dict[str, list[Any]]:
    """Time and memory along a sweep by method."""
    time, memory = curves(results, sweep, sweep["quantity"]), curves(results, sweep, "memory")
    return {name: [time[name], memory.get(name)] for name in time}


def _exponents(*found: tuple[list[float], list[float]] | None) -> list[float | None]:
    return [None if pair is None else power_law(*pair) for pair in found]


def as_text(results: Results) -> str:
    """Tables for a terminal.

    Args:
        results: of a run.

    Returns:
        The text.
    """
    parts = [_circumstances(results)]
    for table in tables(results):
        parts.append(f"{table.title}\n\n{format_table(table.rows, table.headers)}")
        parts += ["\n".join(table.notes)] if table.notes else []
    return "\n\n".join(parts)


def as_markdown(results: Results) -> str:
    """Tables in Markdown.

    Args:
        results: of a run.

    Returns:
        The text.
    """
    parts = ["# torchlpr bench", _circumstances(results)]
    for table in tables(results):
        head = [_line(table.headers), "|---" + "|---:" * (len(table.headers) - 1) + "|"]
        rows = [_line([_cell(value) for value in row]) for row in table.rows]
        parts += [f"## {table.title}", "\n".join([*head, *rows])]
        parts += ["\n".join(f"- {note}" for note in table.notes)] if table.notes else []
    return "\n\n".join(parts) + "\n"


def _circumstances(results: Results) -> str:
    m = results.machine
    state = f"finished {results.finished}" if results.finished else "not finished"
    note = f" {results.note}" if results.note else ""
    devices = ", ".join(m["devices"])
    return (
        f"{m['cpu']}, {m['cores']} cores, {m['threads']} threads, devices {devices}, torch "
        f"{m['torch']}, torchlpr {m['torchlpr']}; plan {results.plan}, {state}.{note} Median "
        f"seconds ({m['clock']} time); the floor is the time, at the rate of a large matrix "
        "product measured beside it, of the two products that no exact method goes without; "
        "difference is the largest relative one from torchlpr in row space; MiB is the peak "
        "above the data."
    )


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
