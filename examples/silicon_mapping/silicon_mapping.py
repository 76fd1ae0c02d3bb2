# %% Slabs of one thickness map energies to atoms ad hoc: `torchlpr study silicon_mapping` has more
from pathlib import Path

import torch

from torchlpr import AtomBatch, CompositionBaseline, InvariantPointMonitor, LinearModel, Objective
from torchlpr.descriptors.soap import SOAP
from torchlpr.structures.stillinger_weber import CUTOFF
from torchlpr.studies import run_study
from torchlpr.studies.silicon_structures import rattled, slab, strained_crystals
from torchlpr.training import energy_rmse, fit

# %% Slabs with 56 bulk-like and 8 surface atoms each, labelled by the Stillinger-Weber potential
soap = SOAP(cutoff=CUTOFF, max_radial=5, max_angular=6, width=0.5, smoothing=0.5, types=["Si"])
slabs = soap(rattled([slab(16)], 80, amplitude=0.05, seed=0))
baseline = CompositionBaseline.fit(slabs)
slabs = baseline.subtract(slabs)
train, test = slabs.select(range(60)), slabs.select(range(60, 80))

# %% Invariant points: crystals of a single environment, whose atomic energy is E/n by symmetry
points = baseline.subtract(soap(strained_crystals(4)))
objective = Objective(mu=1e-6)
monitor = InvariantPointMonitor(train, points, objective)

# %% Totals of slabs are right, crystals are wrong, and the monitor says what to add
for added in (None, points.select([0])):
    if added is None:
        used, labels = train, monitor.labels
    else:
        used = AtomBatch.cat([train.select(range(59)), added])
        labels = torch.cat([monitor.labels[: 59 * 64], torch.tensor([-1, -1])])
    model = LinearModel(soap.n_features, ["Si"])
    fit(model, used, objective)
    print(f"held-out slabs: {1e3 * energy_rmse(model, test):.2f} meV/atom")
    print(f"crystals:       {1e3 * energy_rmse(model, points):.2f} meV/atom")
    print(InvariantPointMonitor(used, points, objective, labels=labels).report(model))

# %% Figures, tables and the verdict
here = Path(__file__).parent if "__file__" in globals() else Path()
print(run_study("silicon_mapping", "silicon_mapping", here / "config.yaml"))
