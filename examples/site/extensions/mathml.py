"""Formulas as MathML, which browsers draw by themselves: no script, no font, no network."""

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

logger = logging.getLogger(__name__)


def convert(node: nodes.Element, block: bool) -> str:
    """MathML of a formula; one that cannot be drawn is a warning, and so fails the build."""
    text = node.astext().strip()
    try:
        return tex2mathml(text, as_block=block)
    except MathError as error:
        logger.warning("cannot draw the formula %s: %s", text, error, location=node)
        return f"<code>{text}</code>"


def inline(writer: HTML5Translator, node: nodes.math) -> None:
    writer.body.append(convert(node, False))
    raise nodes.SkipNode


def block(writer: HTML5Translator, node: nodes.math_block) -> None:
    writer.body.append(convert(node, True))
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    app.config.html_math_renderer = "mathml"
    return {"parallel_read_safe": True, "parallel_write_safe": True}
