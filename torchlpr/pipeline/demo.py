"""``torchlpr demo``: the first case study of the rigidity paper, in small, on embedded silicon.

Source: Chong et al., J. Chem. Theory Comput. 19, 8020 (2023), doi:10.1021/acs.jctc.3c00704.
"""

from __future__ import annotations

import copy
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from torchlpr.analysis.chemiscope_file import write_chemiscope
from torchlpr.analysis.maps import principal_components
from torchlpr.bars import bar
from torchlpr.descriptors.soap import SOAP
from torchlpr.export import Run
from torchlpr.files import make_folder
from torchlpr.models import BehlerParrinelloMLP, LinearInParameters, SparseKernelModel
from torchlpr.models.inducing import select_inducing
from torchlpr.objective import Objective
from torchlpr.pipeline.demo_data import Cells, silicon_cells
from torchlpr.pipeline.demo_figures import demo_figures
from torchlpr.pipeline.demo_report import DemoReport, Draw, HeadReport, Stage
from torchlpr.pipeline.figures import have_plots
from torchlpr.pipeline.fit import write_json
from torchlpr.rigidity import Rigidity
from torchlpr.structures.batch import AtomBatch
from torchlpr.structures.io import write
from torchlpr.training import FitResult, LMSettings, energy_rmse, fit
from torchlpr.training.errors import energy_errors
from torchlpr.training.grid_search import search_mu

__all__ = ["demo_run"]

N_INDUCING = 500
MLP_GRID = (1e-3, 1e-4, 1e-5)
LM_STEPS, NEWTON_STEPS = 100, 300
DECADES = range(-3, 4)
DRAWS = 11


def demo_run(out: str | Path, seed: int = 0, progress: bool = True) -> DemoReport:
    """Train without and with defects in the training set, and compare the rigidities.

    Args:
        out: folder for checkpoints, structures, figures and summary.json.
        seed: seed of the replaced cells and of the network's weights.
        progress: whether to show bars.

    Returns:
        The report, to print.
    """
    start = time.perf_counter()
    folder = make_folder(out)
    # the paper's SOAP for amorphous silicon
    soap = SOAP(cutoff=2.85, max_radial=9, max_angular=12, width=0.5, smoothing=0.1, types=["Si"])
    cells = silicon_cells(soap)
    kernel = SparseKernelModel(select_inducing(cells.pool, N_INDUCING))
    mlp = BehlerParrinelloMLP(soap.n_features, soap.types, seed=seed)
    coordinates, explained = principal_components(cells.test_defect.features)
    reports, draw = [], seed
    for name, model in (("kernel", kernel), ("mlp", mlp)):
        report = _study(name, model, soap, cells, draw, folder / name, progress)
        draw = report.draw  # the network meets the cells that were typical for the kernel model
        reports.append(report)
        if have_plots():
            demo_figures(folder / name, report, coordinates, explained)
            _chemiscope(folder / f"{name}.json.gz", report, cells, coordinates, soap.cutoff)
    whole = DemoReport(reports, time.perf_counter() - start, str(folder))
    write_json(folder / "summary.json", whole.as_dict())
    return whole


def _study(
    name: str, model: nn.Module, soap: SOAP, cells: Cells, draw: int, folder: Path, progress: bool
) -> HeadReport:
    """One head: mu by validation on the first set, then both sets at that mu."""
    options: dict[str, Any] = {
        "progress": progress,
        "lm_settings": LMSettings(LM_STEPS, newton_steps=NEWTON_STEPS),
    }
    linear = isinstance(model, LinearInParameters)
    first, second = model, copy.deepcopy(model)
    grid = None if linear else MLP_GRID
    unused = Objective(mu=1.0)
    search = search_mu(
        first, cells.before, cells.validation, unused, grid, rule="one-standard-error", **options
    )
    objective = Objective(search.best)
    before = _stage("before", first, cells.before, objective, search.result, soap, cells, folder)
    draws: list[Draw] = []
    if linear:  # a fit costs nothing: look at several draws, and show a typical one
        with bar(DRAWS, "random choices", "fit", None if progress else False) as shown:
            for seed in range(draw, draw + DRAWS):
                draws.append(_draw(seed, copy.deepcopy(model), objective, before, cells))
                shown.update()
        draw = sorted(draws, key=lambda d: d.rmse_change)[(DRAWS - 1) // 2].seed
    train = cells.after(draw)
    result = fit(second, train, objective, **options)
    after = _stage("after", second, train, objective, result, soap, cells, folder)
    mus = tuple(search.best * 10.0**k for k in DECADES)
    scan = None
    if linear:  # gradients do not depend on the weights
        scan = (
            Rigidity(first, cells.before, objective).sweep(cells.test_defect, mus).rigidity,
            Rigidity(second, train, objective).sweep(cells.test_defect, mus).rigidity,
        )
    return HeadReport(name, search, before, after, cells.classes, draw, draws, mus, scan)


def _draw(seed: int, model: nn.Module, objective: Objective, before: Stage, cells: Cells) -> Draw:
    """Effect of one random choice of the replaced cells."""
    train = cells.after(seed)
    fit(model, train, objective)
    lpr = Rigidity(model, train, objective).local(cells.test_defect)
    change = energy_rmse(model, cells.test_free) / before.rmse["no defects"] - 1
    wrong = torch.from_numpy(cells.miscoordinated)
    old = before.prediction.lpr
    return Draw(
        seed,
        float(lpr[wrong].median() / old[wrong].median()),
        float(lpr[~wrong].median() / old[~wrong].median()),
        change,
    )


def _stage(
    stage: str,
    model: nn.Module,
    train: AtomBatch,
    objective: Objective,
    result: FitResult,
    soap: SOAP,
    cells: Cells,
    folder: Path,
) -> Stage:
    """A fitted model with its run, its files and its predictions for the cells with defects."""
    held_out = {"no defects": cells.test_free, "defects": cells.test_defect}
    rmse = {"train": result.rmse} | {k: energy_rmse(model, b) for k, b in held_out.items()}
    metrics = {"mu": objective.mu, "optimizer": result.optimizer, "rmse": rmse}
    rigidity = Rigidity(model, train, objective)
    run = Run(soap, cells.baseline, rigidity, result.stationarity, metrics)
    run.save(make_folder(folder) / f"{stage}.pt")
    prediction = run.predict(cells.frames)
    write(folder / f"{stage}.xyz", cells.frames, **prediction.per_atom())
    energies = {}
    for name, batch in held_out.items():
        reference = (batch.labels() + cells.baseline.totals(batch)) / batch.counts
        energies[name] = (reference, reference + energy_errors(model, batch))
    return Stage(rmse, energies, result, prediction)


def _chemiscope(
    path: Path, report: HeadReport, cells: Cells, coordinates: Tensor, cutoff: float
) -> None:
    """Both rigidities of every atom, to click through."""
    after = report.after.prediction
    write_chemiscope(
        path,
        cells.frames,
        {
            "lpr": after.lpr,
            "lpr_before": report.before.prediction.lpr,
            "lpr_mu_fraction": after.lpr_mu_fraction,
            "local_energy": after.local_energies,
            "class": cells.classes,
        },
        map_coordinates=coordinates,
        cutoff=cutoff,
        name=f"Rigidity of silicon atoms, {report.name} model",
    )
