"""``torchlpr rigidity``."""

from __future__ import annotations

import json

from jsonargparse import ArgumentParser, Namespace

from torchlpr.ranks import current_ranks

__all__ = ["RigidityOf"]


class RigidityOf:
    """Rigidity of every atom of some structures, from a run and without its training data.

    Several processes share the work: torchrun --nproc-per-node 4 -m torchlpr rigidity ...

    Example:
        torchlpr rigidity run new.xyz --out new_lpr.xyz --plot new_lpr.png

        writes new.xyz again with the arrays lpr, lpr_mu_fraction and local_energy, and prints
        quartiles of each species and the ten weakest atoms.
    """

    @staticmethod
    def add_arguments(parser: ArgumentParser) -> None:
        """Declare the arguments."""
        parser.add_argument("run", help="folder that torchlpr fit wrote")
        parser.add_argument("structures", help="file of structures")
        parser.add_argument("--out", required=True, help="extended XYZ file to write")
        parser.add_argument("--chemiscope", default=None, help="chemiscope file to write")
        parser.add_argument("--plot", default=None, help="figure to write: map and histogram")
        parser.add_argument("--energy_key", default="energy", help="name of the energy")
        parser.add_argument(
            "--shape",
            choices=["auto", "parameter", "row", "matrix-free"],
            default="auto",
            help="algorithm: a P x P triangle, the rows of the training set, or neither (to 1e-6, "
            "iterated); auto is that of the run, or for fewer weights the cheaper exact one that "
            "fits into memory, and the report says why",
        )
        parser.add_argument(
            "--parameters",
            nargs="+",
            default=None,
            help="weights that count, the others being frozen: all, last-layer, species:Si, or "
            "patterns for their names such as networks.0.*; those of the run if not given",
        )
        parser.add_argument("--json", action="store_true", help="print the figures as JSON")

    @staticmethod
    def run(settings: Namespace) -> None:
        """Evaluate and print quartiles and the weakest atoms."""
        from torchlpr.pipeline.rigidity import rigidity_run

        ranks = current_ranks()
        report = rigidity_run(
            settings.run,
            settings.structures,
            settings.out,
            settings.chemiscope,
            settings.plot,
            settings.energy_key,
            ranks,
            settings.shape,
            settings.parameters,
        )
        if not ranks.first:
            return
        print(json.dumps(report.as_dict()) if settings.json else report)
