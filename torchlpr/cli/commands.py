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


class Study:
    """Run a study of the rigidity papers: figures, their numbers as CSV, and its verdict.

    Example: torchlpr study toy_model --out toy_model
    """

    @staticmethod
    def add_arguments(parser: ArgumentParser) -> None:
        """Declare the arguments."""
        parser.add_argument("name", help="which one: toy_model or single_environments")
        parser.add_argument("--out", default=None, help="folder, by default the name")
        parser.add_argument("--config", default=None, help="YAML file of the study's settings")
        parser.add_argument("--quick", action="store_true", help="small, within two minutes")

    @staticmethod
    def run(settings: Namespace) -> None:
        """Run and print every claim; a claim that fails makes the exit code 1."""
        from torchlpr.studies import run_study

        report = run_study(settings.name, settings.out, settings.config, settings.quick)
        print(report)
        if not report.holds:
            raise SystemExit(1)


COMMANDS: dict[str, type[Command]] = {
    "demo": Demo,
    "fit": Fit,
    "rigidity": RigidityOf,
    "study": Study,
}
