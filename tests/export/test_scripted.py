"""The parts of exported models against the engine in Python."""

import numpy as np
import pytest
import torch

from tests.cases import make_batch
from tests.export.test_calculator import KINDS
from torchlpr import SOAP, BehlerParrinelloMLP
from torchlpr.curvature import atomic_gradients, parameter_subset
from torchlpr.export.scripted.folding import Folding, segments
from torchlpr.models.activations import ACTIVATIONS

heads = pytest.importorskip("torchlpr.export.scripted.heads")
SOAPS = {kind: SOAP(cutoff=3.4, max_radial=3, max_angular=2, width=0.5, smoothing=0.5, types=types)
         for kind, (_, types) in KINDS.items()}  # fmt: skip


@pytest.mark.parametrize("kind", list(KINDS))
def test_folded_vectors_have_the_same_scalar_products(kind: str) -> None:
    soap = SOAPS[kind]
    x = soap([KINDS[kind][0](seed) for seed in range(3)]).features
    folding = Folding(soap)
    folded = folding(x)
    assert folded.shape[1] < 0.85 * soap.n_features
    np.testing.assert_allclose(folded @ folded.mT, x @ x.mT, rtol=1e-12)
    kept = x[:, folding.kept] * folding.scale  # what an engine computes
    np.testing.assert_allclose(kept, folded, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("which", ["all", "last-layer", "species:Si", ["networks.0.0.*"]], ids=str)
@pytest.mark.parametrize("hidden", [(), (5,), (5, 3)], ids=str)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_energies_and_gradients_of_a_network(
    activation: str, bias: bool, hidden: tuple[int, ...], which: object
) -> None:
    soap = SOAPS["binary"]
    model = BehlerParrinelloMLP(soap.n_features, soap.types, hidden, activation, bias, seed=3)
    batch = soap([KINDS["binary"][0](seed) for seed in range(2)])
    x = batch.features * 30  # into the curved parts
    subset, folding = parameter_subset(model, which), Folding(soap)
    head = heads.scripted_head(model, subset, folding)
    species, folded = (batch.types == 14).long(), folding(x)
    expected = atomic_gradients(model, x, batch.types, subset)
    energies = model(x, batch.types).detach()
    np.testing.assert_allclose(head(folded, species).detach(), energies, atol=1e-10)
    found = head.gradients(folded, species)
    scale = float(expected.square().sum(1).max())
    np.testing.assert_allclose(found @ found.mT, expected @ expected.mT, atol=1e-12 * scale)
    draws = torch.from_numpy(np.random.default_rng(0).normal(size=(3, len(subset))))
    folded_draws = folding.vectors(draws, segments(model, subset))
    assert folded_draws.shape[1] == head.n_parameters
    along = head.along(folded, species, folded_draws)
    np.testing.assert_allclose(along, expected @ draws.mT, atol=1e-11 * scale**0.5 * 30)


def test_folding_leaves_a_kernel_alone() -> None:
    from torchlpr import SparseKernelModel

    soap = SOAPS["binary"]
    points = make_batch(6, (6, 14), features=soap.n_features, atoms=2)
    model = SparseKernelModel(points, 2)
    parts = segments(model, parameter_subset(model))
    matrix = torch.eye(model.weight.numel(), dtype=torch.float64)
    assert torch.equal(Folding(soap).vectors(matrix, parts), matrix)
