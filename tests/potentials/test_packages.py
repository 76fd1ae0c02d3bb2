"""Against the packages themselves: energies, what they freeze, what they do to the process."""

import copy
import os
import sys

import ase
import pytest
import torch
from torch import nn

from tests.oracles import potentials
from tests.potentials import packages
from tests.potentials.toy import cells
from torchlpr import InputError, Objective
from torchlpr.errors import MissingExtraError
from torchlpr.potentials import MACEPotential, PotentialRigidity, SevenNetPotential
from torchlpr.potentials.weights import Weights

pytestmark = pytest.mark.xdist_group("potentials")
STRUCTURES = [*cells(3), ase.Atoms("SiGe2", [(0, 0, 0), (2.3, 0, 0.1), (0, 2.2, 0.4)])]


def calculator(name: str):
    if name == "sevennet":
        packages.installed("sevenn", "sevenn")
        from sevenn.calculator import SevenNetCalculator

        with pytest.warns(UserWarning, match="No tensor product accelerator"):
            return SevenNetCalculator("7net-0", device="cpu"), 1e-5
    model = copy.deepcopy(packages.mace_model()).double()
    with packages.environment_kept():
        from mace.calculators import MACECalculator

        return MACECalculator(models=[model], device="cpu", default_dtype="float64"), 1e-10


@pytest.mark.parametrize("name", ["mace", "sevennet"])
def test_atomic_energies_are_those_of_the_calculator(name: str) -> None:
    potential = copy.deepcopy(packages.POTENTIALS[name]()).double()
    reference, tolerance = calculator(name)
    for atoms in STRUCTURES[-2:]:
        local = potential.local_energies(potential.batch([atoms])).detach()
        atoms = atoms.copy()
        atoms.calc = reference
        assert float(local.sum()) == pytest.approx(atoms.get_potential_energy(), rel=tolerance)
        known = torch.from_numpy(atoms.calc.results["energies"]).double()
        torch.testing.assert_close(local, known, rtol=10 * tolerance, atol=0)


@pytest.mark.parametrize("name", ["mace", "sevennet"])
def test_batches_of_several_structures(name: str) -> None:
    potential = copy.deepcopy(packages.POTENTIALS[name]()).double()
    together = potential.batch(STRUCTURES)
    single = [potential.local_energies(potential.batch([atoms])) for atoms in STRUCTURES]
    torch.testing.assert_close(potential.local_energies(together), torch.cat(single))
    totals = torch.stack([part.sum() for part in single])
    torch.testing.assert_close(potential.energies(together), totals)


@pytest.mark.parametrize("name", ["mace", "sevennet"])
def test_an_unknown_element_is_named(name: str) -> None:
    potential = packages.POTENTIALS[name]()
    # SevenNet-0 knows 89 elements, but not polonium
    with pytest.raises(InputError, match="structure 1 holds Po, which this"):
        PotentialRigidity(potential, [STRUCTURES[0], ase.Atoms("Po")], Objective(mu=1.0))


def test_isolated_atoms_scale_and_shift_of_mace() -> None:
    """E = E0 + shift + scale * messages: other E0 and shift move no gradient, scale scales all."""
    model = copy.deepcopy(packages.mace_model()).double()
    moved = copy.deepcopy(model)
    moved.atomic_energies_fn.atomic_energies += 3.0
    moved.scale_shift.shift += 0.5
    moved.scale_shift.scale *= 2.0
    one, other = MACEPotential(model), MACEPotential(moved)
    atoms = STRUCTURES[0]
    e0 = torch.tensor([{14: -1.5, 32: -2.25}[z] for z in atoms.numbers]).double()
    before, after = (potentials.local_energies(p, atoms) for p in (one, other))
    torch.testing.assert_close(after - e0 - 3.625, 2 * (before - e0 - 0.125))
    g, h = (potentials.atomic_gradients(p, [atoms]) for p in (one, other))
    torch.testing.assert_close(h, 2 * g)


def test_last_layers_are_linear_in_the_energy() -> None:
    """Twice their weights: twice the energy above what stays at weight zero."""
    for name in ("mace", "sevennet"):
        potential = copy.deepcopy(packages.POTENTIALS[name]()).double()
        chosen = Weights(potential, "last-layer").subset
        assert len(chosen) == {"mace": 4 + 4, "sevennet": 64}[name]
        flat = nn.utils.parameters_to_vector(potential.parameters()).detach()
        energies, graph = [], potential.batch(STRUCTURES[:1])
        for factor in (0.0, 1.0, 2.0):
            scaled = flat.clone()
            scaled[chosen.indices] *= factor
            nn.utils.vector_to_parameters(scaled, potential.parameters())
            energies.append(potential.local_energies(graph).detach())
        torch.testing.assert_close(energies[2] - energies[0], 2 * (energies[1] - energies[0]))
        assert float((energies[1] - energies[0]).abs().min()) > 0


def test_a_calculator_freezes_its_mace() -> None:
    model = copy.deepcopy(packages.mace_model()).requires_grad_(False)
    with pytest.raises(InputError, match=r"are frozen .*requires_grad_"):
        PotentialRigidity(MACEPotential(model), STRUCTURES, Objective(mu=1.0))


def test_the_shift_and_scale_of_sevennet_are_frozen() -> None:
    weights = Weights(packages.sevennet())
    assert (len(weights), weights.frozen) == (842440, 183)


def test_settings_of_the_process_stay() -> None:
    before = torch.get_default_dtype(), os.environ.get("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD")
    potential = MACEPotential(packages.mace_model())
    potential.double().batch(STRUCTURES)
    after = torch.get_default_dtype(), os.environ.get("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD")
    assert before == after == (torch.float32, None)
    MACEPotential(packages.mace_model()).float()


def test_what_is_no_potential_of_these_packages() -> None:
    with pytest.raises(InputError, match="a Linear is no MACE"):
        MACEPotential(nn.Linear(2, 1))
    with pytest.raises(InputError, match="a Linear is no SevenNet"):
        SevenNetPotential(nn.Linear(2, 1))
    with pytest.raises(InputError, match="has no head 'pbe', only Default"):
        MACEPotential(packages.mace_model(), head="pbe")
    packages.installed("sevenn", "sevenn")
    with pytest.raises(InputError, match=r"no potential 'nothing\.pth'"):
        SevenNetPotential("nothing.pth")


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sevenn", None)
    with pytest.raises(MissingExtraError, match=r"sevenn is not installed.*torchlpr\[sevennet\]"):
        SevenNetPotential("7net-0")
