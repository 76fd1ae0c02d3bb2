"""Learning curves, from arrays or from the metrics.csv of Lightning's CSVLogger."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from torchlpr.analysis.arrays import Floats, Values
from torchlpr.analysis.figures import class_style
from torchlpr.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

__all__ = ["Quantity", "Series", "learning_curve", "read_metrics"]

Series: TypeAlias = "Mapping[str, tuple[Values, Values]]"
Quantity: TypeAlias = Literal["energy", "force"]

LABELS = {"energy": "RMSE / (eV/atom), loss / eV$^2$", "force": "force RMSE / (eV/Å)"}


def read_metrics(path: str | Path) -> dict[str, tuple[Floats, Floats]]:
    """Read what a training run logged.

    Lightning writes one line for each kind of metric, and leaves the epoch out where it logs the
    learning rate; that line belongs to the next epoch that the file names at a later step.

    Args:
        path: metrics.csv of Lightning's CSVLogger.

    Returns:
        By column name, the epochs (from 0) and the values logged at them.

    Raises:
        InputError: if the file is absent or holds no epochs.
    """
    try:
        with Path(path).open(newline="") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError as error:
        raise InputError(f"there is no file {str(path)!r} to draw a learning curve from") from error
    known = sorted({(int(r["step"]), int(r["epoch"])) for r in rows if r.get("epoch")})
    if not known:
        raise InputError(f"{str(path)!r} has no column 'epoch' with numbers in it")
    steps = np.array([step for step, _ in known])
    series: dict[str, tuple[list[float], list[float]]] = {}
    for row in rows:
        if row["epoch"]:
            epoch = int(row["epoch"])
        else:
            later = int(np.searchsorted(steps, int(row["step"])))
            epoch = known[later][1] if later < len(known) else known[-1][1] + 1
        for name, cell in row.items():
            if cell and name not in {"epoch", "step"}:
                epochs, values = series.setdefault(name, ([], []))
                epochs.append(epoch)
                values.append(float(cell))
    return {name: (np.array(x, dtype=float), np.array(y)) for name, (x, y) in series.items()}


def learning_curve(
    ax: Axes, metrics: Series | str | Path, quantity: Quantity = "energy"
) -> list[Line2D]:
    """Loss and RMSE against the epoch on log scales, the learning rate on a second axis.

    Names with "loss" or "rmse" in them are drawn (RMSE solid, loss dashed; one colour each for
    train, val and test), names that start with "lr" are learning rates, "step length" is drawn as
    one, others are left out.

    Args:
        ax: axes to draw on.
        metrics: by name, the epochs (from 0) and the values, of equal shape; or a metrics.csv.
        quantity: whether errors are those of energies per atom or of forces, for the label.

    Returns:
        The lines, learning rates last.

    Raises:
        InputError: if there is nothing to draw.
    """
    series = read_metrics(metrics) if isinstance(metrics, (str, Path)) else metrics
    errors = [n for n in series if any(key in n.lower() for key in ("loss", "rmse"))]
    errors.sort(key=_stage)
    if not errors:
        raise InputError(f"no loss or RMSE among the metrics {sorted(series)}")
    lines = []
    for name in errors:
        color, _ = class_style(_stage(name))
        style = "--" if "loss" in name.lower() else "-"
        lines.append(_line(ax, name, series[name], color=color, linestyle=style))
    ax.set(xscale="log", yscale="log", xlabel="epoch", ylabel=LABELS[quantity])
    rates = [n for n in series if n.lower().startswith("lr") or _is_rate(n.lower())]
    if rates:
        twin = ax.twinx()
        lines += [_line(twin, n, series[n], color="0.6", linestyle=":") for n in rates]
        step = "step length" in rates
        twin.set(yscale="log", ylabel="step length" if step else "learning rate")
    _plain_epochs(ax)
    # above the axes: curves fall anywhere inside
    labels = [str(line.get_label()) for line in lines]
    ax.legend(
        lines,
        labels,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=3,
        frameon=False,
        fontsize="small",
    )
    return lines


def _line(
    ax: Axes, name: str, series: tuple[Values, Values], *, color: str, linestyle: str
) -> Line2D:
    """One curve; epochs count from 1, which a log axis needs."""
    epochs, values = (np.asarray(part, dtype=float) for part in series)
    if epochs.shape != values.shape:
        raise InputError(f"{name} has {epochs.shape} epochs for {values.shape} values")
    # a diverged run leaves gaps where its values are not finite
    return ax.plot(epochs + 1, values, color=color, linestyle=linestyle, linewidth=1.5, label=name)[
        0
    ]


def _is_rate(name: str) -> bool:
    return "learning_rate" in name or name == "step length"


def _stage(name: str) -> int:
    """Number of the colour of train, validation, test and anything else."""
    stages = ("train", "val", "test")
    return next((k for k, stage in enumerate(stages) if stage in name.lower()), len(stages))


def _plain_epochs(ax: Axes) -> None:
    """Write epochs as 1, 10, 100, and those between only while there are fewer than ten."""
    short = ax.get_xlim()[1] < 10
    ax.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
    ax.xaxis.set_minor_formatter(lambda x, _: f"{x:g}" if short else "")
