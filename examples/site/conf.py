"""Sphinx builds the site from the repository as it is: READMEs and figures are read in place.

The source folder is the root of the repository, so that links lead to the same files on a page
and in a clone; the pages of this folder are what has no other place. No network is needed:
formulas are MathML, fonts and scripts come with the theme.
"""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import torchlpr  # noqa: E402

project = "torchlpr"
author = "The torchlpr developers"
copyright = "The torchlpr developers, BSD 3-Clause"
version = release = torchlpr.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "extensions.api",
    "extensions.commands",
    "extensions.gallery",
    "extensions.home",
    "extensions.mathml",
]

root_doc = "README"
include_patterns = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "benchmarks/README.md",
    "examples/*/README.md",
    "examples/site/*.md",
    "examples/site/api/*.rst",
    "torchlpr/structures/data/README.md",
]
exclude_patterns = [".*", "site"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header"]  # a README may begin below its first level

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_use_ivar = True
add_module_names = False
python_use_unqualified_type_names = True
python_display_short_literal_types = True
nitpicky = False  # extensions.api judges what docstrings refer to

html_theme = "furo"
html_title = f"torchlpr {version}"
html_static_path = ["static"]
html_css_files = ["torchlpr.css"]
html_additional_pages = {"index": "start.html"}
templates_path = ["templates"]
html_show_sphinx = False
html_copy_source = False
pygments_style = "friendly"
