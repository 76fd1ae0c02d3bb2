"""Local prediction rigidity: which atomic energies does a training set pin down?"""

from torchlpr.committee import Committee
from torchlpr.descriptors.soap import SOAP
from torchlpr.errors import InputError
from torchlpr.export import load
from torchlpr.models import (
    BehlerParrinelloMLP,
    CompositionBaseline,
    LinearModel,
    SparseKernelModel,
)
from torchlpr.objective import Objective
from torchlpr.rigidity import Rigidity, prediction_rigidity
from torchlpr.structures.batch import AtomBatch
from torchlpr.structures.io import read, write
from torchlpr.training import fit

__version__ = "0.1.0"

__all__ = [
    "SOAP",
    "AtomBatch",
    "BehlerParrinelloMLP",
    "Committee",
    "CompositionBaseline",
    "InputError",
    "LinearModel",
    "Objective",
    "Rigidity",
    "SparseKernelModel",
    "__version__",
    "fit",
    "load",
    "prediction_rigidity",
    "read",
    "write",
]
