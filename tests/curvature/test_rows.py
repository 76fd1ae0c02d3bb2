"""Rows of the Gauss-Newton Hessian against one autograd pass a structure."""

import copy

import numpy as np
import pytest
import torch

from tests.cases import FEATURES, MODELS, Case, make_batch
from tests.oracles import autograd_loops
from torchlpr import AtomBatch
from torchlpr.curvature import energy_rows, structure_gradients
from torchlpr.curvature.generic_sums import generic_sums
from torchlpr.objective import Objective


def test_are_derivatives_of_weighted_structure_energies(case: Case) -> None:
    model, batch = case.model(), case.batch(structures=5)
    counts = torch.bincount(batch.structure)
    expected = autograd_loops.structure_rows(
        copy.deepcopy(model).to(torch.float64),
        batch.features.to(torch.float64),
        batch.types,
        batch.structure,
        2.5**0.5 / counts.to(torch.float64),
    )
    rows = energy_rows(model, batch, Objective(mu=1.0, energy_weight=2.5))
    assert rows.dtype == torch.float64
    torch.testing.assert_close(rows, expected, rtol=1e-12, atol=1e-13)


def test_total_energies_instead_of_energies_per_atom() -> None:
    types, build = MODELS["mlp two species"]
    model, batch = build(), make_batch(6, types)
    per_atom = energy_rows(model, batch, Objective(mu=1.0))
    totals = energy_rows(model, batch, Objective(mu=1.0, per_atom=False))
    counts = torch.bincount(batch.structure).unsqueeze(1)
    assert len(counts.unique()) > 1
    torch.testing.assert_close(totals, per_atom * counts, rtol=1e-14, atol=0)


def test_are_the_jacobian_of_the_residuals_that_training_sees() -> None:
    types, build = MODELS["mlp bias tanh"]
    model, batch = build(), make_batch(6, types)
    objective = Objective(mu=1.0, energy_weight=0.7)
    weights = torch.nn.utils.parameters_to_vector(model.parameters()).detach()

    def residuals(w: torch.Tensor) -> torch.Tensor:
        local = autograd_loops.with_weights(model, w)(batch.features, batch.types)
        return objective.residuals(local, batch.structure, batch.counts, batch.energies)

    jacobian = torch.autograd.functional.jacobian(residuals, weights)
    torch.testing.assert_close(
        energy_rows(model, batch, objective), jacobian, rtol=1e-12, atol=1e-14
    )


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_chunks_cross_structures(size: int) -> None:
    types, build = MODELS["mlp two species"]
    model, batch = build(), make_batch(6, types)
    scale = torch.arange(1.0, 7.0, dtype=torch.float64)
    expected = autograd_loops.structure_rows(
        model, batch.features, batch.types, batch.structure, scale
    )
    rows = structure_gradients(model, batch, scale, size)
    torch.testing.assert_close(rows, expected, rtol=1e-12, atol=1e-13)


def test_structures_may_be_interleaved() -> None:
    types, build = MODELS["mlp"]
    model, batch = build(), make_batch(6, types)
    order = torch.randperm(len(batch), generator=torch.Generator().manual_seed(1))
    mixed = type(batch)(batch.features[order], batch.types[order], batch.structure[order])
    objective = Objective(mu=1.0)
    torch.testing.assert_close(
        energy_rows(model, mixed, objective),
        energy_rows(model, batch, objective),
        rtol=1e-13,
        atol=0,
    )


@pytest.mark.parametrize("size", [None, 1, 2])
@pytest.mark.parametrize("name", ["mlp two species", "mlp bias silu two species"])
def test_a_foreign_module_by_structures(name: str, size: int | None) -> None:
    """Structures of several sizes, orders of species, and atoms in any order in the batch."""
    types, build = MODELS[name]
    model = build()
    rng = np.random.default_rng(3)
    sizes = [1, 2, 2, 3, 3, 3, 5, 2, 1]
    structure = torch.from_numpy(rng.permutation(np.repeat(np.arange(9), sizes)))
    z = torch.from_numpy(rng.choice(types, len(structure)))
    features = torch.from_numpy(rng.normal(size=(len(structure), FEATURES)))
    batch = AtomBatch(features, z, structure)
    expected = autograd_loops.structure_rows(model, features, z, structure, torch.ones(9).double())
    found = generic_sums(model, batch, size=size)
    np.testing.assert_allclose(found, expected.detach(), rtol=0, atol=1e-12 * expected.abs().max())
