"""A run as a calculator of ASE: energies, forces, stress, and the rigidity of every atom."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from ase import Atoms
from ase.calculators.calculator import Calculator as AseCalculator
from ase.calculators.calculator import all_changes
from ase.data import chemical_symbols
from ase.stress import full_3x3_to_voigt_6_stress
from torch import Tensor

from torchlpr.calibration import atom_groups
from torchlpr.descriptors.gradients import feature_gradients
from torchlpr.errors import InputError
from torchlpr.export.run import Run, load
from torchlpr.structures.batch import AtomBatch

__all__ = ["Calculator"]

RIGIDITY = ("lpr", "lpr_mu_fraction", "energy_uncertainty")


class Calculator(AseCalculator):
    r"""ASE calculator of a finished training.

    .. math:: F_i = -\sum_k \frac{\partial \tilde y_k}{\partial x_k} \cdot
              \frac{\partial x_k}{\partial r_i}

    Results: energy and free_energy (eV), energies of the atoms (eV), forces (eV/Å), stress of
    periodic structures (eV/Å^3, Voigt order), and for every atom lpr (1/eV^2) and
    lpr_mu_fraction; energy_uncertainty (eV) for every atom where the run is calibrated. The
    rigidity is that of the run's training set and takes no part in the forces. Model, descriptor
    and factor are loaded once.

    ASE writes its own properties to files only; put ``atoms.calc.results["lpr"]`` into an
    array of the structure to keep it in a trajectory.

    Args:
        run: folder that ``torchlpr fit`` wrote, its checkpoint file, or an open run.
        lpr: compute the rigidity at every step; False computes it when it is asked for by
            ``atoms.calc.get_property("lpr", atoms)``.

    Attributes:
        run: the open run.
    """

    implemented_properties: list[str] = [  # noqa: RUF012 (ASE wants a list)
        "energy", "free_energy", "energies", "forces", "stress", *RIGIDITY
    ]  # fmt: skip

    def __init__(self, run: str | Path | Run, lpr: bool = True) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.run = run if isinstance(run, Run) else load(run)
        self.lpr = lpr

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Compute what ASE asks for into ``results``.

        Args:
            atoms: the structure.
            properties: names of results; forces and stress come together.
            system_changes: what ASE found changed.
        """
        super().calculate(  # type: ignore[no-untyped-call]
            atoms, list(properties), list(system_changes)
        )
        structure = self.atoms
        assert structure is not None  # ASE has just set it
        self._check_types(structure)
        if {"forces", "stress"} & set(properties):
            batch, local = self._with_forces(structure)
        else:
            batch = self.run.descriptor([structure], progress=False)
            with torch.no_grad():
                local = self._energies(batch.features, batch.types)
        local = local + self.run.baseline(batch.features, batch.types)
        energy = float(local.sum())
        self.results |= {"energy": energy, "free_energy": energy, "energies": local.numpy()}
        if self.lpr or set(RIGIDITY) & set(properties):
            self.results |= self._rigidity(structure, batch)

    def _with_forces(self, structure: Atoms) -> tuple[AtomBatch, Tensor]:
        """Features and energies of the model, with forces and stress put into the results."""
        types = torch.from_numpy(structure.numbers).long()
        positions = torch.zeros(len(structure), 3, dtype=torch.float64)
        strain = torch.zeros(3, 3, dtype=torch.float64)
        features, energies = [], []
        for part in feature_gradients(self.run.descriptor, structure):
            local, sensitivity = self._differentiate(part.features, types[part.atoms], part.atoms)
            by_positions, by_strain = part.pull_back(sensitivity)
            positions += by_positions
            strain += by_strain
            features.append(part.features)
            energies.append(local)
        self.results["forces"] = -positions.numpy()
        if structure.pbc.all():
            stress = 0.5 * (strain + strain.mT).numpy() / structure.get_volume()
            self.results["stress"] = full_3x3_to_voigt_6_stress(stress)
        owner = torch.zeros(len(structure), dtype=torch.int64)
        return AtomBatch(torch.cat(features), types, owner), torch.cat(energies)

    def _differentiate(self, x: Tensor, types: Tensor, atoms: slice) -> tuple[Tensor, Tensor]:
        """Energies of some atoms, and the derivative of the total energy by their features."""
        x = x.clone().requires_grad_(True)
        local = self._energies(x, types)
        (sensitivity,) = torch.autograd.grad(local.sum(), x)
        return local.detach(), sensitivity

    def _energies(self, features: Tensor, types: Tensor) -> Tensor:
        """Atomic energies without the baseline, in float64."""
        model = self.run.rigidity.model
        dtype = next(model.parameters()).dtype
        local: Tensor = model(features.to(dtype), types)
        return local.to(torch.float64)

    def _rigidity(self, structure: Atoms, batch: AtomBatch) -> dict[str, Any]:
        """Rigidity of every atom, and its uncertainty where the run has a scale for it."""
        found = self.run.rigidity.atoms(batch)
        results = {
            "lpr": found.rigidity.numpy(),
            "lpr_mu_fraction": found.mu_fraction.numpy(),
        }
        calibration = self.run.calibration
        if calibration is not None:
            alpha = calibration.alphas(atom_groups([structure], calibration.group_key))
            results["energy_uncertainty"] = (alpha * found.rigidity.rsqrt()).numpy()
        return results

    def _check_types(self, structure: Atoms) -> None:
        """Refuse species that the run has never seen."""
        known = self.run.descriptor.types
        foreign = sorted(set(structure.numbers.tolist()) - set(known))
        if foreign:
            names = ", ".join(chemical_symbols[z] for z in foreign)
            raise InputError(
                f"the structure holds {names}, but the run was trained on "
                f"{', '.join(chemical_symbols[z] for z in known)} alone; train one that has seen "
                f"{names}"
            )
