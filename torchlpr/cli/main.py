"""The command ``torchlpr``: parse, call, print."""

from __future__ import annotations

import inspect
import sys
import traceback
from argparse import RawDescriptionHelpFormatter
from collections.abc import Sequence

from jsonargparse import ArgumentError, ArgumentParser, DefaultHelpFormatter

from torchlpr import __version__
from torchlpr.cli.commands import COMMANDS, SHARED
from torchlpr.errors import InputError, MissingExtraError, PeerError
from torchlpr.ranks import Ranks, processes

__all__ = ["command_line", "main"]

PEER_FAILED = 1
USAGE_ERROR = 2
INTERRUPTED = 130

EPILOG = """\
torchlpr COMMAND --help explains a command and has an example; --json prints what a command found
for other programs; --debug anywhere shows the traceback of an error.

exit codes:
  0    done
  1    a claim of a study fails, or another of several processes failed
  2    a mistake in the input, in one sentence on stderr
  130  interrupted; fit and bench go on where they were when they are started again
"""


class _Help(RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Descriptions and examples keep their lines."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, alone or as one of the processes that torchrun started.

    Args:
        arguments: words after ``torchlpr``; those of the process if None.

    Returns:
        Exit code: 0, 2 for a mistake in the input (one sentence on stderr), 130 when interrupted;
        1 where it was another process that failed, or a claim of a study does.
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
        parser = command_line()
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


def command_line() -> ArgumentParser:
    """The parser of all commands, which knows their help."""
    parser = ArgumentParser(
        prog="torchlpr",
        description="Local prediction rigidity: which atomic energies does a training set pin "
        "down?",
        epilog=EPILOG,
        version=__version__,
        exit_on_error=False,
        formatter_class=_Help,
    )
    subcommands = parser.add_subcommands(required=False)
    for name, command in COMMANDS.items():
        about, _, example = inspect.cleandoc(command.__doc__ or "").partition("\n\nExample:\n")
        sub = ArgumentParser(
            description=about,
            epilog=f"example:\n{example}",
            exit_on_error=False,
            formatter_class=_Help,
        )
        command.add_arguments(sub)
        subcommands.add_subcommand(name, sub, help=about.split("\n")[0])
    return parser


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


if __name__ == "__main__":
    sys.exit(main())
