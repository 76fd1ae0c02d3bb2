"""Two figures of the study of carbon with first-principles energies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from torchlpr.analysis.figures import class_style, figure, save_figure
from torchlpr.analysis.plots_fit import parity
from torchlpr.descriptors.soap import SOAP
from torchlpr.pipeline.figures import have_plots
from torchlpr.structures.batch import AtomBatch
from torchlpr.studies.carbon_data import CarbonSets
from torchlpr.studies.exchange_results import HeadResult
from torchlpr.studies.report import write_table

__all__ = ["similarity_figure", "transfer_figure"]

BINS = 60


def similarity_figure(path: Path, soap: SOAP, train: AtomBatch, sets: CarbonSets) -> None:
    """How alike the training environments are to diamond and to graphite, as in Fig. S19.

    Args:
        path: of the figure and the table, without ending.
        soap: descriptor with normalised features.
        train: the training environments.
        sets: with the crystals.
    """
    edges = np.linspace(0, 1, BINS + 1)
    columns = {"from": edges[:-1].tolist(), "to": edges[1:].tolist()}
    for name, crystals in (("diamond", sets.diamond_like), ("graphite", sets.graphite_like)):
        lowest = min(crystals, key=lambda f: f.get_potential_energy() / len(f))
        crystal = soap([lowest]).features
        similarity = (train.features @ crystal.mT).square().max(dim=1).values
        counts, _ = np.histogram(similarity.clamp(0, 1).numpy(), edges)
        columns[name] = (counts / counts.sum()).tolist()
    write_table(path.with_suffix(".csv"), columns)
    if not have_plots():
        return
    fig, axes = figure()
    for number, name in enumerate(("diamond", "graphite")):
        color, _ = class_style(number)
        axes[0, 0].stairs(columns[name], edges, color=color, fill=True, alpha=0.5, label=name)
    axes[0, 0].set(xlabel="kernel similarity (x · x')$^2$", ylabel="share of training atoms")
    axes[0, 0].legend(frameon=False, loc="upper left")
    save_figure(fig, path.with_suffix(".png"))


def transfer_figure(path: Path, result: HeadResult, test: str) -> None:
    """Energies that every model predicts for structures unlike its training set, as in Fig. S18.

    Args:
        path: of the figure and the table, without ending.
        result: of one head.
        test: name of the held-out set.
    """
    batch = result.held_out[test]
    reference = batch.labels()
    predicted = {}
    for name, stage in result.stages.items():
        with torch.no_grad():
            predicted[name] = stage.rigidity.model(batch.features, batch.types)
    columns = {"reference": reference.tolist()} | {k: v.tolist() for k, v in predicted.items()}
    write_table(path.with_suffix(".csv"), columns)
    if have_plots():
        _draw_transfer(path.with_suffix(".png"), f"{test}, {result.head}", reference, predicted)


def _draw_transfer(
    path: Path, title: str, reference: Tensor, predicted: Mapping[str, Tensor]
) -> None:
    fig, axes = figure(panel=(6.2, 4.4))
    ax = axes[0, 0]
    parity(ax, {name: (reference, values) for name, values in predicted.items()})
    # beside the axes: a model that knows no surfaces is anywhere
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, title="trained on")
    ax.set_title(f"{title}: energies less the training mean", fontsize="medium")
    save_figure(fig, path)
