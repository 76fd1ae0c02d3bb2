"""``{commands}``: the help of every command, as the command line itself prints it."""

import os

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from torchlpr.cli.commands import COMMANDS
from torchlpr.cli.main import command_line

WIDTH = "100"


class Commands(SphinxDirective):
    """A section for each command, with its help."""

    def run(self) -> list[nodes.Node]:
        os.environ["COLUMNS"] = WIDTH  # the width of a terminal that argparse writes for
        parser = command_line()
        subparsers = parser._subcommands_action._name_parser_map
        found: list[nodes.Node] = [self.literal(parser.format_help())]
        for name in COMMANDS:
            section = nodes.section(ids=[f"torchlpr-{name}"], names=[f"torchlpr {name}"])
            section += nodes.title("", "", nodes.literal("", f"torchlpr {name}"))
            section += self.literal(subparsers[name].format_help())
            found.append(section)
        return found

    @staticmethod
    def literal(text: str) -> nodes.literal_block:
        return nodes.literal_block(text, text, language="text")


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("commands", Commands)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
