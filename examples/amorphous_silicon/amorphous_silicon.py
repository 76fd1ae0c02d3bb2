# %% Silicon without and with defects: `torchlpr study amorphous_silicon` does the same
from pathlib import Path

import numpy as np

from torchlpr import SOAP, AtomBatch, CompositionBaseline, LinearModel, Objective, Rigidity, fit
from torchlpr.structures.embedded import amorphous_silicon
from torchlpr.studies import run_study

# %% Cells in which all atoms have four neighbours, and cells in which some have not
frames = {
    name: [atoms for atoms in amorphous_silicon("train") if atoms.info["class"] == name]
    for name in ("defect_free", "defect_containing")
}
probe = [a for a in amorphous_silicon("test") if a.info["class"] == "defect_containing"]
coordination = np.concatenate([atoms.arrays["coordination"] for atoms in probe])

# %% The paper's descriptor, and energies relative to the mean
soap = SOAP(cutoff=2.85, max_radial=9, max_angular=12, width=0.5, smoothing=0.1, types=["Si"])
base = soap(frames["defect_free"])
baseline = CompositionBaseline.fit(base)
base, defects, atoms = (
    baseline.subtract(batch)
    for batch in (base, soap(frames["defect_containing"][:14]), soap(probe))
)

# %% A linear model before and after a tenth of its training set gave way to cells with defects
objective = Objective(mu=4.5e-9)
keep = range(len(defects.counts), base.n_structures)
for name, train in (("before", base), ("after", AtomBatch.cat([base.select(keep), defects]))):
    model = LinearModel(soap.n_features, soap.types)
    print(f"{name}: {fit(model, train, objective)}")
    lpr = Rigidity(model, train, objective).local(atoms)
    for number in (3, 4, 5):
        print(
            f"  {number} neighbours: median LPR {lpr[coordination == number].median():.1e} / eV^2"
        )

# %% Figures, tables and the verdict
here = Path(__file__).parent if "__file__" in globals() else Path()
print(run_study("amorphous_silicon", "amorphous_silicon", here / "config.yaml"))
