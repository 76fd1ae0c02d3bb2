"""Can a network infer f from sums of f? Yoo et al. 2019, Fig. S4, with the rigidity of every f(x).

python examples/spline/study.py --out spline
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from torchlpr.analysis.figures import class_style, figure, save_figure
from torchlpr.files import atomic_path, make_folder
from torchlpr.pipeline.spline import SplineFit, SplineSettings, spline_fits

# %% the limits of the claim: few sums say nothing of f, many say all, and the rigidity tells them
# apart while the training error does not


def acceptance(fits: Sequence[SplineFit]) -> dict[str, bool]:
    """What the study has to show, seed by seed.

    Args:
        fits: any; claims on sizes that are absent are left out.

    Returns:
        Each claim, and whether it holds for every seed.
    """
    spread = float(fits[0].truth.std(correction=0))
    claims = {}
    if few := [fit for fit in fits if fit.size <= 2]:
        claims["N <= 2: RMSE of f over 0.7 std f"] = min(f.rmse for f in few) > 0.7 * spread
        error = max(f.train_rmse for f in few)
        claims["N <= 2: RMSE of the training sums under 1e-3"] = error < 1e-3
    if many := [fit for fit in fits if fit.size >= 50]:
        claims["N >= 50: RMSE of f under 0.02 std f"] = max(f.rmse for f in many) < 0.02 * spread
    lpr = [[float(f.lpr.median()) for f in fits if f.size == size] for size in (2, 100)]
    if all(lpr):
        claims["median LPR rises a thousandfold from N = 2 to 100"] = min(lpr[1]) > 1e3 * max(
            lpr[0]
        )
    return claims


# %% figures


def panels(fits: Sequence[SplineFit]) -> Any:
    """f(x) of one seed for every number of sums, as in Fig. S4.

    Args:
        fits: of one seed.

    Returns:
        The figure.
    """
    rows = -(-len(fits) // 2)
    fig, axes = figure(rows, 2, panel=(4.4, 2.4))
    blue, orange = class_style(0)[0], class_style(1)[0]
    low = min(float(fit.truth.min()) for fit in fits) - 0.5
    for ax, fit in zip(axes.flat, fits, strict=False):
        ax.plot(fit.x, fit.truth, color="0.2", linestyle="--", linewidth=1.2, label="f")
        ax.plot(fit.x, fit.prediction, color=blue, linewidth=1.6, label="network")
        ax.plot(fit.train_x, np.full(len(fit.train_x), low), "|", color=orange, markersize=7)
        ax.set(ylim=(low - 0.1, 1.7), ylabel="f(x)")
        ax.set_title(
            f"N = {fit.size}: RMSE of f {fit.rmse:.2g}, median LPR {float(fit.lpr.median()):.2g}",
            fontsize="medium",
        )
    for ax in axes[-1] if len(fits) % 2 == 0 else (axes[-1, 0], axes[-2, 1]):
        ax.set_xlabel("x")
    axes[0, 0].legend(loc="upper center", frameon=False, ncols=2)
    for ax in axes.flat[len(fits) :]:
        ax.axis("off")
        text = (
            "orange marks: the x in the training sums;\nf itself is never shown to the network,\n"
        )
        text += "only sums of it at five random x"
        ax.text(0.05, 0.5, text, va="center", transform=ax.transAxes)
    return fig


def convergence(fits: Sequence[SplineFit]) -> Any:
    """Errors and rigidity against the number of sums.

    Args:
        fits: all of them.

    Returns:
        The figure.
    """
    fig, (row,) = figure(1, 2)
    sizes = sorted({fit.size for fit in fits})
    curves = [
        ("rmse", "f(x)"), ("test_rmse", "test sums"), ("train_rmse", "training sums"),
    ]  # fmt: skip
    for number, (name, label) in enumerate(curves):
        values = np.array([[getattr(f, name) for f in fits if f.size == n] for n in sizes])
        _band(row[0], sizes, values, number, label)
    row[0].set(ylabel="RMSE")
    lpr = np.array([np.concatenate([f.lpr for f in fits if f.size == n]) for n in sizes])
    color, marker = class_style(0)
    low, middle, high = np.percentile(lpr, [25, 50, 75], axis=1)
    row[1].fill_between(sizes, low, high, color=color, alpha=0.2, linewidth=0)
    row[1].plot(sizes, middle, color=color, marker=marker, markersize=4, label="median, quartiles")
    row[1].set(ylabel="LPR of f(x)")
    for ax in row:
        ax.set(xscale="log", yscale="log", xlabel="number of training sums N")
        ax.set_xticks(sizes, [str(n) for n in sizes])
        ax.minorticks_off()
        ax.legend(frameon=False)
    return fig


def _band(ax: Any, sizes: list[int], values: Any, number: int, label: str) -> None:
    """Median of the seeds, and their extremes as a band."""
    color, marker = class_style(number)
    ax.fill_between(sizes, values.min(1), values.max(1), color=color, alpha=0.2, linewidth=0)
    ax.plot(sizes, np.median(values, 1), color=color, marker=marker, markersize=4, label=label)


# %% the run


def run(
    out: str | Path, settings: SplineSettings | None = None, progress: bool = True
) -> dict[str, bool]:
    """Train all networks, write figures and tables.

    Args:
        out: folder for panels.png, convergence.png, spline.csv and curves.csv.
        settings: of the study.
        progress: whether to show a bar.

    Returns:
        What the study has to show, and whether it does.
    """
    folder = Path(out)
    make_folder(folder)
    fits = spline_fits(settings, progress)
    first = [fit for fit in fits if fit.seed == fits[0].seed]
    write_csv(folder / "spline.csv", [fit.as_row() for fit in fits])
    curves = [
        {"size": fit.size, "x": x, "f": f, "network": y, "lpr": lpr}
        for fit in first
        for x, f, y, lpr in zip(
            *(t.tolist() for t in (fit.x, fit.truth, fit.prediction, fit.lpr)), strict=True
        )
    ]
    write_csv(folder / "curves.csv", curves)
    save_figure(panels(first), folder / "panels.png")
    save_figure(convergence(fits), folder / "convergence.png")
    return acceptance(fits)


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write a table, whole or not at all."""
    with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(
            {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default=Path(__file__).with_name("config.yaml"))
    parser.add_argument("--out", default="spline")
    words = parser.parse_args()
    given = yaml.safe_load(Path(words.config).read_text())
    for claim, holds in run(words.out, SplineSettings(**given)).items():
        print(f"{'yes' if holds else 'NO '}  {claim}")
