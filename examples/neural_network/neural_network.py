# %% The network of the paper at a minimum: `torchlpr study neural_network` does the same, and more
from pathlib import Path

from torchlpr import (
    SOAP,
    BehlerParrinelloMLP,
    CompositionBaseline,
    Objective,
    Rigidity,
    fit,
)
from torchlpr.studies import run_study
from torchlpr.studies.carbon_data import CarbonSets
from torchlpr.studies.deep_linear import ridge_rigidity
from torchlpr.studies.neural_network import low_density_film
from torchlpr.training import AdamSettings

# %% Bulk structures to train on; a film to look at (the folder TORCHLPR_DATA has them)
sets = CarbonSets.read(seed=0)
soap = SOAP(
    cutoff=3.7, max_radial=7, max_angular=8, width=0.5, smoothing=0.1, types=["C"], normalize=True
)
parts = sets.bulk[90:130], sets.bulk[60:90], [low_density_film(sets.slabs)]
train, validation, film = (soap(frames) for frames in parts)
baseline = CompositionBaseline.fit(train)
train, validation, film = (baseline.subtract(b) for b in (train, validation, film))

# %% Three networks: at a minimum, stopped early, and without activation functions
objective = Objective(mu=1e-3)
early = {"settings": AdamSettings(25_000, early_stopping=100), "validation": validation}
for name, activation, options in (
    ("converged", "sigmoid", {}),
    ("early-stopped", "sigmoid", early),
    ("linear", "linear", {}),
):
    model = BehlerParrinelloMLP(soap.n_features, soap.types, activation=activation, seed=0)
    print(f"{name}: {fit(model, train, objective, progress=False, **options)}")
    lpr = Rigidity(model, train, objective).local(film)
    print(f"median LPR of the film {float(lpr.median()):.2e} eV^-2")

# %% The last is ridge regression in other features
ridge = ridge_rigidity(model, train, objective, film)
print(f"largest difference {float((lpr / ridge - 1).abs().max()):.1e}")

# %% Figures, tables and the verdict
here = Path(__file__).parent if "__file__" in globals() else Path()
print(run_study("neural_network", "neural_network", here / "config.yaml"))
