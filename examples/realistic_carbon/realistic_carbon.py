# %% Carbon with PBE energies, and its surfaces: `torchlpr study realistic_carbon` does the same
from pathlib import Path

import numpy as np

from torchlpr import SOAP, AtomBatch, CompositionBaseline, LinearModel, Objective, Rigidity, fit
from torchlpr.studies import run_study
from torchlpr.studies.carbon_data import CarbonSets, surface_classes
from torchlpr.training import energy_rmse

# %% Dense bulk structures to train on; slabs to be judged by (the folder TORCHLPR_DATA has them)
sets = CarbonSets.read(seed=0)
surface = np.array(surface_classes(sets.slabs)) == "surface"
soap = SOAP(
    cutoff=3.7, max_radial=7, max_angular=8, width=0.5, smoothing=0.1, types=["C"], normalize=True
)
base = soap(sets.dense)
baseline = CompositionBaseline.fit(base)
base, thin, slabs = (baseline.subtract(b) for b in (base, soap(sets.thin[:3]), soap(sets.slabs)))

# %% Three structures of low density in place of as many: errors and rigidities at the surface
objective = Objective(mu=1e-4)
kept = base.select(range(3, base.n_structures))
for name, train in (("dense", base), ("with three thin ones", AtomBatch.cat([kept, thin]))):
    model = LinearModel(soap.n_features, soap.types)
    fit(model, train, objective)
    lpr = Rigidity(model, train, objective).local(slabs)
    medians = [float(lpr[where].median()) for where in (surface, ~surface)]
    error = 1000 * energy_rmse(model, slabs)
    print(
        f"{name}: slabs {error:.0f} meV/atom, LPR surface {medians[0]:.2e}, core {medians[1]:.2e}"
    )

# %% Figures, tables and the verdict
here = Path(__file__).parent if "__file__" in globals() else Path()
print(run_study("realistic_carbon", "realistic_carbon", here / "config.yaml"))
