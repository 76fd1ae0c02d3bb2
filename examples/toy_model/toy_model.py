# %% The toy model, top to bottom: `torchlpr study toy_model --config config.yaml` does the same
from pathlib import Path

import numpy as np

from torchlpr import LinearModel, Objective, Rigidity
from torchlpr.studies import run_study
from torchlpr.studies.toy_data import ToyData, points, radial_basis
from torchlpr.training.constrained import minimise, retrain

# %% Eight groups of five inputs; only the sum of the truth over a group is known
data = ToyData.draw()
train = data.train(radial_basis)
objective = Objective(mu=1e-4)
model = minimise(LinearModel(train.features.shape[1], [1]), train, objective)

# %% Rigidity of every input, and what it means: the loss after moving one prediction by eps
lpr = Rigidity(model, train, objective).local(train)
weakest = int(lpr.argmin())
atom = points(np.ravel(data.x)[[weakest]], radial_basis)
for eps in (0.1, 1.0):
    rise = retrain(model, train, objective, atom, eps).rise
    print(f"eps {eps}: loss rises by {rise:.6e}, LPR eps^2/2 is {lpr[weakest] * eps**2 / 2:.6e}")

# %% Figures, tables and the verdict
here = Path(__file__).parent if "__file__" in globals() else Path()
print(run_study("toy_model", "toy_model", here / "config.yaml"))
