"""``torchlpr calibrate``."""

from __future__ import annotations

import json

from jsonargparse import ArgumentParser, Namespace

__all__ = ["Calibrate"]


class Calibrate:
    """Turn rigidities into standard deviations, on structures that were not trained on.

    sigma = alpha/sqrt(rigidity): alpha is stored in the run, and torchlpr rigidity writes the
    uncertainty of every atom from then on.

    Example:
        torchlpr calibrate run validation.xyz --plot reliability.png

        prints alpha in eV and how far the errors of validation.xyz are from what it predicts, and
        stores it in run.
    """

    @staticmethod
    def add_arguments(parser: ArgumentParser) -> None:
        """Declare the arguments."""
        parser.add_argument("run", help="folder that torchlpr fit wrote")
        parser.add_argument("structures", help="file of held-out structures with energies")
        parser.add_argument(
            "--method",
            choices=["likelihood", "absolute", "crps"],
            default="likelihood",
            help="mean square, mean absolute value, or continuous ranked probability score",
        )
        parser.add_argument(
            "--group_key",
            type=str | None,
            default=None,
            help="info entry (or array that is one value a structure) by which to have alphas",
        )
        parser.add_argument(
            "--on",
            choices=["structures", "invariant"],
            default="structures",
            help="all structures, or those of a single environment: the only local calibration",
        )
        parser.add_argument("--plot", default=None, help="figure to write: reliability")
        parser.add_argument("--energy_key", default="energy", help="name of the energy")
        parser.add_argument("--dry_run", action="store_true", help="do not store it in the run")
        parser.add_argument("--json", action="store_true", help="print the figures as JSON")

    @staticmethod
    def run(settings: Namespace) -> None:
        """Calibrate and print alpha and its scores."""
        from torchlpr.pipeline.calibrate import calibrate_run

        report = calibrate_run(
            settings.run,
            settings.structures,
            settings.method,
            settings.group_key,
            settings.on,
            settings.plot,
            settings.energy_key,
            not settings.dry_run,
        )
        print(json.dumps(report.as_dict()) if settings.json else report)
