"""``torchlpr explain``."""

from __future__ import annotations

import json

from jsonargparse import ArgumentParser, Namespace

__all__ = ["Explain"]


class Explain:
    """The training structures, energies, forces and regulariser that an atom's LPR is made of.

    The training file is read again: the run keeps no structures.

    Example:
        torchlpr explain run new.xyz --atom 12 --plot atom12.png

        prints the ten training structures with the largest shares of the LPR of atom 12, and the
        shares of all energies, of all forces and of the regulariser.
    """

    @staticmethod
    def add_arguments(parser: ArgumentParser) -> None:
        """Declare the arguments."""
        parser.add_argument("run", help="folder that torchlpr fit wrote")
        parser.add_argument("structure", help="file with the structure of the atom")
        parser.add_argument("--atom", type=int, required=True, help="its number, from 0")
        parser.add_argument(
            "--index",
            type=int | None,
            default=None,
            help="number of the structure, from 0, where the file has several",
        )
        parser.add_argument(
            "--train", type=str | None, default=None, help="the training file, if it has moved"
        )
        parser.add_argument("--top", type=int, default=10, help="training structures to show")
        parser.add_argument("--plot", default=None, help="figure to write: bars of shares")
        parser.add_argument("--csv", default=None, help="table to write: all shares")
        parser.add_argument("--json", action="store_true", help="print the shares as JSON")

    @staticmethod
    def run(settings: Namespace) -> None:
        """Find the shares and print the largest."""
        from torchlpr.pipeline.explain import explain_run

        report = explain_run(
            settings.run,
            settings.structure,
            settings.atom,
            settings.index,
            settings.train,
            settings.top,
            settings.plot,
            settings.csv,
        )
        print(json.dumps(report.as_dict()) if settings.json else report)
