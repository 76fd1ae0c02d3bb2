"""The model that engines call: named outputs for systems, each computed only when asked for."""
# ruff: noqa: UP006, UP035, UP045 (metatomic compares the signature with these very types)

from typing import Dict, List, Optional

import torch
from metatensor.torch import Labels, TensorBlock, TensorMap
from metatomic.torch import ModelOutput, System
from torch import Tensor, nn

from torchlpr.export.scripted.heads import ScriptedHead

__all__ = ["ENERGY", "ENSEMBLE", "LPR", "MU_FRACTION", "UNCERTAINTY", "ScriptedModel"]

ENERGY, UNCERTAINTY, ENSEMBLE = "energy", "energy_uncertainty", "energy_ensemble"
LPR, MU_FRACTION = "torchlpr::local_prediction_rigidity", "torchlpr::mu_fraction"


class ScriptedModel(nn.Module):
    r"""Energies and rigidities of systems.

    The energies and their ensemble are differentiable in positions and cells; rigidities and
    uncertainties are not, so that nothing of them is kept for a backward pass.

    Args:
        descriptor: makes features of systems.
        head: energies and their gradients by the weights.
        forms: quadratic forms g^T H^-1 g.
        types: atomic numbers in ascending order.
        baseline: energy of each species in eV, shape (species,).
        alpha: scale of uncertainties and of the ensemble in eV.
        draws: weights of the ensemble's members minus those of the model, shape (members,
            parameters).
        chunk: atoms whose gradients are held at a time.
    """

    types: Tensor
    baseline: Tensor
    draws: Tensor

    def __init__(
        self,
        descriptor: nn.Module,
        head: ScriptedHead,
        forms: nn.Module,
        types: Tensor,
        baseline: Tensor,
        alpha: float,
        draws: Tensor,
        chunk: int,
    ) -> None:
        super().__init__()
        self.descriptor, self.head, self.forms = descriptor, head, forms
        self.register_buffer("types", types)
        self.register_buffer("baseline", baseline)
        self.register_buffer("draws", draws)
        self.alpha, self.chunk = alpha, chunk

    def forward(
        self,
        systems: List[System],
        outputs: Dict[str, ModelOutput],
        selected_atoms: Optional[Labels] = None,
    ) -> Dict[str, TensorMap]:
        """Outputs by name.

        Args:
            systems: lengths in Å, with the neighbours that were asked for.
            outputs: what to compute.
            selected_atoms: systems and atoms to compute it for; None takes all.

        Returns:
            A map with one block for each output.
        """
        results: Dict[str, TensorMap] = {}
        if len(outputs) == 0 or len(systems) == 0:
            return results
        samples = _samples(systems, selected_atoms)
        x = self.descriptor(systems, samples, selected_atoms)
        species = self._species(systems, samples)
        if "energy" in outputs or "energy_ensemble" in outputs:
            local = (self.head(x, species) + self.baseline[species]).unsqueeze(1)
            if "energy" in outputs:
                kind = outputs["energy"].sample_kind
                results["energy"] = _summed(local, samples, len(systems), kind)
            if "energy_ensemble" in outputs:
                members = local + self.alpha * self.head.along(x, species, self.draws)
                kind = outputs["energy_ensemble"].sample_kind
                results["energy_ensemble"] = _summed(members, samples, len(systems), kind)
        with torch.no_grad():
            results.update(self._rigidities(x.detach(), species, samples, outputs, len(systems)))
        return results

    def _rigidities(
        self,
        x: Tensor,
        species: Tensor,
        samples: Tensor,
        outputs: Dict[str, ModelOutput],
        n_systems: int,
    ) -> Dict[str, TensorMap]:
        """Those outputs that need g^T H^-1 g."""
        results: Dict[str, TensorMap] = {}
        atoms = False
        if "energy_uncertainty" in outputs:
            atoms = outputs["energy_uncertainty"].sample_kind == "atom"
            if not atoms:
                value = self._of_systems(x, species, samples[:, 0], n_systems)
                sigma = self.alpha * value.sqrt().unsqueeze(1)
                results["energy_uncertainty"] = _of_systems(sigma)
        for name in ("torchlpr::local_prediction_rigidity", "torchlpr::mu_fraction"):
            if name in outputs:
                atoms = True
                if outputs[name].sample_kind != "atom":
                    raise ValueError(name + " is one number an atom; ask for it per atom")
        if not atoms:
            return results
        value, regulariser = self._of_atoms(x, species)
        if "energy_uncertainty" in outputs and "energy_uncertainty" not in results:
            sigma = self.alpha * value.sqrt().unsqueeze(1)
            results["energy_uncertainty"] = _of_atoms(sigma, samples, "energy")
        if "torchlpr::local_prediction_rigidity" in outputs:
            results["torchlpr::local_prediction_rigidity"] = _of_atoms(
                1 / value.unsqueeze(1), samples, "local_prediction_rigidity"
            )
        if "torchlpr::mu_fraction" in outputs:
            results["torchlpr::mu_fraction"] = _of_atoms(
                (regulariser / value).unsqueeze(1), samples, "mu_fraction"
            )
        return results

    def _of_atoms(self, x: Tensor, species: Tensor) -> tuple[Tensor, Tensor]:
        """g^T H^-1 g of every atom and the regulariser's part in it, a chunk at a time."""
        value, regulariser = x.new_zeros(x.shape[0]), x.new_zeros(x.shape[0])
        for start in range(0, x.shape[0], self.chunk):
            stop = min(start + self.chunk, x.shape[0])
            g = self.head.gradients(x[start:stop], species[start:stop])
            value[start:stop], regulariser[start:stop] = self.forms(g)
        return value, regulariser

    def _of_systems(self, x: Tensor, species: Tensor, owner: Tensor, n_systems: int) -> Tensor:
        """g^T H^-1 g of the sum of every system's atoms, a chunk at a time."""
        value = x.new_zeros(n_systems)
        for first in range(0, n_systems, self.chunk):
            last = min(first + self.chunk, n_systems)
            sums = x.new_zeros(last - first, self.head.n_parameters)
            atoms = ((owner >= first) & (owner < last)).nonzero().squeeze(1)
            for part in atoms.split(self.chunk):
                g = self.head.gradients(x[part], species[part])
                sums.index_add_(0, owner[part] - first, g)
            value[first:last] = self.forms(sums)[0]
        return value

    def _species(self, systems: List[System], samples: Tensor) -> Tensor:
        """Place of each atom's species among those of the model."""
        sizes = torch.tensor([len(system) for system in systems], device=samples.device)
        first = sizes.cumsum(0) - sizes
        numbers = torch.cat([system.types for system in systems])
        return torch.searchsorted(self.types, numbers[first[samples[:, 0]] + samples[:, 1]].long())


def _samples(systems: List[System], selected: Optional[Labels]) -> Tensor:
    """System and atom of each row of features, shape (atoms, 2)."""
    device = systems[0].positions.device
    if selected is not None:
        return selected.values.to(torch.int64)
    rows: List[Tensor] = []
    for number, system in enumerate(systems):
        atoms = torch.arange(len(system), device=device)
        rows.append(torch.stack([torch.full_like(atoms, number), atoms], dim=1))
    return torch.cat(rows)


def _summed(local: Tensor, samples: Tensor, n_systems: int, kind: str) -> TensorMap:
    """Energies of the atoms, or their sums over each system."""
    if kind == "atom":
        return _of_atoms(local, samples, "energy")
    total = torch.zeros(n_systems, local.shape[1], dtype=local.dtype, device=local.device)
    return _of_systems(total.index_add(0, samples[:, 0], local))


def _of_systems(values: Tensor) -> TensorMap:
    """Energies of systems as a map."""
    number = torch.arange(values.shape[0], device=values.device).reshape(-1, 1)
    return _map(values, Labels(["system"], number), "energy")


def _of_atoms(values: Tensor, samples: Tensor, name: str) -> TensorMap:
    """Numbers of atoms as a map."""
    return _map(values, Labels(["system", "atom"], samples), name)


def _map(values: Tensor, samples: Labels, name: str) -> TensorMap:
    number = torch.arange(values.shape[1], device=values.device).reshape(-1, 1)
    components: List[Labels] = []
    block = TensorBlock(values, samples, components, Labels([name], number))
    key = Labels(["_"], torch.zeros(1, 1, dtype=torch.int64, device=values.device))
    return TensorMap(key, [block])
