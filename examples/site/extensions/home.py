"""The README is the home page; the table of contents, of no use elsewhere, is added here."""

from sphinx.application import Sphinx

CONTENTS = """

```{toctree}
:hidden:
:caption: Guide

examples/site/installation
examples/site/tutorial
examples/site/reading
examples/site/choosing_mu
examples/site/scale
examples/site/engines
examples/site/gallery
```

```{toctree}
:hidden:
:caption: Reference

examples/site/commands
examples/site/api/index
benchmarks/README
torchlpr/structures/data/README
CHANGELOG
CONTRIBUTING
```
"""


def add_contents(app: Sphinx, name: str, source: list[str]) -> None:
    if name == app.config.root_doc:
        source[0] += CONTENTS


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", add_contents)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
