"""The subcommands: which arguments they take, what they call, what they print."""

from __future__ import annotations

import json
from typing import Protocol

from jsonargparse import ActionConfigFile, ArgumentParser, Namespace

from torchlpr.pipeline.config import FitConfig

__all__ = ["COMMANDS", "Command"]


class Command(Protocol):
    """One subcommand; its docstring is its help."""

    @staticmethod
    def add_arguments(parser: ArgumentParser) -> None:
        """Declare the arguments."""

    @staticmethod
    def run(settings: Namespace) -> None:
        """Call what the command stands for, and print."""


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


class Fit:
    """Train a model on structures with energies and keep all that its rigidity needs.

    Example: torchlpr fit --data.train train.xyz --model.kind kernel --out run
    """

    @staticmethod
    def add_arguments(parser: ArgumentParser) -> None:
        """Declare the arguments."""
        parser.add_argument("--config", action=ActionConfigFile, help="YAML file of settings")
        parser.add_class_arguments(FitConfig, None, fail_untyped=False)
        parser.add_argument("--out", default="run", help="folder of the run")
        parser.add_argument("--json", action="store_true", help="print the summary as JSON")

    @staticmethod
    def run(settings: Namespace) -> None:
        """Train and print the errors and the verdict."""
        from torchlpr.pipeline.fit import fit_run

        parts = {
            name: settings[name]
            for name in ("data", "descriptor", "model", "objective", "training")
        }
        run = fit_run(FitConfig(**parts), settings.out)
        if settings.json:
            print(json.dumps(run.metrics | {"stationarity": run.stationarity.as_dict()}))
            return
        for name in ("train", "validation", "test"):
            if f"rmse_{name}" in run.metrics:
                percent = run.metrics.get(f"percent_rmse_{name}")
                share = "" if percent is None else f" ({percent:.1f} % of the spread)"
                print(f"RMSE {name}: {run.metrics[f'rmse_{name}']:.3e} eV/atom{share}")
        print(f"mu {run.metrics['mu']:.3e}, {run.metrics['rigidity_algorithm']}")
        print(run.stationarity.sentence())
        print(f"{settings.out} is ready for: torchlpr rigidity {settings.out} STRUCTURES")


class RigidityOf:
    """Rigidity of every atom of some structures, from a run and without its training data.

    Example: torchlpr rigidity run new.xyz --out new_lpr.xyz --plot new_lpr.png
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
        parser.add_argument("--json", action="store_true", help="print the figures as JSON")

    @staticmethod
    def run(settings: Namespace) -> None:
        """Evaluate and print quartiles and the weakest atoms."""
        from torchlpr.pipeline.rigidity import rigidity_run

        report = rigidity_run(
            settings.run,
            settings.structures,
            settings.out,
            settings.chemiscope,
            settings.plot,
            settings.energy_key,
        )
        print(json.dumps(report.as_dict()) if settings.json else report)


class DesignOf:
    """Choose the structures to label next, from geometries alone: greedy by predicted rigidity.

    Example: torchlpr design run pool.xyz --targets defects.xyz -n 10 --out next
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


class Calibrate:
    """Turn rigidities into standard deviations, on structures that were not trained on.

    sigma = alpha/sqrt(rigidity): alpha is stored in the run, and torchlpr rigidity writes the
    uncertainty of every atom from then on.

    Example: torchlpr calibrate run validation.xyz --plot reliability.png
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


COMMANDS: dict[str, type[Command]] = {
    "demo": Demo,
    "fit": Fit,
    "rigidity": RigidityOf,
    "design": DesignOf,
    "calibrate": Calibrate,
}
