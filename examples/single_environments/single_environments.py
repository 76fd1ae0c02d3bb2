# %% Single environments, top to bottom: `torchlpr study single_environments` does the same
from pathlib import Path

from torchlpr import SOAP
from torchlpr.structures.single_environment import cell_variants, environment_spread
from torchlpr.studies import run_study
from torchlpr.studies.single_environments import crystals

# %% Variants of a crystal, and how far their atoms are from sharing one environment
soap = SOAP(cutoff=3.7, max_radial=7, max_angular=8, width=0.5, smoothing=0.1, types=["C"])
for name, crystal in crystals().items():
    spread = environment_spread(soap([crystal, *cell_variants(crystal, 5)]))
    print(name, [f"{value:.1e}" for value in spread.tolist()])

# %% Figure, tables and the verdict
here = Path(__file__).parent if "__file__" in globals() else Path()
print(run_study("single_environments", "single_environments", here / "config.yaml"))
