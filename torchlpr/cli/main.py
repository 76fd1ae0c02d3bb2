"""The command ``torchlpr``: parse, call, print."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence

from jsonargparse import ArgumentError, ArgumentParser

from torchlpr import __version__
from torchlpr.cli.commands import COMMANDS, SHARED
from torchlpr.errors import InputError, MissingExtraError, PeerError
from torchlpr.ranks import Ranks, processes

__all__ = ["main"]

PEER_FAILED = 1
USAGE_ERROR = 2
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, alone or as one of the processes that torchrun started.

    Args:
        arguments: words after ``torchlpr``; those of the process if None.

    Returns:
        Exit code: 0, 2 for a mistake in the input (one sentence on stderr), 130 when interrupted;
        1 where it was another process that failed.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    ranks = Ranks()
    try:
        with processes() as ranks:
            return _run(words, ranks)
    except (InputError, MissingExtraError, ArgumentError, FloatingPointError) as error:
        if debug:
            traceback.print_exc()
        advice = "; see torchlpr --help" if isinstance(error, ArgumentError) else ""
        if not getattr(error, "said_by_lower_rank", False):
            print(f"torchlpr: {_one_line(error)}{advice}", file=sys.stderr)
        return USAGE_ERROR
    except PeerError:
        if debug:
            traceback.print_exc()
        return PEER_FAILED
    except KeyboardInterrupt:
        if ranks.first:
            print("torchlpr: interrupted; the same command resumes", file=sys.stderr)
        return INTERRUPTED


def _run(words: list[str], ranks: Ranks) -> int:
    with ranks.agreed():
        parser = _parser()
        settings = parser.parse_args(words)
        if settings.subcommand is None:
            if ranks.first:
                parser.print_help()
            return USAGE_ERROR
        name = settings.subcommand
        if ranks.size > 1 and name not in SHARED:
            raise InputError(
                f"torchlpr {name} runs in one process, not in {ranks.size}; start it without "
                "torchrun"
            )
        chosen = parser.instantiate(settings)[name]
    COMMANDS[name].run(chosen)
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
