# %% Gallium arsenide of one composition, and others: `torchlpr study binary_composition`
from pathlib import Path

from torchlpr import SOAP, AtomBatch, LinearModel, Objective, Rigidity, fit, offset_rigidity
from torchlpr.structures.embedded import gallium_arsenide
from torchlpr.studies import run_study

# %% Liquids with as many Ga as As atoms, and pure gallium
frames = gallium_arsenide("train")
equal = [atoms for atoms in frames if (atoms.numbers == 31).mean() == 0.5][:60]
gallium = [atoms for atoms in frames if (atoms.numbers == 31).all()][:6]

# %% The paper's descriptor: each species has weights of its own
scaling = {"exponent": 2, "rate": 0.8, "scale": 2.0}
soap = SOAP(
    cutoff=5.0, max_radial=7, max_angular=4, width=0.3, smoothing=0.5,
    types=["Ga", "As"], radial_scaling=scaling,
)  # fmt: skip
base, pure = soap(equal), soap(gallium)

# %% Nothing tells the energies of the species apart until a composition differs
objective = Objective(mu=1e-4)
train = {"1:1 only": base, "6 of 60 pure Ga": AtomBatch.cat([base.select(range(6, 60)), pure])}
for name, batch in train.items():
    model = LinearModel(soap.n_features, soap.types)
    fit(model, batch, objective)
    rigidity = Rigidity(model, batch, objective)
    offset = offset_rigidity(rigidity, base, base.types)
    lpr = rigidity.local(base)
    for symbol, number in (("Ga", 31), ("As", 33)):
        print(f"{name}: median LPR of {symbol} {float(lpr[base.types == number].median()):.1e}")
    print(f"{name}: rigidity of the offset {float(offset.rigidity[0]):.1e} / eV^2")

# %% Figures, tables and the verdict
here = Path(__file__).parent if "__file__" in globals() else Path()
print(run_study("binary_composition", "binary_composition", here / "config.yaml"))
