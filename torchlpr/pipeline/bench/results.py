"""The results file: whole after every measurement, so that a run can be stopped and goes on."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from torchlpr.errors import InputError
from torchlpr.files import atomic_path
from torchlpr.pipeline.bench.points import Point

__all__ = ["FORMAT", "Record", "Results", "read_results"]

FORMAT = "torchlpr bench"
VERSION = 1


@dataclass
class Record:
    """One method at one point.

    Attributes:
        samples: measurements, see :func:`torchlpr.pipeline.bench.measure.measure`.
        difference: largest relative difference of its rigidities from those of torchlpr.
        memory: peak bytes above the data.
        reason: why it was not measured, or not as often as planned.
    """

    samples: list[dict[str, Any]] = field(default_factory=list)
    difference: float | None = None
    memory: int | None = None
    reason: str | None = None

    def seconds(self, part: str) -> float | None:
        """Median seconds of build, evaluate or total; None where it was not measured."""
        values = [self._part(sample, part) for sample in self.samples]
        known = [value for value in values if value is not None]
        return statistics.median(known) if known else None

    def over_floor(self, point: Point) -> float | None:
        """Median of total time over that of the two products that no exact method goes without."""
        flops = point.build_floor + point.evaluate_floor
        ratios = [
            (self._part(s, "total") or 0.0) * s["gemm_gflops"] * 1e9 / flops for s in self.samples
        ]
        return statistics.median(ratios) if ratios else None

    @staticmethod
    def _part(sample: dict[str, Any], part: str) -> float | None:
        if part == "total":
            return (sample["build_s"] or 0.0) + sample["evaluate_s"]
        return sample[f"{part}_s"]


@dataclass
class Results:
    """Everything one run measured.

    Attributes:
        machine: what the numbers belong to.
        plan: name of the plan.
        sweeps: axis, label, quantity, device and keys of the points of every sweep.
        comparisons: keys of the points where all methods were measured.
        checks: by kind of problem and method, relative error on a small problem, or the reason
            why the method was left out.
        points: by key, the point as plain data, with "real" and "mu".
        records: by key and method.
        note: what a reader should know about the circumstances.
        finished: when the plan was through, None before.
    """

    machine: dict[str, Any]
    plan: str
    sweeps: list[dict[str, Any]] = field(default_factory=list)
    comparisons: list[str] = field(default_factory=list)
    checks: dict[str, dict[str, float | str]] = field(default_factory=dict)
    points: dict[str, dict[str, Any]] = field(default_factory=dict)
    records: dict[str, dict[str, Record]] = field(default_factory=dict)
    note: str = ""
    finished: str | None = None

    def record(self, key: str, method: str) -> Record:
        """The record of a method at a point, a new one if there is none."""
        return self.records.setdefault(key, {}).setdefault(method, Record())

    def point(self, key: str) -> Point:
        """The point of a key."""
        extra = ("real", "mu")
        return Point.from_dict({k: v for k, v in self.points[key].items() if k not in extra})

    def finish(self) -> None:
        """Note that the plan is through, and when."""
        self.finished = datetime.now(timezone.utc).isoformat(timespec="seconds")

    def save(self, path: Path) -> None:
        """Write everything, whole or not at all.

        Args:
            path: the file.
        """
        content = {"format": FORMAT, "version": VERSION} | vars(self)
        content["records"] = {
            key: {name: vars(record) for name, record in methods.items()}
            for key, methods in self.records.items()
        }
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n")


def read_results(path: str | Path) -> Results:
    """Read what :meth:`Results.save` wrote.

    Args:
        path: the file.

    Returns:
        The results.

    Raises:
        InputError: if there is no such file, or it is another one.
    """
    try:
        content = json.loads(Path(path).read_text())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; give a results.json") from error
    except ValueError as error:
        raise InputError(f"{path} is truncated or not JSON; measure again") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"{path} is not a results file of torchlpr bench")
    if content.pop("version") != VERSION:
        raise InputError(f"{path} is of another version of torchlpr bench; measure again")
    content.pop("format")
    records = {
        key: {name: Record(**record) for name, record in methods.items()}
        for key, methods in content.pop("records").items()
    }
    return Results(**content, records=records)
