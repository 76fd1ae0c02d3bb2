"""What the strength of the regulariser does: to errors, evidence, free weights and rigidities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from torchlpr.analysis.arrays import Floats, Values, as_floats, as_rigidity
from torchlpr.analysis.figures import LPR_LABEL, class_style
from torchlpr.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_regulariser"]

DECADE = 0.1
MU_LABEL = "μ / eV$^2$"


def plot_regulariser(
    axes: Sequence[Axes],
    mus: Values,
    errors: Mapping[str, Values],
    log_evidence: Values,
    effective_dof: Values,
    lpr: Values,
    *,
    chosen: float | None = None,
) -> None:
    """Four panels over mu on a log scale: what rules choose by, and what the choice changes.

    Args:
        axes: four of them: errors, evidence, effective degrees of freedom, rigidity.
        mus: strengths of the L2 term, positive, in eV^2 per squared weight unit, shape (mus,).
        errors: by name (training, leave-one-out, validation), the RMSE of the energy per atom in
            eV, shape (mus,) each.
        log_evidence: logarithm of the evidence in nats, shape (mus,), drawn from its largest
            value down; where it is infinite nothing is drawn.
        effective_dof: effective degrees of freedom, shape (mus,).
        lpr: 5, 50 and 95 % quantiles of the LPR in eV^-2, shape (mus, 3).
        chosen: the strength in use, marked by a line.

    Raises:
        InputError: if there are not four axes or shapes disagree.
    """
    if len(axes) != 4:
        raise InputError(f"four axes are needed, not {len(axes)}; make them by figure(2, 2)")
    strengths = as_rigidity(mus, "mu")
    order, n = np.argsort(strengths), len(strengths)
    x = strengths[order]
    quantiles = as_floats(lpr, "lpr", length=n, ndim=2)[order]
    if quantiles.shape[1] != 3:
        raise InputError(f"lpr needs three quantiles at each mu, not {quantiles.shape[1]}")
    curves = {k: as_floats(y, f"error of {k}", length=n)[order] for k, y in errors.items()}
    for number, (name, y) in enumerate(curves.items()):
        color, marker = class_style(number)
        axes[0].plot(x, y, color=color, marker=marker, markersize=4, label=name)
    _curve(axes[1], x, _below_largest(log_evidence, n)[order])
    _curve(axes[2], x, as_floats(effective_dof, "effective_dof", length=n)[order])
    color, _ = class_style(0)
    low, _, high = quantiles.T
    axes[3].fill_between(x, low, high, color=color, alpha=0.2, linewidth=0, label="5 to 95 %")
    _curve(axes[3], x, quantiles[:, 1], "median")
    if chosen is not None:
        for ax in axes:
            label = f"chosen μ = {chosen:.3g}" if ax is axes[0] else None
            ax.axvline(chosen, color="0.4", linestyle="--", linewidth=1.2, label=label)
    for ax, label in zip(
        axes,
        (
            "RMSE / (eV/atom)",
            "ln evidence − largest / nat",
            "effective degrees of freedom",
            LPR_LABEL,
        ),
        strict=True,
    ):
        ax.set(xscale="log", xlabel=MU_LABEL, ylabel=label)
    for ax in (axes[0], axes[3]):
        ax.set_yscale("log")
        # above the axes: curves may lie anywhere inside
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)
    axes[0].set_ylim(bottom=_floor(list(curves.values())))


def _curve(ax: Axes, x: Floats, y: Floats, label: str | None = None) -> None:
    color, marker = class_style(0)
    ax.plot(x, y, color=color, marker=marker, markersize=4, label=label)


def _floor(curves: Sequence[Floats]) -> float | None:
    """Where to end: a training error that falls to nothing would hide what the others do."""
    lowest = sorted(float(y.min()) for y in curves)
    if len(lowest) < 2 or lowest[1] <= 0 or lowest[0] > DECADE * lowest[1]:
        return None
    return DECADE * lowest[1]


def _below_largest(log_evidence: Values, length: int) -> Floats:
    """Differences from the largest finite value; infinite ones are not drawn."""
    values = np.asarray(log_evidence, dtype=np.float64)
    known = np.isfinite(values)
    finite = as_floats(np.where(known, values, 0.0), "log_evidence", length=length)
    return np.where(known, finite - finite[known].max(initial=-np.inf), np.nan)
