"""``{api} PACKAGE``: all its public names by module, and what docstrings mean by a short name."""

import inspect
import re
from importlib import import_module
from pkgutil import walk_packages

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import nested_parse_with_titles

logger = logging.getLogger(__name__)

LEFT_OUT = ("torchlpr.cli", "torchlpr.__main__", "torchlpr.pipeline.bench")


class Api(SphinxDirective):
    """Documentation of a module, or of the modules of a package, from their docstrings."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        lines = []
        for name in modules_of(self.arguments[0]):
            lines += [name, "-" * len(name), "", f".. automodule:: {name}"]
            # a package gives the names of its modules once more
            lines += [] if hasattr(import_module(name), "__path__") else ["   :members:"]
            lines.append("")
        section = nodes.section()
        section.document = self.state.document
        nested_parse_with_titles(self.state, StringList(lines, self.arguments[0]), section)
        return section.children


class PublicNames(SphinxDirective):
    """A list of the names that ``import torchlpr`` gives, each with its first line."""

    def run(self) -> list[nodes.Node]:
        package = import_module("torchlpr")
        lines = []
        for name in package.__all__:
            value = getattr(package, name)
            if callable(value):
                role = "class" if inspect.isclass(value) else "func"
                first = inspect.getdoc(value).split("\n")[0]
                lines += [f":{role}:`torchlpr.{name}`", f"   {first}", ""]
        section = nodes.section()
        section.document = self.state.document
        nested_parse_with_titles(self.state, StringList(lines, "torchlpr"), section)
        return section.children


def modules_of(name: str) -> list[str]:
    """The modules below a name that say what is public, in alphabetical order."""
    found = [name]
    module = import_module(name)
    if hasattr(module, "__path__"):
        found += [entry.name for entry in walk_packages(module.__path__, f"{name}.")]
    return [n for n in found if not n.startswith(LEFT_OUT) or n == name]


def canonical(target: str, module: str | None, cls: str | None) -> str | None:
    """Where a name is defined that a docstring of a module or class refers to."""
    places = [f"{module}.{cls}" if cls else None, module, None]
    for place in places:
        value = lookup(f"{place}.{target}" if place else target)
        if inspect.ismodule(value):
            return value.__name__
        if isinstance(value, property):
            value = value.fget
        if value is not None:
            # constants and fields know no name of their own
            inside = getattr(value, "__qualname__", target.rpartition(".")[2])
            return f"{getattr(value, '__module__', place)}.{inside}"
    return None


def lookup(name: str) -> object | None:
    """The object of a dotted name, or None."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            value = import_module(".".join(parts[:cut]))
        except ImportError:
            continue
        for part in parts[cut:]:
            value = inspect.getattr_static(value, part, None)
        return value
    return None


def resolve(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, child: nodes.Element
) -> nodes.reference | None:
    """Follow a name to where it is defined; warn of one that leads nowhere in torchlpr."""
    if node.get("refdomain") != "py":
        return None
    target, module = node["reftarget"], node.get("py:module")
    if target.startswith(("torch.", "ase.")):
        return None
    name = canonical(target, module, node.get("py:class"))
    domain = env.get_domain("py")
    for kind in (node["reftype"], "obj"):
        if name is not None and name != target:
            found = domain.resolve_xref(env, node["refdoc"], app.builder, kind, name, node, child)
            if found is not None:
                return found
    # names in signatures may be anybody's; those that a docstring refers to are ours
    if isinstance(child, nodes.literal) and name is None:
        logger.warning("%s refers to %s, which is nothing", module, target, location=node)
    return None


def keep_bars(
    app: Sphinx, what: str, name: str, value: object, options: object, lines: list[str]
) -> None:
    """The bars of a norm are no substitution; formulas and literals are left alone."""
    formula = -1  # indentation of the directive whose content this is
    for number, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        if line.strip() and indent <= formula:
            formula = -1
        if line.lstrip().startswith(".. math::"):
            formula = indent
        if formula < 0:
            parts = re.split(r"(:math:`[^`]*`|``[^`]*``)", line)
            parts[::2] = [part.replace("|", r"\|") for part in parts[::2]]
            lines[number] = "".join(parts)


def skip_fields(
    app: Sphinx, what: str, name: str, value: object, skip: bool, options: object
) -> bool | None:
    """Fields of a NamedTuple are in the Attributes of its docstring."""
    return True if type(value).__name__ == "_tuplegetter" else None


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("api", Api)
    app.add_directive("public-names", PublicNames)
    app.connect("missing-reference", resolve)
    app.connect("autodoc-skip-member", skip_fields)
    app.connect("autodoc-process-docstring", keep_bars, priority=900)  # after napoleon
    return {"parallel_read_safe": True, "parallel_write_safe": True}
