"""Rigidity of potentials that are not torchlpr's: any module that tells its atomic energies."""

from torchlpr.potentials.mace import MACEPotential
from torchlpr.potentials.memory import PotentialMemory, predict_potential_memory
from torchlpr.potentials.protocol import Potential
from torchlpr.potentials.rigidity import PotentialRigidity
from torchlpr.potentials.sevennet import SevenNetPotential

__all__ = [
    "MACEPotential",
    "Potential",
    "PotentialMemory",
    "PotentialRigidity",
    "SevenNetPotential",
    "predict_potential_memory",
]
