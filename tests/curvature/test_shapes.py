"""Every shape of the factorised Hessian against dense algebra and against the others (C10)."""

import numpy as np
import pytest
import torch

from tests.cases import DEVICES, random_tensor
from tests.oracles import dense
from torchlpr.curvature import build, choose_shape, load_factor
from torchlpr.rigidity import prediction_rigidity

SIZES = [(6, 15), (15, 6), (9, 9), (1, 4), (4, 1), (0, 3)]
SHAPES = ["row", "parameter", "auto"]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("rows", "parameters"), SIZES)
@pytest.mark.parametrize("mu", [1e-6, 1e-2, 10.0])
def test_c10_all_routes_agree(rows: int, parameters: int, mu: float, shape: str) -> None:
    r, g = random_tensor(0, rows, parameters), random_tensor(1, 5, parameters)
    rigidity = prediction_rigidity(r, g, mu, shape).numpy()
    np.testing.assert_allclose(rigidity, dense.prediction_rigidity(r, g, mu), rtol=1e-8)
    np.testing.assert_allclose(rigidity, dense.svd_projected(r, g, mu), rtol=1e-12)
    np.testing.assert_allclose(rigidity, dense.augmented_qr(r, g, mu), rtol=1e-12)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("rows", "parameters"), SIZES)
@pytest.mark.parametrize("vector", [False, True])
def test_solve_shares_and_degrees_of_freedom(
    rows: int, parameters: int, vector: bool, shape: str, device: str
) -> None:
    r, g = random_tensor(2, rows, parameters), random_tensor(3, 5, parameters)
    mu = 0.1 + random_tensor(4, parameters).abs() if vector else torch.tensor(0.3).double()
    factor = build(r.to(device), mu.to(device), shape)
    h = dense.hessian(r, mu)
    forms = factor.quadratic_form(g.to(device))
    np.testing.assert_allclose(
        (forms.regulariser / forms.value).cpu(), dense.mu_fraction(r, g, mu.numpy()), rtol=1e-11
    )
    solved = factor.solve(g.to(device)).cpu()
    np.testing.assert_allclose(solved, np.linalg.solve(h, g.numpy().T).T, rtol=1e-10, atol=1e-13)
    dof = np.trace(np.linalg.solve(h, (r.mT @ r).numpy()))
    np.testing.assert_allclose(factor.effective_dof(), dof, rtol=1e-12, atol=1e-13)
    assert (factor.n_rows, factor.n_parameters) == (rows, parameters)


@pytest.mark.parametrize("shape", ["row", "parameter"])
def test_state_survives_a_round_trip(shape: str) -> None:
    r, g = random_tensor(5, 4, 6), random_tensor(6, 3, 6)
    factor = build(r, 0.2, shape)
    again = load_factor(factor.state_dict())
    assert type(again) is type(factor)
    assert (again.n_rows, again.n_parameters) == (4, 6)
    assert torch.equal(again.quadratic_form(g).value, factor.quadratic_form(g).value)
    assert torch.equal(again.quadratic_form(g).regulariser, factor.quadratic_form(g).regulariser)
    assert again.effective_dof() == factor.effective_dof()


def test_parameter_space_folds_many_blocks_of_rows() -> None:
    r, g = random_tensor(7, 5000, 3), random_tensor(8, 4, 3)
    rigidity = prediction_rigidity(r, g, 1e-3, "parameter")
    np.testing.assert_allclose(rigidity, dense.prediction_rigidity(r, g, 1e-3), rtol=1e-12)
    assert build(r, 1e-3).n_rows == 5000


def test_the_cheaper_shape_is_chosen() -> None:
    assert choose_shape(3, 7)[0] == build(random_tensor(0, 3, 7), 1.0).shape_name[:3] == "row"
    assert choose_shape(7, 3)[0] == "parameter"
    assert build(random_tensor(0, 7, 3), 1.0).shape_name == "parameter space"
    shape, reason = choose_shape(3, 7, zero_mu=True)
    assert shape == "parameter"
    assert "3 rows, 7 parameters" in reason
    assert "without regulariser" in reason
