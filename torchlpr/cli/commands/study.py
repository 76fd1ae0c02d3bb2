"""``torchlpr study``."""

from __future__ import annotations

import json

from jsonargparse import ArgumentParser, Namespace

__all__ = ["Study"]


class Study:
    """Run a study of the papers: figures, their numbers as CSV, and its verdict.

    The exit code is 1 where a claim fails.

    Example:
        torchlpr study toy_model --quick --out toy_model

        prints whether each claim holds, and writes figures, tables and summary.json to toy_model/.
    """

    @staticmethod
    def add_arguments(parser: ArgumentParser) -> None:
        """Declare the arguments."""
        from torchlpr.studies import STUDIES

        parser.add_argument("name", help=f"which one: {', '.join(STUDIES)}")
        parser.add_argument("--out", default=None, help="folder, by default the name")
        parser.add_argument("--config", default=None, help="YAML file of the study's settings")
        parser.add_argument(
            "--data", default=None, help="original or surrogate, by default what the settings say"
        )
        parser.add_argument("--quick", action="store_true", help="small, within two minutes")
        parser.add_argument("--json", action="store_true", help="print the claims as JSON")

    @staticmethod
    def run(settings: Namespace) -> None:
        """Run and print every claim; a claim that fails makes the exit code 1."""
        from torchlpr.studies import run_study

        report = run_study(
            settings.name, settings.out, settings.config, settings.quick, settings.data
        )
        shown = report.as_dict() | {"folder": str(report.folder)}
        print(json.dumps(shown) if settings.json else report)
        if not report.holds:
            raise SystemExit(1)
