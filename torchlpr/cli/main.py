"""The command ``torchlpr``: parse, call, print."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence

from jsonargparse import ArgumentError, ArgumentParser

from torchlpr import __version__
from torchlpr.cli.commands import COMMANDS
from torchlpr.errors import InputError, MissingExtraError

__all__ = ["main"]

USAGE_ERROR = 2
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: words after ``torchlpr``; those of the process if None.

    Returns:
        Exit code: 0, 2 for a mistake in the input (one sentence on stderr), 130 when interrupted.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        parser = _parser()
        settings = parser.parse_args(words)
        if settings.subcommand is None:
            parser.print_help()
            return USAGE_ERROR
        chosen = parser.instantiate(settings)[settings.subcommand]
        COMMANDS[settings.subcommand].run(chosen)
    except (InputError, MissingExtraError, ArgumentError, FloatingPointError) as error:
        if debug:
            traceback.print_exc()
        advice = "; see torchlpr --help" if isinstance(error, ArgumentError) else ""
        print(f"torchlpr: {_one_line(error)}{advice}", file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt:
        print("torchlpr: interrupted; the same command resumes", file=sys.stderr)
        return INTERRUPTED
    return 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="torchlpr",
        description="Local prediction rigidity: which atomic energies does a training set pin "
        "down?",
        epilog="--debug anywhere shows the traceback of an error.",
        version=__version__,
        exit_on_error=False,
    )
    subcommands = parser.add_subcommands(required=False)
    for name, command in COMMANDS.items():
        sub = ArgumentParser(description=command.__doc__, exit_on_error=False)
        command.add_arguments(sub)
        subcommands.add_subcommand(name, sub, help=(command.__doc__ or "").split("\n")[0])
    return parser


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


if __name__ == "__main__":
    sys.exit(main())
