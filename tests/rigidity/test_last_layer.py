"""C19 and T10: the last-layer restriction, and restrictions in general."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cases import FEATURES, ONE, Problem, make_batch, problems, ridges, theorem
from tests.oracles import dense, networks
from torchlpr import BehlerParrinelloMLP, Objective, Rigidity, prediction_rigidity
from torchlpr.curvature import atomic_gradients, energy_rows


@pytest.mark.parametrize("mu", [1e-6, 1e-2, 1.0])
def test_c19_features_of_the_last_hidden_layer(mu: float) -> None:
    model = BehlerParrinelloMLP(FEATURES, ONE, (5, 3), seed=6)
    train, test = make_batch(12, seed=1), make_batch(4, seed=2)
    layers = [(p.detach().numpy(), None) for p in model.parameters()]
    features = [
        networks.hidden_features(batch.features.numpy(), layers, "sigmoid")
        for batch in (train, test)
    ]
    gradients = atomic_gradients(model, test.features, test.types)[:, -3:]
    np.testing.assert_allclose(gradients, features[1], rtol=1e-12)

    rows = energy_rows(model, train, Objective(mu=mu))[:, -3:]
    last_layer = prediction_rigidity(rows, gradients, mu)
    means = dense.group_means(features[0], train.structure)
    np.testing.assert_allclose(last_layer, dense.augmented_qr(means, features[1], mu), rtol=1e-10)
    full = Rigidity(model, train, Objective(mu=mu)).local(test)
    assert (last_layer > full).all()


@theorem
@given(problem=problems(), mu=ridges, data=st.data())
def test_t10_fewer_parameters_raise_fewer_rows_lower(
    problem: Problem, mu: float, data: st.DataObject
) -> None:
    rows, gradients = problem.rows, problem.gradients
    whole = prediction_rigidity(rows, gradients, mu)
    kept = data.draw(st.integers(1, rows.shape[1]))
    fewer = prediction_rigidity(rows[:, :kept], gradients[:, :kept], mu)
    assert (fewer >= whole * (1 - 1e-10)).all()
    kept = data.draw(st.integers(0, rows.shape[0]))
    assert (prediction_rigidity(rows[:kept], gradients, mu) <= whole * (1 + 1e-10)).all()
