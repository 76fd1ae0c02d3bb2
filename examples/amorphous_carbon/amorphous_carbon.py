# %% Carbon with as many sp2 as sp3 atoms, and one diamond: `torchlpr study amorphous_carbon`
from pathlib import Path

import numpy as np

from torchlpr import SOAP, AtomBatch, CompositionBaseline, LinearModel, Objective, Rigidity, fit
from torchlpr.structures.coordination import coordination_numbers
from torchlpr.structures.embedded import amorphous_carbon
from torchlpr.studies import run_study
from torchlpr.studies.amorphous_carbon import diamond

# %% Training cells of ratio 1:1, held-out cells of other ratios
equal = [atoms for atoms in amorphous_carbon("train") if atoms.info["class"] == "equal"]
probe = [atoms for atoms in amorphous_carbon("test") if atoms.info["class"] == "other"]
neighbours = np.concatenate([coordination_numbers(atoms, 1.82) for atoms in probe])

# %% The paper's descriptor, and energies relative to the mean
soap = SOAP(cutoff=1.85, max_radial=7, max_angular=8, width=0.5, smoothing=0.1, types=["C"])
base = soap(equal)
baseline = CompositionBaseline.fit(base)
base, crystal, atoms = (baseline.subtract(b) for b in (base, soap([diamond()]), soap(probe)))

# %% A linear model before and after one of its training structures gave way to diamond
objective = Objective(mu=1e-4)
kept = base.select(range(1, base.n_structures))
site = AtomBatch(crystal.features[:1], crystal.types[:1], crystal.structure[:1])
for name, train in (("before", base), ("kept", kept), ("after", AtomBatch.cat([kept, crystal]))):
    model = LinearModel(soap.n_features, soap.types)
    fit(model, train, objective)
    rigidity = Rigidity(model, train, objective)
    lpr = rigidity.local(atoms)
    medians = [f"{k}-fold {float(lpr[neighbours == k].median()):.1e}" for k in (3, 4)]
    print(f"{name}: median LPR {', '.join(medians)}, diamond {float(rigidity.local(site)):.6f}")

# %% Figures, tables and the verdict
here = Path(__file__).parent if "__file__" in globals() else Path()
print(run_study("amorphous_carbon", "amorphous_carbon", here / "config.yaml"))
