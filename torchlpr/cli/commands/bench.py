"""``torchlpr bench``."""

from __future__ import annotations

import json

from jsonargparse import ArgumentParser, Namespace

__all__ = ["Bench"]


class Bench:
    """Measure time and memory on this machine, beside other packages that are installed.

    A run that was stopped goes on where it was. OMP_NUM_THREADS sets the number of threads.

    Example:
        torchlpr bench --quick --out bench

        within a minute prints a table of methods with their times and memory, and writes
        bench/results.json, bench/bench.md and bench/bench.png.
    """

    @staticmethod
    def add_arguments(parser: ArgumentParser) -> None:
        """Declare the arguments."""
        parser.add_argument("--out", default="bench", help="folder for everything it writes")
        parser.add_argument("--quick", action="store_true", help="small sizes, under a minute")
        parser.add_argument("--note", default="", help="a word on the machine, for the report")
        parser.add_argument(
            "--clock", default="wall", help="wall, or cpu: steadier on a busy machine, one thread"
        )
        parser.add_argument(
            "--results", default=None, help="results.json to draw again instead of measuring"
        )
        parser.add_argument("--json", action="store_true", help="print the tables as JSON")

    @staticmethod
    def run(settings: Namespace) -> None:
        """Measure, or draw again, and print the tables."""
        from torchlpr.pipeline.bench.run import bench_run, redraw

        if settings.results is not None:
            report = redraw(settings.results, settings.out)
        else:
            chosen = {name: settings[name] for name in ("quick", "note", "clock")}
            report = bench_run(settings.out, **chosen)
        print(json.dumps(report.as_dict()) if settings.json else report)
