"""Derivatives of atomic energies of any potential: a new forward and a backward pass each."""

import copy

import ase
import torch
from torch import Tensor, nn

__all__ = ["atomic_gradients", "local_energies"]


def local_energies(potential: nn.Module, atoms: ase.Atoms) -> Tensor:
    """Atomic energies of a float64 copy, shape (atoms,)."""
    mine = copy.deepcopy(potential).double().eval()
    return mine.local_energies(mine.batch([atoms])).detach()


def atomic_gradients(potential: nn.Module, structures: list[ase.Atoms]) -> Tensor:
    """d(energy of atom k)/d(all trainable parameters) of a float64 copy, shape (atoms, P)."""
    mine, rows = copy.deepcopy(potential).double().eval(), []
    for atoms in structures:
        for k in range(len(atoms)):
            mine.zero_grad(set_to_none=True)
            mine.local_energies(mine.batch([atoms]))[k].backward()
            parts = [
                torch.zeros_like(p) if p.grad is None else p.grad
                for p in mine.parameters()
                if p.requires_grad
            ]
            rows.append(torch.cat([part.reshape(-1) for part in parts]))
    return torch.stack(rows)
