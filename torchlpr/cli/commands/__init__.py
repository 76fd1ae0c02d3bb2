"""The subcommands: which arguments they take, what they call, what they print."""

from __future__ import annotations

from typing import Protocol

from jsonargparse import ArgumentParser, Namespace

from torchlpr.cli.commands.bench import Bench
from torchlpr.cli.commands.calibrate import Calibrate
from torchlpr.cli.commands.demo import Demo
from torchlpr.cli.commands.design import DesignOf
from torchlpr.cli.commands.explain import Explain
from torchlpr.cli.commands.export import Export
from torchlpr.cli.commands.fit import Fit
from torchlpr.cli.commands.rigidity import RigidityOf
from torchlpr.cli.commands.study import Study

__all__ = ["COMMANDS", "SHARED", "Command"]


class Command(Protocol):
    """One subcommand; its docstring is its help."""

    @staticmethod
    def add_arguments(parser: ArgumentParser) -> None:
        """Declare the arguments."""

    @staticmethod
    def run(settings: Namespace) -> None:
        """Call what the command stands for, and print."""


COMMANDS: dict[str, type[Command]] = {
    "demo": Demo,
    "fit": Fit,
    "rigidity": RigidityOf,
    "explain": Explain,
    "design": DesignOf,
    "calibrate": Calibrate,
    "export": Export,
    "study": Study,
    "bench": Bench,
}

SHARED = {"fit", "rigidity"}  # those that several processes can do together
