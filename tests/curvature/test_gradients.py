"""Atomic gradients against one autograd pass an atom."""

import copy

import pytest
import torch
from torch import nn

from tests.cases import FEATURES, MODELS, ONE, Case, make_batch
from tests.oracles import autograd_loops
from torchlpr.curvature import atomic_gradients, gradient_chunks, parameter_count
from torchlpr.errors import InputError
from torchlpr.models import BehlerParrinelloMLP, SparseKernelModel
from torchlpr.models.activations import ACTIVATIONS
from torchlpr.structures.batch import AtomBatch


def loop_in_double(model: nn.Module, batch: AtomBatch) -> torch.Tensor:
    """The oracle on the float64 copy: gradients are float64 whatever the model's dtype."""
    return autograd_loops.atomic_gradients(
        copy.deepcopy(model).to(torch.float64), batch.features.to(torch.float64), batch.types
    )


def test_equal_one_backward_pass_an_atom(case: Case) -> None:
    model, batch = case.model(), case.batch(structures=4)
    gradients = atomic_gradients(model, batch.features, batch.types)
    assert gradients.dtype == torch.float64
    assert gradients.device == batch.features.device
    torch.testing.assert_close(gradients, loop_in_double(model, batch), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", MODELS)
def test_leave_the_model_alone(name: str) -> None:
    types, build = MODELS[name]
    model, batch = build(), make_batch(3, types)
    before = copy.deepcopy(model.state_dict())
    atomic_gradients(model, batch.features, batch.types)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_chunks_do_not_change_results(name: str, size: int) -> None:
    types, build = MODELS[name]
    model, batch = build(), make_batch(5, types)
    whole = atomic_gradients(model, batch.features, batch.types)
    parts = [(part, g.clone()) for part, g in gradient_chunks(model, batch, size)]
    assert [i for part, _ in parts for i in range(part.start, part.stop)] == [*range(len(batch))]
    torch.testing.assert_close(torch.cat([g for _, g in parts]), whole, rtol=1e-14, atol=1e-15)
    if size < len(batch):
        assert len(parts) > 1


@pytest.mark.parametrize("name", MODELS)
def test_columns_follow_the_order_of_the_parameters(name: str) -> None:
    """Column j answers a nudge of the j-th entry of parameters_to_vector."""
    types, build = MODELS[name]
    model, batch = build(), make_batch(2, types)
    gradients = atomic_gradients(model, batch.features, batch.types)
    weights = nn.utils.parameters_to_vector(model.parameters()).detach()
    assert parameter_count(model) == len(weights) == gradients.shape[1]
    for j in range(len(weights)):
        nudged = []
        for step in (1e-5, -1e-5):
            nn.utils.vector_to_parameters(
                weights + step * torch.eye(len(weights), dtype=weights.dtype)[j],
                model.parameters(),
            )
            with torch.no_grad():
                nudged.append(model(batch.features, batch.types))
        slope = (nudged[0] - nudged[1]) / 2e-5
        torch.testing.assert_close(gradients[:, j], slope, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", ["linear", "linear two species", "kernel", "kernel two species"])
def test_basis_equals_the_generic_route(name: str) -> None:
    """A wrapper that hides the basis takes vmap(grad) through the same forward."""

    class Opaque(nn.Module):
        def __init__(self, head: nn.Module) -> None:
            super().__init__()
            self.head = head

        def forward(self, features: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
            return self.head(features, types)

    types, build = MODELS[name]
    model, batch = build(), make_batch(5, types)
    direct = atomic_gradients(model, batch.features, batch.types)
    generic = atomic_gradients(Opaque(model), batch.features, batch.types)
    torch.testing.assert_close(direct, generic, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["mlp", "linear", "kernel"])
def test_weights_that_are_not_finite_are_refused(name: str, bad: float) -> None:
    types, build = MODELS[name]
    model, batch = build(), make_batch(2, types)
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] = bad
    with pytest.raises(InputError, match=r"parameter '.*weight' of the model is not finite"):
        atomic_gradients(model, batch.features, batch.types)


def test_a_model_without_parameters_is_refused() -> None:
    class Constant(nn.Module):
        def forward(self, features: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
            return features.sum(1)

    batch = make_batch(2)
    with pytest.raises(InputError, match="Constant has no parameters"):
        atomic_gradients(Constant(), batch.features, batch.types)


@pytest.mark.parametrize("name", [name for name, (types, _) in MODELS.items() if len(types) == 2])
@pytest.mark.parametrize("present", [31, 33])
def test_a_batch_without_one_of_the_known_species(name: str, present: int) -> None:
    model, batch = MODELS[name][1](), make_batch(3, (present,))
    expected = autograd_loops.atomic_gradients(model, batch.features, batch.types)
    gradients = atomic_gradients(model, batch.features, batch.types)
    torch.testing.assert_close(gradients, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("hidden", [(), (1,), (4, 3, 2)])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("types", [(14,), (31, 33)])
def test_every_network(
    types: tuple[int, ...], bias: bool, hidden: tuple[int, ...], activation: str
) -> None:
    model = BehlerParrinelloMLP(FEATURES, types, hidden, activation, bias, seed=1)
    batch = make_batch(3, types)
    expected = autograd_loops.atomic_gradients(model, batch.features, batch.types)
    gradients = atomic_gradients(model, batch.features, batch.types)
    torch.testing.assert_close(gradients, expected, rtol=1e-12, atol=1e-14)


def test_an_unknown_species_is_refused() -> None:
    batch = make_batch(2, (14, 32))
    with pytest.raises(InputError, match="knows Si but the structures hold Ge"):
        atomic_gradients(BehlerParrinelloMLP(FEATURES, ONE), batch.features, batch.types)


def test_a_float32_kernel_has_the_gradients_of_the_float64_one() -> None:
    """Only its weights are rounded, and the gradient of a linear head does not see them."""
    inducing, batch = make_batch(3, atoms=1, seed=99), make_batch(4)
    rows = [
        atomic_gradients(SparseKernelModel(inducing, dtype=dtype), batch.features, batch.types)
        for dtype in (torch.float32, torch.float64)
    ]
    torch.testing.assert_close(rows[0], rows[1], rtol=1e-13, atol=1e-15)
