"""``torchlpr export``."""

from __future__ import annotations

import json

from jsonargparse import ArgumentParser, Namespace

__all__ = ["Export"]


class Export:
    """A run as a metatomic model, for ASE, LAMMPS, i-PI and other engines.

    It gives energies, forces and stress, and on request the rigidity of every atom and its
    mu-fraction, an ensemble of energies, and uncertainties where the run is calibrated.

    Example:
        torchlpr export run model.pt --extensions extensions/

        writes model.pt and the libraries that an engine has to load with it, and prints what the
        model can compute.
    """

    @staticmethod
    def add_arguments(parser: ArgumentParser) -> None:
        """Declare the arguments."""
        from torchlpr.export.metatomic import MEMBERS

        parser.add_argument("run", help="folder that torchlpr fit wrote")
        parser.add_argument("model", help="file to write, ending in .pt")
        parser.add_argument(
            "--extensions",
            default=None,
            help="folder to copy the libraries to that the model needs; it is emptied first",
        )
        parser.add_argument(
            "--no_rigidity", action="store_true", help="energies, forces and stress alone"
        )
        parser.add_argument(
            "--members", type=int, default=MEMBERS, help="draws of the ensemble, 0 for none"
        )
        parser.add_argument(
            "--tolerance",
            type=float,
            default=0.0,
            help="relative error of rigidities, never too high, that may be traded for speed",
        )
        parser.add_argument("--seed", type=int, default=0, help="of the draws")
        parser.add_argument("--json", action="store_true", help="print what was written as JSON")

    @staticmethod
    def run(settings: Namespace) -> None:
        """Export and print what the model can compute."""
        from torchlpr.export.metatomic import export_metatomic

        model = export_metatomic(
            settings.run,
            settings.model,
            extensions=settings.extensions,
            rigidity=not settings.no_rigidity,
            members=settings.members,
            seed=settings.seed,
            tolerance=settings.tolerance,
        )
        outputs = {name: output.unit for name, output in model.capabilities().outputs.items()}
        if settings.json:
            print(json.dumps({"model": settings.model, "outputs": outputs}))
            return
        print(f"{settings.model} computes, when asked for")
        for name, unit in outputs.items():
            print(f"  {name}{f', {unit}' if unit else ''}")
