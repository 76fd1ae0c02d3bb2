"""The sparse kernel head against its unwhitened definition."""

import numpy as np
import pytest
import torch

from tests.cases import MODELS, ONE, TWO, kernel, make_batch
from torchlpr.errors import InputError
from torchlpr.models import SparseKernelModel
from torchlpr.structures.batch import AtomBatch


def definition(a: AtomBatch, b: AtomBatch, zeta: int) -> np.ndarray:
    """k(x, x') = delta_zz' (x . x')^zeta, entry by entry."""
    return np.array([
        [
            float(np.dot(x, y)) ** zeta if z == w else 0.0
            for y, w in zip(b.features.numpy(), b.types.tolist(), strict=True)
        ]
        for x, z in zip(a.features.numpy(), a.types.tolist(), strict=True)
    ])


@pytest.mark.parametrize("types", [ONE, TWO])
@pytest.mark.parametrize("zeta", [1, 2, 3])
def test_basis_is_the_nystroem_approximation(types: tuple[int, ...], zeta: int) -> None:
    """phi . phi'^T = k_M K_MM^-1 k_M^T."""
    inducing = make_batch(3 * len(types), types, seed=99, atoms=1)
    model, batch = SparseKernelModel(inducing, zeta), make_batch(4, types)
    phi = model.basis(batch.features, batch.types).numpy()
    k, k_inducing = definition(batch, inducing, zeta), definition(inducing, inducing, zeta)
    expected = k @ np.linalg.solve(k_inducing, k.T)
    np.testing.assert_allclose(phi @ phi.T, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("types", [ONE, TWO])
def test_kernel_weights_give_the_same_energies_and_penalty(types: tuple[int, ...]) -> None:
    model, batch = kernel(types), make_batch(4, types)
    inducing, weights = model.inducing_batch(), model.kernel_weights()
    assert list(weights) == list(types)
    c = torch.cat([weights[z] for z in types]).detach().numpy()
    energies = model(batch.features, batch.types).detach()
    np.testing.assert_allclose(energies, definition(batch, inducing, 2) @ c, rtol=1e-10, atol=1e-10)
    penalty = c @ definition(inducing, inducing, 2) @ c
    np.testing.assert_allclose(float(model.weight.detach().square().sum()), penalty, rtol=1e-10)


def test_it_interpolates_at_the_inducing_points() -> None:
    """phi phi^T = K_MM there, so any values are reached by w = Phi^-1 y."""
    inducing = make_batch(3, atoms=1, seed=99)
    phi = SparseKernelModel(inducing).basis(inducing.features, inducing.types).numpy()
    np.testing.assert_allclose(phi @ phi.T, definition(inducing, inducing, 2), rtol=1e-12)


def test_inducing_points_come_back_species_by_species() -> None:
    points = make_batch(5, TWO, seed=3, atoms=1)
    back = SparseKernelModel(points).inducing_batch()
    order = torch.argsort(points.types, stable=True)
    assert torch.equal(back.features, points.features[order])
    assert torch.equal(back.types, points.types[order])
    assert back.n_structures == 5


def test_duplicates_are_refused_with_the_number_of_independent_points() -> None:
    points = make_batch(4, atoms=1, seed=99).features
    doubled = torch.cat([points, points[:2]])
    batch = AtomBatch(doubled, torch.full((6,), 14), torch.arange(6))
    with pytest.raises(InputError, match=r"6 inducing .* species 14 .* about 4 are independent"):
        SparseKernelModel(batch)


def test_more_points_than_the_kernel_has_dimensions() -> None:
    """(x . x')^2 of 4 features spans the 10 products x_i x_j and no more."""
    SparseKernelModel(make_batch(10, atoms=1, seed=1))
    with pytest.raises(InputError, match="about 10 are independent"):
        SparseKernelModel(make_batch(12, atoms=1, seed=1))


def test_the_singular_species_is_named() -> None:
    good, bad = make_batch(2, (31,), atoms=1), make_batch(1, (33,), atoms=1)
    with pytest.raises(InputError, match="2 inducing environments of species 33"):
        SparseKernelModel(AtomBatch.cat([good, bad, bad]))


@pytest.mark.parametrize("zeta", [0, -1, 1.5])
def test_zeta_that_makes_no_kernel(zeta: float) -> None:
    with pytest.raises(InputError, match="zeta must be a positive integer"):
        SparseKernelModel(make_batch(2, atoms=1), zeta)


def test_no_inducing_points() -> None:
    empty = AtomBatch(torch.zeros(0, 4), *torch.zeros(2, 0, dtype=torch.int64))
    with pytest.raises(InputError, match="at least one inducing environment"):
        SparseKernelModel(empty)


def test_weights_are_the_only_parameters() -> None:
    types, build = MODELS["kernel two species"]
    assert [name for name, _ in build().named_parameters()] == ["weight"]
    assert len(build().weight) == 3 * len(types)
