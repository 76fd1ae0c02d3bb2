"""``{gallery}``: a card for every ``examples/*/README.md``, with its title and first figure."""

import os
import re
from html import escape
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class Gallery(SphinxDirective):
    """Cards, and the pages in the table of contents."""

    def run(self) -> list[nodes.Node]:
        root, here = Path(self.env.srcdir), Path(self.env.doc2path(self.env.docname)).parent
        pages = sorted(root.glob("examples/*/README.md"))
        grid = nodes.container(classes=["gallery"])
        names = []
        for page in pages:
            text = page.read_text(encoding="utf-8")
            self.env.note_dependency(str(page))
            name = page.relative_to(root).with_suffix("").as_posix()
            title = re.sub(r"[`*]", "", re.search(r"^# (.+)$", text, re.MULTILINE).group(1))
            figure = re.search(r"!\[[^]]*\]\(([^)]+)\)", text)
            names.append(name)
            grid += self.card(name, title, figure and page.parent / figure.group(1), here)
        tree = addnodes.toctree(
            glob=False, hidden=True, titlesonly=True, maxdepth=1, parent=self.env.docname,
            entries=[(None, name) for name in names], includefiles=names, caption=None,
            includehidden=False, numbered=0, rawentries=[],
        )  # fmt: skip
        wrapper = nodes.compound(classes=["toctree-wrapper"])
        wrapper += tree
        return [grid, wrapper]

    def card(self, name: str, title: str, figure: Path | None, here: Path) -> nodes.Node:
        """A figure, which Sphinx copies, and a link below it."""
        card = nodes.container(classes=["gallery-card"])
        if figure is not None:
            uri = Path(os.path.relpath(figure, here)).as_posix()
            card += nodes.image(uri=uri, alt=escape(title), loading="lazy")
        link = addnodes.pending_xref(
            "", reftype="doc", refdomain="std", reftarget=f"/{name}", refexplicit=True,
            refdoc=self.env.docname, refwarn=True,
        )  # fmt: skip
        link += nodes.inline(title, title)
        paragraph = nodes.paragraph()
        paragraph += link
        card += paragraph
        return card


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("gallery", Gallery)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
