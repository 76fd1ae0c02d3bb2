"""Potentials of the packages that torchlpr adapts; a test is skipped where one is absent."""

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.potentials.toy import Messages
from torchlpr.potentials import MACEPotential, SevenNetPotential
from torchlpr.potentials.mace import environment_kept

TYPES = [14, 32]


def installed(package: str, distribution: str) -> None:
    """Skip where a package is absent; one that is there and cannot be imported is a failure."""
    if find_spec(package) is None:
        pytest.skip(f"{distribution} is not installed")


def mace_modules() -> Any:
    installed("mace", "mace-torch")
    with environment_kept():
        return import_module("mace.modules")


@cache
def mace_model() -> nn.Module:
    """Random weights, two rounds of messages, made in float32 as most are."""
    modules = mace_modules()
    o3 = import_module("e3nn.o3")
    blocks = modules.interaction_classes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return modules.ScaleShiftMACE(
            r_max=3.6, num_bessel=4, num_polynomial_cutoff=5, max_ell=2, num_interactions=2,
            interaction_cls=blocks["RealAgnosticResidualInteractionBlock"],
            interaction_cls_first=blocks["RealAgnosticInteractionBlock"],
            num_elements=2, atomic_numbers=TYPES, atomic_energies=np.array([-1.5, -2.25]),
            hidden_irreps=o3.Irreps("4x0e+4x1o"), MLP_irreps=o3.Irreps("4x0e"),
            gate=torch.nn.functional.silu, avg_num_neighbors=10.0, correlation=2,
            radial_MLP=[8], atomic_inter_scale=0.7, atomic_inter_shift=0.125,
        )  # fmt: skip


@cache
def sevennet() -> SevenNetPotential:
    """SevenNet-0, from inside the package."""
    installed("sevenn", "sevenn")
    return SevenNetPotential("7net-0")


POTENTIALS = {
    "toy": Messages,
    "mace": lambda: MACEPotential(mace_model()),
    "sevennet": sevennet,
}
