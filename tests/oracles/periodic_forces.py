"""Rows of energies and forces of SOAP models: featomic's own gradients made dense, and autograd."""

import featomic
import numpy as np
import torch
from ase import Atoms
from torch import Tensor, nn

from tests.oracles import autograd_loops

__all__ = ["described", "rows"]


def described(atoms: Atoms, hypers: dict) -> tuple[np.ndarray, np.ndarray]:
    """Unit power spectra (k, f) of one species, and dx_k/dr_i with all images (k, i, 3, f)."""
    n = len(atoms)
    bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    found = featomic.SoapPowerSpectrum(**hypers).compute(bare, gradients=["positions"])
    assert len(found) == 1
    block = found.block(0)
    np.testing.assert_array_equal(block.samples["atom"], np.arange(n))
    x, gradient = np.asarray(block.values), block.gradient("positions")
    moved = np.zeros((n, n, 3, x.shape[1]))
    for (k, _, i), slope in zip(gradient.samples.values, gradient.values, strict=True):
        moved[k, i] += slope
    length = np.sqrt((x**2).sum(1))
    unit = x / length[:, None]
    along = np.einsum("kixf,kf->kix", moved, unit)
    moved = (moved - along[..., None] * unit[:, None, None]) / length[:, None, None, None]
    return unit, moved


def rows(
    model: nn.Module, structures: list[Atoms], hypers: dict, energy_weight: float, weight: float
) -> np.ndarray:
    """sqrt(c) d(E/n)/dw of all structures, then sqrt(weight) dF/dw of all components."""
    energies: list[Tensor] = []
    forces: list[Tensor] = []
    for atoms in structures:
        unit, moved = described(atoms, hypers)
        x = torch.from_numpy(unit).requires_grad_(True)
        local = model(x, torch.from_numpy(atoms.numbers))
        energies.append(local.sum() * energy_weight**0.5 / len(atoms))
        (slopes,) = torch.autograd.grad(local.sum(), x, create_graph=True)
        force = -torch.einsum("kixf,kf->ix", torch.from_numpy(moved), slopes)
        forces += (weight**0.5 * force).reshape(-1).unbind()
    return np.stack([autograd_loops.gradient(model, y).numpy() for y in [*energies, *forces]])
