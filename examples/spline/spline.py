# %% A function learned from its sums, top to bottom: `torchlpr study spline` does the same
from pathlib import Path

import torch

from torchlpr import BehlerParrinelloMLP, Objective, Rigidity, fit
from torchlpr.descriptors.scalar import ScalarFunctions
from torchlpr.studies import run_study
from torchlpr.studies.spline_data import UPPER, spline

# %% x is seen through eight radial symmetry functions; only sums of f at five x are known
encode = ScalarFunctions(0.0, UPPER, n_features=8, width=0.6, cutoff=7.0)
x = UPPER * torch.rand(100, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
knots = encode.grid(7)
grid = encode(knots[:, None])

# %% Two sums are learned and say nothing of f, a hundred say all; rigidity tells which is which
for n in (2, 100):
    train = encode(x[:n], spline(x[:n]).sum(1))
    model = BehlerParrinelloMLP(8, [1], (30, 30), "sigmoid", bias=True, seed=0)
    objective = Objective(mu=n * 1e-6)
    print(f"N = {n}, {fit(model, train, objective, 'lm', progress=False)}")
    lpr = Rigidity(model, train, objective).local(grid)
    found = model(grid.features, grid.types).tolist()
    for at, f, y, rigidity in zip(knots, spline(knots), found, lpr, strict=True):
        print(f"  x = {at:.0f}: f {f:.2f}, network {y:.2f}, LPR {rigidity:.1e}")

# %% Figures, tables and the verdict
here = Path(__file__).parent if "__file__" in globals() else Path()
print(run_study("spline", "spline", here / "config.yaml"))
