"""``torchlpr design``."""

from __future__ import annotations

import json

from jsonargparse import ArgumentParser, Namespace

__all__ = ["DesignOf"]


class DesignOf:
    """Choose the structures to label next, from geometries alone: greedy by predicted rigidity.

    Example:
        torchlpr design run pool.xyz --targets defects.xyz -n 10 --out next

        prints the predicted gain of each of ten picks, and writes them to next/picks.xyz, ready to
        be labelled.
    """

    @staticmethod
    def add_arguments(parser: ArgumentParser) -> None:
        """Declare the arguments."""
        parser.add_argument("run", help="folder that torchlpr fit wrote")
        parser.add_argument("candidates", help="file of structures that could be labelled")
        parser.add_argument("--targets", required=True, help="file with the atoms that matter")
        parser.add_argument("-n", "--n", type=int, default=10, help="number of picks")
        parser.add_argument(
            "--criterion",
            choices=["mean-log", "min", "A", "D"],
            default="mean-log",
            help="raise the mean ln LPR of the targets, raise the smallest, lower the mean 1/LPR, "
            "or raise ln det H whatever the targets",
        )
        parser.add_argument(
            "--target_key",
            type=str | None,
            default=None,
            help="array of the targets that is not zero where an atom matters; all atoms if null",
        )
        parser.add_argument(
            "--energy_key",
            type=str | None,
            default="energy",
            help="name of the energy that the picks keep if they have one; null drops it",
        )
        parser.add_argument("--out", default="design", help="folder to write")
        parser.add_argument("--json", action="store_true", help="print the gain curve as JSON")

    @staticmethod
    def run(settings: Namespace) -> None:
        """Choose and print the predicted gain of every pick."""
        from torchlpr.pipeline.design import design_run

        report = design_run(
            settings.run,
            settings.candidates,
            settings.targets,
            settings.out,
            settings.n,
            settings.criterion,
            settings.target_key,
            settings.energy_key,
        )
        print(json.dumps(report.as_dict()) if settings.json else report)
