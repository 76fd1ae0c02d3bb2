"""Formulas as MathML, which browsers draw by themselves: no script, no font, no network."""

import re

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

logger = logging.getLogger(__name__)


def formula(node: nodes.Element, display: str) -> str:
    """MathML of a formula; a command that is not understood is a warning: it fails the build."""
    text = node.astext().strip()
    found = convert(text, display=display)
    if "\\" in found:
        logger.warning("cannot draw the formula %s", text, location=node)
    # a bar is a fence on either side, which browsers cannot know: without space
    return re.sub(r"<mo( [^>]*)?>(?=&#x0007C;)", r'<mo\1 lspace="0" rspace="0">', found)


def inline(writer: HTML5Translator, node: nodes.math) -> None:
    writer.body.append(formula(node, "inline"))
    raise nodes.SkipNode


def block(writer: HTML5Translator, node: nodes.math_block) -> None:
    writer.body.append(formula(node, "block"))
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    app.config.html_math_renderer = "mathml"
    return {"parallel_read_safe": True, "parallel_write_safe": True}
