"""Loss and gradient of packed batches against the loss written out, differentiated by autograd."""

from dataclasses import replace

import pytest
import torch

from tests.cases import DTYPES, MODELS
from tests.force_cases import make_force_batch
from tests.training.test_forces import loss as written_out
from torchlpr import Objective
from torchlpr.structures.packed import PackedStructures
from torchlpr.training.losses import batch_loss, batch_residuals, packs

NETWORKS = [name for name in MODELS if name.startswith("mlp")]
OBJECTIVES = {
    "per atom": Objective(mu=0.03, energy_weight=1.7, force_weight=0.2),
    "totals": Objective(mu=1e-4, per_atom=False, force_weight=3.0),
}


def partly(name: str):
    """A model and structures, two of which have no forces."""
    types, build = MODELS[name]
    batch = make_force_batch(6, types)
    gone = torch.isin(batch.structure, torch.tensor([1, 4])).unsqueeze(1)
    return build(), replace(batch, forces=torch.where(gone, torch.nan, batch.forces))


@pytest.mark.parametrize("which", OBJECTIVES)
@pytest.mark.parametrize("name", NETWORKS)
def test_value_gradient_and_residuals(name: str, which: str) -> None:
    (model, batch), objective = partly(name), OBJECTIVES[which]
    parameters = list(model.parameters())
    for order in ([0, 1, 2, 3, 4, 5], [4, 2, 0], [1, 4]):
        packed, part = PackedStructures(batch).take(order), batch.select(order)
        expected = written_out(model, part, objective)
        found, residuals = batch_loss(model, packed, objective)
        torch.testing.assert_close(found.detach(), expected.detach(), rtol=1e-12, atol=0)
        pairs = zip(
            torch.autograd.grad(found, parameters),
            torch.autograd.grad(expected, parameters),
            strict=True,
        )
        for mine, theirs in pairs:
            torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)
        known = objective.batch_residuals(model, part).detach()
        torch.testing.assert_close(residuals, known, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(
            batch_residuals(model, packed, objective), known, rtol=1e-10, atol=1e-12
        )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_data_term_alone_is_scaled(dtype: torch.dtype) -> None:
    objective = OBJECTIVES["per atom"]
    model, batch = partly("mlp bias tanh")
    model, batch = model.to(dtype), batch.to(dtype=dtype)
    packed = PackedStructures(batch).take([0, 3])
    results = [batch_loss(model, data, objective, 2.5) for data in (packed, batch.select([0, 3]))]
    grads = [torch.autograd.grad(value, list(model.parameters())) for value, _ in results]
    close = {"rtol": 1e-10, "atol": 1e-12} if dtype == torch.float64 else {}
    torch.testing.assert_close(results[0][0], results[1][0], **close, check_dtype=False)
    for mine, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(mine, theirs, **close)


def test_a_share_without_structures_has_the_penalty() -> None:
    objective = OBJECTIVES["per atom"]
    model, batch = partly("mlp bias silu two species")
    value, residuals = batch_loss(model, PackedStructures(batch).take([]), objective)
    value.backward()
    assert residuals.shape == (0,)
    for p in model.parameters():
        torch.testing.assert_close(p.grad, objective.mu * p.detach())


def test_what_is_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    forces, energies = OBJECTIVES["per atom"], Objective(mu=1.0)
    model, batch = partly("mlp")
    assert packs(model, batch, batch, forces)
    assert not packs(model, batch, None, energies)
    assert not packs(MODELS["linear"][1](), batch, None, forces)
    assert not packs(model, batch, replace(batch, forces=None), forces)
    monkeypatch.setattr("torchlpr.training.losses.memory_limit", lambda device: 1000)
    assert not packs(model, batch, None, forces)
