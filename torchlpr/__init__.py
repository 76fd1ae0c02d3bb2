"""Local prediction rigidity: which atomic energies does a training set pin down?"""

from torchlpr.committee import Committee
from torchlpr.descriptors.soap import SOAP
from torchlpr.descriptors.symmetry import SymmetryFunctions
from torchlpr.errors import InputError
from torchlpr.export import (
    BiasedCalculator,
    Calculator,
    export_metatomic,
    load,
    lpr_gradient,
)
from torchlpr.models import (
    BehlerParrinelloMLP,
    CompositionBaseline,
    LinearModel,
    SparseKernelModel,
)
from torchlpr.monitor import InvariantPointMonitor
from torchlpr.objective import Objective
from torchlpr.potentials import PotentialRigidity
from torchlpr.rigidity import Rigidity, offset_rigidity, prediction_rigidity
from torchlpr.structures.batch import AtomBatch
from torchlpr.structures.io import read, write
from torchlpr.training import fit

__version__ = "0.1.0"

__all__ = [
    "SOAP",
    "AtomBatch",
    "BehlerParrinelloMLP",
    "BiasedCalculator",
    "Calculator",
    "Committee",
    "CompositionBaseline",
    "InputError",
    "InvariantPointMonitor",
    "LinearModel",
    "Objective",
    "PotentialRigidity",
    "Rigidity",
    "SparseKernelModel",
    "SymmetryFunctions",
    "__version__",
    "export_metatomic",
    "fit",
    "load",
    "lpr_gradient",
    "offset_rigidity",
    "prediction_rigidity",
    "read",
    "write",
]
