"""``torchlpr demo``."""

from __future__ import annotations

from jsonargparse import ArgumentParser, Namespace

__all__ = ["Demo"]


class Demo:
    """Show the effect on amorphous silicon: defects in, rigidity of defects up.

    Trains a sparse kernel model and a network on cells without coordination defects, computes the
    rigidity of every atom of cells with them; replaces a tenth of the training cells by cells
    with defects, and does it again.
    """

    @staticmethod
    def add_arguments(parser: ArgumentParser) -> None:
        """Declare the arguments."""
        parser.add_argument("--out", default="demo", help="folder for everything it writes")
        parser.add_argument("--seed", type=int, default=0, help="seed of cells and weights")

    @staticmethod
    def run(settings: Namespace) -> None:
        """Run and print the table with three sentences."""
        from torchlpr.pipeline.demo import demo_run

        print(demo_run(settings.out, seed=settings.seed))
