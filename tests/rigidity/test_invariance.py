"""C23 and T9: what rigidity must not depend on."""

import numpy as np
import pytest
import torch
from hypothesis import given

from tests.cases import FEATURES, MODELS, ONE, Problem, make_batch, problems, ridges, theorem
from torchlpr import AtomBatch, LinearModel, Objective, Rigidity, prediction_rigidity


def rotation(size: int, rng: np.random.Generator) -> torch.Tensor:
    return torch.from_numpy(np.linalg.qr(rng.normal(size=(size, size)))[0])


@theorem
@given(problem=problems(), mu=ridges)
def test_t9_orthogonal_reparametrisation(problem: Problem, mu: float) -> None:
    q = rotation(problem.rows.shape[1], problem.rng)
    plain = prediction_rigidity(problem.rows, problem.gradients, mu)
    turned = prediction_rigidity(problem.rows @ q, problem.gradients @ q, mu)
    torch.testing.assert_close(turned, plain, rtol=1e-10, atol=0)
    q = rotation(problem.rows.shape[0], problem.rng)  # and of the rows among themselves
    torch.testing.assert_close(
        prediction_rigidity(q @ problem.rows, problem.gradients, mu), plain, rtol=1e-10, atol=0
    )


@theorem
@given(problem=problems(), mu=ridges)
def test_t9_scaled_weights_with_their_regulariser(problem: Problem, mu: float) -> None:
    scale = torch.from_numpy(problem.rng.uniform(0.1, 10, problem.rows.shape[1]))
    plain = prediction_rigidity(problem.rows, problem.gradients, mu)
    scaled = prediction_rigidity(
        problem.rows * scale, problem.gradients * scale, mu * scale.square()
    )
    torch.testing.assert_close(scaled, plain, rtol=1e-10, atol=0)


@theorem
@given(problem=problems(), mu=ridges)
def test_units(problem: Problem, mu: float) -> None:
    """Energies in other units: rows, gradients times s, mu times s^2 at the same weights' unit."""
    s = 27.211386245981
    plain = prediction_rigidity(problem.rows, problem.gradients, mu)
    rows_only = prediction_rigidity(problem.rows * s, problem.gradients, mu * s**2)
    torch.testing.assert_close(rows_only, plain * s**2, rtol=1e-11, atol=0)
    gradients_only = prediction_rigidity(problem.rows, problem.gradients * s, mu)
    torch.testing.assert_close(gradients_only, plain / s**2, rtol=1e-11, atol=0)


def test_c23_orthogonal_features() -> None:
    q = rotation(FEATURES, np.random.default_rng(3))
    train, test = make_batch(6, seed=1), make_batch(3, seed=2)

    def turned(batch: AtomBatch) -> AtomBatch:
        return AtomBatch(batch.features @ q, batch.types, batch.structure)

    model, objective = LinearModel(FEATURES, ONE), Objective(mu=1e-3)
    plain = Rigidity(model, train, objective).local(test)
    np.testing.assert_allclose(
        Rigidity(model, turned(train), objective).local(turned(test)), plain, rtol=1e-10
    )


@pytest.mark.parametrize("name", MODELS)
def test_c23_order_of_atoms_and_structures(name: str) -> None:
    types, build = MODELS[name]
    train, test = make_batch(6, types, seed=1), make_batch(3, types, seed=2)
    generator = torch.Generator().manual_seed(0)
    renumbered = torch.randperm(6, generator=generator)
    order = torch.randperm(len(train), generator=generator)
    mixed = AtomBatch(train.features[order], train.types[order], renumbered[train.structure[order]])
    model, objective = build(), Objective(mu=1e-3)
    plain = Rigidity(model, train, objective).local(test)
    np.testing.assert_allclose(Rigidity(model, mixed, objective).local(test), plain, rtol=1e-10)
    order = torch.randperm(len(test), generator=generator)
    asked = AtomBatch(test.features[order], test.types[order], torch.zeros(len(test)).long())
    np.testing.assert_allclose(
        Rigidity(model, train, objective).local(asked), plain[order], rtol=1e-10
    )


@pytest.mark.parametrize("name", MODELS)
def test_training_energies_play_no_part(name: str) -> None:
    types, build = MODELS[name]
    train, test = make_batch(6, types, seed=1), make_batch(3, types, seed=2)
    unlabelled = AtomBatch(train.features, train.types, train.structure)
    model, objective = build(), Objective(mu=1e-3)
    assert torch.equal(
        Rigidity(model, unlabelled, objective).local(test),
        Rigidity(model, train, objective).local(test),
    )
