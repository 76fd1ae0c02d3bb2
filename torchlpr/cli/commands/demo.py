"""``torchlpr demo``."""

from __future__ import annotations

import json

from jsonargparse import ArgumentParser, Namespace

__all__ = ["Demo"]


class Demo:
    """Show the effect on amorphous silicon: defects in, rigidity of defects up.

    Trains a sparse kernel model and a network on cells without coordination defects, computes the
    rigidity of every atom of cells with them; replaces a tenth of the training cells by cells
    with defects, and does it again.

    Example:
        torchlpr demo --out demo

        in about four minutes prints the median LPR of each class of atoms before and after, and
        writes maps, models and structures to demo/.
    """

    @staticmethod
    def add_arguments(parser: ArgumentParser) -> None:
        """Declare the arguments."""
        parser.add_argument("--out", default="demo", help="folder for everything it writes")
        parser.add_argument("--seed", type=int, default=0, help="seed of cells and weights")
        parser.add_argument("--json", action="store_true", help="print the figures as JSON")

    @staticmethod
    def run(settings: Namespace) -> None:
        """Run and print the table with three sentences."""
        from torchlpr.pipeline.demo import demo_run

        report = demo_run(settings.out, seed=settings.seed)
        print(json.dumps(report.as_dict()) if settings.json else report)
