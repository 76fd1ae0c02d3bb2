"""Forward passes against the formulas written out in numpy."""

import numpy as np
import pytest
import torch

from tests.cases import FEATURES, MODELS, Case, make_batch
from tests.oracles import networks
from torchlpr.errors import InputError
from torchlpr.models import BehlerParrinelloMLP
from torchlpr.models.activations import ACTIVATIONS


def layers(model: BehlerParrinelloMLP) -> dict[int, list]:
    """Weights and biases of each species, read from the state by name."""
    state = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    depth = len(model.hidden) + 1
    return {
        z: [
            (state[f"networks.{s}.{2 * d}.weight"], state.get(f"networks.{s}.{2 * d}.bias"))
            for d in range(depth)
        ]
        for s, z in enumerate(model.types)
    }


@pytest.mark.parametrize("types", [(14,), (31, 33), (6, 14, 32)])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("hidden", [(), (5,), (5, 3)])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_networks(
    activation: str, hidden: tuple[int, ...], bias: bool, types: tuple[int, ...]
) -> None:
    model = BehlerParrinelloMLP(FEATURES, types, hidden, activation, bias, seed=5)
    batch = make_batch(4, types)
    expected = networks.atomic_energies(
        batch.features.numpy(), batch.types, layers(model), activation
    )
    energies = model(batch.features, batch.types).detach()
    np.testing.assert_allclose(energies, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", ["linear", "linear two species"])
def test_linear_heads(name: str) -> None:
    types, build = MODELS[name]
    model, batch = build(), make_batch(4, types)
    weight = model.weight.detach().numpy().reshape(len(types), FEATURES)
    of = {z: weight[s] for s, z in enumerate(types)}
    pairs = zip(batch.features.numpy(), batch.types.tolist(), strict=True)
    energies = model(batch.features, batch.types).detach()
    np.testing.assert_allclose(energies, [x @ of[z] for x, z in pairs], rtol=1e-13)


def test_atoms_do_not_see_each_other_nor_their_order(case: Case) -> None:
    model, batch = case.model(), case.batch(structures=6)
    energies = model(batch.features, batch.types)
    assert energies.dtype == case.dtype
    assert energies.shape == (len(batch),)
    generator = torch.Generator().manual_seed(3)
    order = torch.randperm(len(batch), generator=generator).to(energies.device)
    tolerance = 1e-12 if case.dtype == torch.float64 else 1e-5
    mixed = model(batch.features[order], batch.types[order])
    torch.testing.assert_close(mixed, energies[order], rtol=tolerance, atol=tolerance)
    alone = [model(batch.features[k : k + 1], batch.types[k : k + 1]) for k in range(len(batch))]
    torch.testing.assert_close(torch.cat(alone), energies, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", MODELS)
def test_an_unknown_species_is_named(name: str) -> None:
    types, build = MODELS[name]
    batch = make_batch(4, (*types, 79))
    with pytest.raises(InputError, match="but the structures hold Au"):
        build()(batch.features, batch.types)


@pytest.mark.parametrize("name", MODELS)
def test_a_batch_may_lack_a_known_species(name: str) -> None:
    types, build = MODELS[name]
    model, full = build(), make_batch(6, types)
    present = full.types == types[-1]
    energies = model(full.features[present], full.types[present])
    torch.testing.assert_close(
        energies, model(full.features, full.types)[present], rtol=1e-13, atol=1e-15
    )
