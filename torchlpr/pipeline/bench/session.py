"""One run of a plan: every method at every point, written down after every measurement."""

from __future__ import annotations

import gc
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from torchlpr.files import atomic_path
from torchlpr.pipeline.bench.check import METHODS, TOLERANCE, check, difference
from torchlpr.pipeline.bench.measure import measure
from torchlpr.pipeline.bench.memory import peak_memory
from torchlpr.pipeline.bench.methods import OWN, Method, Unavailable
from torchlpr.pipeline.bench.points import Plan, Point
from torchlpr.pipeline.bench.problem import Problem, load_pool, make_problem
from torchlpr.pipeline.bench.results import Record, Results

__all__ = ["Bench"]

REFERENCE = OWN[0]
OVERHEAD = 0.2  # seconds: shorter calls cost what every call costs, and predict nothing


def _kind(point: Point) -> str:
    return f"{'network' if point.hidden else 'linear'}, {point.dtype}, {point.device}"


class Bench:
    """One run.

    Args:
        plan: what to measure.
        results: to fill.
        folder: of the run.
    """

    def __init__(self, plan: Plan, results: Results, folder: Path) -> None:
        self.plan, self.results, self.folder = plan, results, folder
        self.pool = load_pool(plan, folder / "features")
        self.pool_file = folder / "features" / f"{plan.name}.pt"
        with atomic_path(self.pool_file) as temporary:
            torch.save({"train": self.pool.train, "test": self.pool.test}, temporary)

    def methods(self, point: Point) -> list[Method]:
        """What is measured at a point, the reference first."""
        names = list(METHODS) if point in self.plan.comparisons else self.plan.swept
        return [METHODS[name] for name in names]

    def measure(self, point: Point, bar: tqdm) -> None:
        """Measure all methods at a point, repetitions interleaved.

        Args:
            point: the point.
            bar: moves by one for each method.
        """
        bar.set_postfix_str(point.key)
        todo = [m for m in self.methods(point) if self._due(m, point)]
        bar.update(len(self.methods(point)) - len(todo))
        if not todo:
            return
        problem = make_problem(point, self.pool)
        extra = {"real": problem.real, "mu": problem.mu}
        self.results.points[point.key] = point.as_dict() | extra
        todo = [m for m in todo if self._usable(m, point, bar)]
        reference: Tensor | None = None
        for repeat in range(self.plan.repeats):
            for method in todo:
                record = self.results.record(point.key, method.name)
                if len(record.samples) > repeat or not self._wanted(record):
                    continue
                if reference is None:
                    reference = REFERENCE.evaluate(REFERENCE.build(problem), problem.test)
                self._sample(method, problem, record, reference)
        del problem
        gc.collect()
        for method in todo:
            self._memory(method, point)
            bar.update()

    def _due(self, method: Method, point: Point) -> bool:
        record = self.results.record(point.key, method.name)
        if record.reason is not None:
            return False
        missing = len(record.samples) < self.plan.repeats and self._wanted(record)
        return missing or (self._in_memory(method) and record.memory is None)

    def _wanted(self, record: Record) -> bool:
        """Whether another repetition is worth its time."""
        total = record.seconds("total")
        return record.reason is None and (total is None or total < self.plan.patience)

    def _in_memory(self, method: Method) -> bool:
        return self.plan.in_memory is None or method.name in self.plan.in_memory

    def _usable(self, method: Method, point: Point, bar: tqdm) -> bool:
        """Check the method once for each kind of problem, and predict its time."""
        record = self.results.record(point.key, method.name)
        checks = self.results.checks.setdefault(_kind(point), {})
        if method.name not in checks:
            try:
                checks[method.name] = check(method, point)
            except Unavailable as error:
                checks[method.name] = str(error)
        answer = checks[method.name]
        predicted = self._predict(method, point)
        if isinstance(answer, str):
            record.reason = answer
        elif predicted > self.plan.limit and not record.samples:
            limit = f"the limit is {self.plan.limit:.0f} s"
            record.reason = f"would take about {predicted:.0f} s; {limit}"
        if record.reason is not None:
            self.results.save(self.folder / "results.json")
            bar.update()
        return record.reason is None

    def _predict(self, method: Method, point: Point) -> float:
        """Seconds, from the largest smaller point of the same kind; 0 where there is none."""
        known = []
        for key, records in self.results.records.items():
            other = self.results.point(key) if key in self.results.points else point
            record = records.get(method.name)
            if _kind(other) == _kind(point) and other != point and record and record.samples:
                known.append((method.flops(other), record.seconds("total") or 0.0))
        flops, seconds = max(known, default=(1.0, 0.0))
        if seconds < OVERHEAD:
            return 0.0
        return seconds * method.flops(point) / flops

    def _sample(self, method: Method, problem: Problem, record: Record, reference: Tensor) -> None:
        """One measurement, kept if its rigidities are right."""
        # what kills the process leaves this behind, and the next run goes on with the others
        record.reason = "was measured when the process was killed, for want of memory it may be"
        self.results.save(self.folder / "results.json")
        record.reason = None
        try:
            sample, values = measure(method, problem, self.results.machine["clock"])
        except Exception as error:  # whatever a package raises, the others go on
            text = " ".join(str(error).split())[:160]
            record.reason = f"fails: {type(error).__name__}: {text}"
        except BaseException:  # stopped by hand: not the method's fault
            self.results.save(self.folder / "results.json")
            raise
        else:
            record.difference = difference(values, reference)
            allowed = TOLERANCE[problem.point.dtype]
            if record.difference <= allowed:
                record.samples.append(sample)
            else:
                record.samples.clear()
                record.reason = (
                    f"differs from torchlpr by {record.difference:.1e} at this size "
                    f"({allowed:.0e} allowed), so it is not timed"
                )
        self.results.save(self.folder / "results.json")

    def _memory(self, method: Method, point: Point) -> None:
        record = self.results.record(point.key, method.name)
        if not self._in_memory(method) or record.memory is not None or not record.samples:
            return
        total = record.seconds("total") or 0.0
        if total > self.plan.limit / 4:
            record.reason = f"memory is not measured where one run takes {total:.0f} s"
            return
        mu = float(self.results.points[point.key]["mu"])
        everyone = self.plan.in_memory is None
        try:
            record.memory = peak_memory(method.name, point, mu, self.pool_file, everyone)
        except Unavailable as error:
            record.reason = f"memory: {error}"
        self.results.save(self.folder / "results.json")
