"""Figures leave no trace: nothing global set, no half file, no import of what is not used."""

import subprocess
import sys
from pathlib import Path

import pytest

import torchlpr.analysis
from torchlpr.analysis.figures import class_style, figure, save_figure
from torchlpr.errors import InputError, MissingExtraError
from torchlpr.extras import require

MODULES = [
    path.stem
    for path in Path(torchlpr.analysis.__file__).parent.glob("*.py")
    if path.stem != "__init__"
]

# torchlpr itself imports Lightning, whose torchmetrics imports pyplot; the analysis alone must not
ALONE = (
    "import sys, types, importlib\n"
    "package = types.ModuleType('torchlpr')\n"
    f"package.__path__ = {[str(Path(torchlpr.analysis.__file__).parents[1])]!r}\n"
    "sys.modules['torchlpr'] = package\n"
)


def test_importing_analysis_imports_no_extra():
    code = ALONE + f"for m in {MODULES}: importlib.import_module('torchlpr.analysis.' + m)\n"
    code += "print([m for m in ('matplotlib', 'chemiscope') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_plots_leave_matplotlib_as_it_was():
    pytest.importorskip("matplotlib")
    code = ALONE + (
        "import matplotlib, numpy as np\n"
        "from torchlpr.analysis.figures import figure\n"
        "from torchlpr.analysis.plots_maps import map_by_lpr\n"
        "from torchlpr.analysis.plots_change import lpr_before_after\n"
        # reading rcParams["backend"] would itself import pyplot
        "before = matplotlib.rcParams.copy()\n"
        "fig, axes = figure(1, 2)\n"
        "map_by_lpr(axes[0, 0], np.eye(3), np.arange(1, 4))\n"
        "lpr_before_after(axes[0, 1], [1, 2], [2, 3], ['a', 'b'])\n"
        "fig.canvas.draw()\n"
        "after = matplotlib.rcParams.copy()\n"
        "changed = [k for k in dict.keys(before) if before._get(k) != after._get(k)]\n"
        "assert not changed, changed\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_figure_has_the_panels_asked_for():
    pytest.importorskip("matplotlib")
    fig, axes = figure(2, 3, panel=(2, 1.5))
    assert axes.shape == (2, 3)
    assert tuple(fig.get_size_inches()) == (6, 3)
    assert len({class_style(k) for k in range(32)}) == 32


def test_saving_is_whole_or_not_at_all(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    fig, _ = figure()
    path = save_figure(fig, tmp_path / "new" / "a.png")
    data = path.read_bytes()
    assert data[:4] == b"\x89PNG"
    # 150 dots an inch
    assert int.from_bytes(data[16:20], "big") == 660

    def fail(name, **_):
        name.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(fig, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        save_figure(fig, path)
    assert path.read_bytes() == data
    assert [p.name for p in path.parent.iterdir()] == ["a.png"]
    with pytest.raises(InputError, match="png"):
        save_figure(fig, tmp_path / "a.gif")


def test_absent_matplotlib_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"matplotlib is not .*torchlpr\[plots\]"):
        figure()


def test_a_broken_package_is_not_called_absent(tmp_path, monkeypatch):
    (tmp_path / "halfpackage.py").write_text("import surely_not_installed_here\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="surely_not"):
        require("halfpackage")
