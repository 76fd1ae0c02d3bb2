"""What a user can get wrong is refused with a sentence that names it."""

import math

import pytest
import torch

from tests.cases import random_tensor
from torchlpr.curvature import build
from torchlpr.errors import InputError
from torchlpr.rigidity import prediction_rigidity

ROWS, GRADIENTS = random_tensor(0, 3, 4), random_tensor(1, 2, 4)


def with_entry(matrix: torch.Tensor, value: float) -> torch.Tensor:
    spoiled = matrix.clone()
    spoiled[1, 2] = value
    return spoiled


@pytest.mark.parametrize("shape", ["row", "parameter", "auto"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite(bad: float, shape: str) -> None:
    with pytest.raises(InputError, match="row 1 is not finite"):
        prediction_rigidity(with_entry(ROWS, bad), GRADIENTS, 1.0, shape)
    with pytest.raises(InputError, match="gradient 1 is not finite"):
        prediction_rigidity(ROWS, with_entry(GRADIENTS, bad), 1.0, shape)


@pytest.mark.parametrize("shape", ["row", "parameter", "auto"])
@pytest.mark.parametrize("mu", [0.0, -1.0, math.nan, math.inf, [1.0, 1.0, -1.0, 1.0], [0.0] * 4])
def test_mu_that_is_not_allowed(mu: float | list[float], shape: str) -> None:
    with pytest.raises(InputError, match="mu"):
        prediction_rigidity(ROWS, GRADIENTS, torch.tensor(mu), shape)


@pytest.mark.parametrize("mu", [torch.ones(3), torch.ones(1), torch.ones(4, 1)])
def test_mu_of_a_wrong_shape(mu: torch.Tensor) -> None:
    with pytest.raises(InputError, match="each of the 4 parameters"):
        prediction_rigidity(ROWS, GRADIENTS, mu)


def test_shapes_that_disagree() -> None:
    with pytest.raises(InputError, match="rows have 4 parameters and gradients 3"):
        prediction_rigidity(ROWS, GRADIENTS[:, :3], 1.0)
    with pytest.raises(InputError, match=r"gradients? must be a matrix"):
        prediction_rigidity(ROWS, GRADIENTS[0], 1.0)
    with pytest.raises(InputError, match=r"rows? must be a matrix"):
        prediction_rigidity(ROWS[0], GRADIENTS, 1.0)


@pytest.mark.parametrize("shape", ["row", "parameter", "auto"])
def test_a_gradient_of_zeros(shape: str) -> None:
    gradients = GRADIENTS.clone()
    gradients[1] = 0
    with pytest.raises(InputError, match="gradient 1 is zero"):
        prediction_rigidity(ROWS, gradients, 1.0, shape)


def test_a_shape_that_does_not_exist() -> None:
    with pytest.raises(InputError, match="'dual' is unknown"):
        build(ROWS, 1.0, "dual")


@pytest.mark.parametrize("shape", ["row", "parameter", "auto"])
def test_no_gradients_have_no_rigidities(shape: str) -> None:
    assert prediction_rigidity(ROWS, GRADIENTS[:0], 1.0, shape).shape == (0,)
