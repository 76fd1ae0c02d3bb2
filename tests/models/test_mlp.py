"""Sizes, seeds and refusals of the Behler-Parrinello network."""

import pytest
import torch

from torchlpr.curvature import parameter_count
from torchlpr.errors import InputError
from torchlpr.models import BehlerParrinelloMLP


@pytest.mark.parametrize(
    ("features", "hidden", "bias", "expected"),
    [
        (576, (16, 16), False, 9488),  # Chong et al. (2023), SI section 6
        (576, (16, 16), True, 9521),
        (8, (30, 30), True, 1231),  # Yoo et al. (2019), supplement, spline toy
    ],
)
def test_c32_parameter_counts(features: int, hidden: tuple, bias: bool, expected: int) -> None:
    assert parameter_count(BehlerParrinelloMLP(features, [6], hidden, bias=bias)) == expected
    two = BehlerParrinelloMLP(features, ["Ga", "As"], hidden, bias=bias)
    assert parameter_count(two) == 2 * expected


def test_the_published_network_is_the_default() -> None:
    model = BehlerParrinelloMLP(576, ["C"])
    assert parameter_count(model) == 9488
    assert [type(layer).__name__ for layer in model.networks[0]] == [
        "Linear", "Sigmoid", "Linear", "Sigmoid", "Linear",
    ]  # fmt: skip
    assert all(p.dtype == torch.float64 for p in model.parameters())


def test_a_seed_fixes_the_weights_and_leaves_the_generator_alone() -> None:
    def weights(seed: int | None) -> torch.Tensor:
        model = BehlerParrinelloMLP(4, [14], (3,), seed=seed)
        return torch.nn.utils.parameters_to_vector(model.parameters())

    state = torch.random.get_rng_state()
    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_species_start_from_different_weights() -> None:
    model = BehlerParrinelloMLP(4, [31, 33], (3,), seed=0)
    first, second = (net[0].weight for net in model.networks)
    assert not torch.equal(first, second)


def test_species_may_be_symbols_in_any_order() -> None:
    assert BehlerParrinelloMLP(4, ["As", "Ga", "As"]).types == (31, 33)
    with pytest.raises(InputError, match="'Xx' is no chemical element"):
        BehlerParrinelloMLP(4, ["Xx"])
    with pytest.raises(InputError, match="types is empty"):
        BehlerParrinelloMLP(4, [])


def test_settings_that_make_no_network_are_refused() -> None:
    with pytest.raises(InputError, match="'relu' is unknown"):
        BehlerParrinelloMLP(4, [14], activation="relu")
    with pytest.raises(InputError, match="widths must be positive"):
        BehlerParrinelloMLP(4, [14], hidden=(3, 0))
    with pytest.raises(InputError, match="widths must be positive"):
        BehlerParrinelloMLP(0, [14])
