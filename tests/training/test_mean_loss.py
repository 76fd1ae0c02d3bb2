"""A loss of means has the minimum of the objective that stands for it."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.cases import MODELS, make_batch
from tests.force_cases import make_force_batch
from tests.training import dense
from tests.training.test_forces import forces_of
from torchlpr import AtomBatch, InputError, Objective
from torchlpr.training import fit, mean_loss_objective

L2, WEIGHT = 1e-2, 0.1


def paper(model, batch: AtomBatch, l2: float, weight: float) -> torch.Tensor:
    """mean (dE/n)^2 + f mean dF^2 + l |w|^2, with the means of torch."""
    local = model(batch.features, batch.types)
    totals = torch.zeros(batch.n_structures, dtype=local.dtype).index_add(0, batch.structure, local)
    value = ((totals - batch.labels()) / batch.counts).square().mean()
    if weight:
        known = ~torch.isnan(batch.forces[:, 0])
        value = value + weight * (forces_of(model, batch) - batch.forces)[known].square().mean()
    return value + l2 * sum(p.square().sum() for p in model.parameters())


def partly() -> AtomBatch:
    batch = make_force_batch(7)
    gone = (batch.structure == 3).unsqueeze(1)
    return replace(batch, forces=torch.where(gone, torch.nan, batch.forces))


@pytest.mark.parametrize("weight", [0.0, WEIGHT])
def test_it_is_a_multiple_of_the_objective(weight: float) -> None:
    batch, model = partly(), MODELS["mlp bias tanh"][1]()
    objective = mean_loss_objective(batch, L2, weight)
    known = 3 * int((~torch.isnan(batch.forces[:, 0])).sum())
    assert objective.mu == pytest.approx(7 * L2)
    assert objective.force_weight == pytest.approx(weight * 7 / known)
    for seed in range(3):
        torch.manual_seed(seed)
        with torch.no_grad():
            for p in model.parameters():
                p.normal_()
        residuals = objective.batch_residuals(model, batch)
        value = objective.data_loss(residuals) + objective.penalty(model.parameters())
        expected = paper(model, batch, L2, weight)
        assert float(value.detach()) * 2 / 7 == pytest.approx(float(expected.detach()), rel=1e-12)


def test_the_minimisers_are_equal() -> None:
    """The paper's minimum by Newton on its own loss, ours by the closed form."""
    batch, model = partly(), MODELS["linear"][1]()
    fit(model, batch, mean_loss_objective(batch, L2, WEIGHT))
    twin = MODELS["linear"][1]()
    start = torch.zeros_like(twin.weight.detach()).requires_grad_()

    def value(w: torch.Tensor) -> torch.Tensor:
        def energies(x: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
            return torch.func.functional_call(twin, {"weight": w}, (x, types))

        data = paper(energies_with(energies), batch, L2, WEIGHT)
        return data + L2 * w.square().sum()

    gradient = torch.autograd.functional.jacobian(value, start)
    hessian = torch.autograd.functional.hessian(value, start)
    expected = -torch.linalg.solve(hessian, gradient)  # quadratic: one step from zero
    np.testing.assert_allclose(dense.flat(model), expected, rtol=1e-9)


def energies_with(function):
    """Something to call that has no parameters of its own: the penalty is added outside."""

    class Plain:
        def __call__(self, x, types):
            return function(x, types)

        def parameters(self):
            return []

    return Plain()


def test_a_network_at_our_minimum_is_at_the_papers() -> None:
    batch, model = partly(), MODELS["mlp"][1]()
    result = fit(model, batch, mean_loss_objective(batch, L2, WEIGHT), "lm", progress=False)
    assert result.stationarity.is_minimum
    slopes = torch.autograd.grad(paper(model, batch, L2, WEIGHT), list(model.parameters()))
    size = 2 * L2 * float(np.linalg.norm(dense.flat(model)))
    assert math.sqrt(sum(float(s.square().sum()) for s in slopes)) < 1e-6 * size


def test_what_is_refused() -> None:
    batch = make_batch(3)
    assert mean_loss_objective(batch, 1e-6) == Objective(3e-6)
    with pytest.raises(InputError, match=r"l2 must be a positive number, not 0\.0"):
        mean_loss_objective(batch, 0.0)
    with pytest.raises(InputError, match="l2 must be a number, not '1e-6'"):
        mean_loss_objective(batch, "1e-6")
    with pytest.raises(InputError, match=r"forces weigh 0\.1, but no structure has any"):
        mean_loss_objective(batch, 1e-6, 0.1)
