"""C7-C9: mu / posterior variance of the exact Gaussian process, and the unwhitened kernel head."""

import numpy as np
import pytest

from tests.cases import FEATURES, ONE, make_batch
from tests.oracles import dense, gaussian_process
from torchlpr import LinearModel, Objective, Rigidity, SparseKernelModel
from torchlpr.structures.batch import AtomBatch

MU = 0.03
TRAIN, TEST = make_batch(12, seed=1), make_batch(4, seed=2)
SQUARED = gaussian_process.polynomial_kernel(2)


def split(batch: AtomBatch) -> list[np.ndarray]:
    x, structure = batch.features.numpy(), batch.structure.numpy()
    return [x[structure == a] for a in range(structure.max() + 1)]


def test_c7_inducing_points_that_span_the_kernel() -> None:
    """(x . x')^2 of 4 features has 10 dimensions; ten inducing points reproduce it exactly."""
    model = SparseKernelModel(make_batch(10, seed=1, atoms=1))
    lpr = Rigidity(model, TRAIN, Objective(mu=MU)).local(TEST).numpy()
    variance = gaussian_process.posterior_variance(SQUARED, split(TRAIN), TEST.features.numpy(), MU)
    np.testing.assert_allclose(lpr * variance, np.full(len(TEST), MU), rtol=1e-9)


@pytest.mark.parametrize("points", [1, 3, 8])
def test_t10_fewer_inducing_points_are_over_confident(points: int) -> None:
    model = SparseKernelModel(make_batch(points, seed=1, atoms=1))
    lpr = Rigidity(model, TRAIN, Objective(mu=MU)).local(TEST).numpy()
    variance = gaussian_process.posterior_variance(SQUARED, split(TRAIN), TEST.features.numpy(), MU)
    assert (lpr > MU / variance).all()


@pytest.mark.parametrize("mu", [1e-3, 0.1])
@pytest.mark.parametrize("zeta", [1, 2, 3])
def test_c8_sparse_kernel_in_its_own_weights(zeta: int, mu: float) -> None:
    inducing = make_batch(4, seed=5, atoms=1)
    kernel = gaussian_process.polynomial_kernel(zeta)
    points = inducing.features.numpy()
    k_rows = dense.group_means(kernel(TRAIN.features.numpy(), points), TRAIN.structure)
    expected = dense.sparse_kernel_rigidity(
        k_rows, kernel(TEST.features.numpy(), points), kernel(points, points), mu
    )
    lpr = Rigidity(SparseKernelModel(inducing, zeta), TRAIN, Objective(mu=mu)).local(TEST)
    np.testing.assert_allclose(lpr, expected, rtol=1e-10)


def test_c9_explicit_feature_map() -> None:
    def mapped(batch: AtomBatch) -> AtomBatch:
        phi = gaussian_process.squared_feature_map(batch.features.numpy())
        return AtomBatch.from_arrays(phi, batch.types, batch.structure)

    model = LinearModel(FEATURES**2, ONE)
    lpr = Rigidity(model, mapped(TRAIN), Objective(mu=MU)).local(mapped(TEST)).numpy()
    variance = gaussian_process.posterior_variance(SQUARED, split(TRAIN), TEST.features.numpy(), MU)
    np.testing.assert_allclose(lpr * variance, np.full(len(TEST), MU), rtol=1e-10)
