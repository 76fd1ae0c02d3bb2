"""Rows of forces (C25): three providers, the loss that training sees, and finite differences."""

import copy
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tests.cases import DEVICES, DTYPES, MODELS, make_batch
from tests.force_cases import DESCRIPTORS, TYPES, carbide, displaced, make_force_batch, silane
from tests.oracles import autograd_loops
from torchlpr import (
    AtomBatch,
    BehlerParrinelloMLP,
    InputError,
    LinearModel,
    Objective,
    SparseKernelModel,
)
from torchlpr.curvature import (
    energy_rows,
    force_rows,
    parameter_subset,
    training_products,
    training_row_chunks,
    training_rows,
)
from torchlpr.models import LinearInParameters
from torchlpr.models.inducing import select_inducing
from torchlpr.objective import predict

OBJECTIVE = Objective(mu=0.1, energy_weight=2.0, force_weight=0.3)


class Foreign(nn.Module):
    """Hides what a model is, so that only the generic way is left."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, features: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
        return self.model(features, types)


class Squares(LinearInParameters):
    """A basis that torchlpr does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, 4, dtype=torch.float64))

    def basis(self, features: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
        return features.square() * types.unsqueeze(1)


def flat(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()]).to(torch.float64)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", [*MODELS, "squares"])
def test_are_the_jacobian_of_the_residuals_that_training_sees(
    name: str, dtype: torch.dtype, device: str
) -> None:
    """Closed forms and the generic way, from weights and features of any precision."""
    types, build = MODELS.get(name, ((14,), Squares))
    model, batch = build().to(device, dtype), make_force_batch(4, types).to(device, dtype)
    double, exact = copy.deepcopy(model).double(), batch.to(dtype=torch.float64)

    def residuals(w: torch.Tensor) -> torch.Tensor:
        return OBJECTIVE.batch_residuals(autograd_loops.with_weights(double, w), exact)

    expected = torch.autograd.functional.jacobian(residuals, flat(model))
    scale = float(expected.abs().max())
    assert len(expected) == OBJECTIVE.n_rows(batch) == 4 + 3 * len(batch)
    for provider in (model, Foreign(model)):
        rows = training_rows(provider, batch, OBJECTIVE)
        assert rows.dtype == torch.float64
        torch.testing.assert_close(rows, expected, rtol=0, atol=1e-12 * scale)


def real(kind: str, head: str) -> tuple[nn.Module, Callable, list]:
    descriptor, structures = DESCRIPTORS[kind], [silane(1), carbide(2)]
    n = descriptor.n_features
    if head == "kernel":
        reference = descriptor([silane(5), carbide(6), silane(7)])
        model: nn.Module = SparseKernelModel(select_inducing(reference, 6, 2), 2)
    else:
        model = (
            LinearModel(n, TYPES)
            if head == "linear"
            else BehlerParrinelloMLP(n, TYPES, (4, 3), "tanh", bias=True, seed=3)
        )
    if head != "mlp":
        model.weight.data = torch.linspace(-1, 1, model.weight.numel(), dtype=torch.float64)
    return model, descriptor, structures


REAL = [("normalised SOAP", "mlp"), ("SOAP", "kernel"), ("scaled symmetry functions", "mlp"),
        ("symmetry functions", "linear")]  # fmt: skip


@pytest.mark.parametrize(("kind", "head"), REAL)
def test_c25_finite_differences(kind: str, head: str) -> None:
    """From features alone: -d/dr of dE/dw, and forces as central differences of energies."""
    model, descriptor, structures = real(kind, head)
    batch = descriptor(structures, derivatives=True)
    n, h = len(batch), 2e-3

    def along(function: Callable[[AtomBatch], torch.Tensor], atom: int, axis: int) -> np.ndarray:
        def at(step: float) -> np.ndarray:
            moves = np.zeros((n, 3))
            moves[atom, axis] = step
            return function(descriptor(displaced(structures, moves))).sum(0).detach().numpy()

        f = [(at(s) - at(-s)) / (2 * s) for s in (h, 2 * h, 4 * h)]
        one, two = (4 * f[0] - f[1]) / 3, (4 * f[1] - f[2]) / 3
        return (16 * one - two) / 15

    def gradients(moved: AtomBatch) -> torch.Tensor:
        unit = torch.ones(2, dtype=torch.float64)
        return autograd_loops.structure_rows(
            model, moved.features, moved.types, moved.structure, unit
        )

    rows, forces = force_rows(model, batch, OBJECTIVE), predict(model, batch)[1].detach()
    chosen = [(0, 0), (1, 2), (4, 1), (5, 0), (6, 2)]
    for atom, axis in chosen:
        expected = -(OBJECTIVE.force_weight**0.5) * along(gradients, atom, axis)
        scale = float(rows.abs().max())
        np.testing.assert_allclose(rows[3 * atom + axis], expected, rtol=0, atol=1e-8 * scale)
        expected = -along(lambda b: model(b.features, b.types), atom, axis)
        np.testing.assert_allclose(
            forces[atom, axis], expected, rtol=0, atol=1e-8 * float(forces.abs().max())
        )


@pytest.mark.parametrize(("kind", "head"), REAL)
def test_c25_finite_differences_by_weights_of_differences_by_positions(
    kind: str, head: str
) -> None:
    """Nothing but energies: four evaluations for each mixed derivative."""
    model, descriptor, structures = real(kind, head)
    rows = force_rows(model, descriptor(structures, derivatives=True), OBJECTIVE)
    rng, w = np.random.default_rng(0), flat(model)
    direction = torch.from_numpy(rng.normal(size=len(w)))
    moves = rng.normal(size=(7, 3))
    h = 1e-3

    def mixed(h: float) -> float:
        total = 0.0
        for a in (h, -h):
            batch = descriptor(displaced(structures, a * moves))
            for b in (h, -h):
                energies = autograd_loops.with_weights(model, w + b * direction)
                total += float(energies(batch.features, batch.types).sum()) * np.sign(a * b)
        return total / (4 * h * h)

    f = [mixed(s * h) for s in (1, 2, 4)]
    one, two = (4 * f[0] - f[1]) / 3, (4 * f[1] - f[2]) / 3
    expected = -(OBJECTIVE.force_weight**0.5) * (16 * one - two) / 15
    found = float(torch.from_numpy(moves).reshape(-1) @ rows @ direction)
    assert found == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize(("kind", "head"), REAL)
def test_c25_no_net_force_no_torque_and_the_rank(kind: str, head: str) -> None:
    model, descriptor, _ = real(kind, head)
    atoms = silane(1)
    rows = force_rows(model, descriptor([atoms], derivatives=True), OBJECTIVE).view(5, 3, -1)
    scale = float(rows.abs().max())
    np.testing.assert_allclose(rows.sum(0), 0, atol=1e-12 * scale)
    torque = np.cross(atoms.positions[:, :, None], rows, axisa=1, axisb=1, axisc=1).sum(0)
    np.testing.assert_allclose(torque, 0, atol=2e-10 * scale)
    values = np.linalg.svd(rows.flatten(0, 1), compute_uv=False)
    assert (values > 1e-9 * values[0]).sum() <= 3 * 5 - 6
    crystal = force_rows(model, descriptor([carbide(2)], derivatives=True), OBJECTIVE)
    values = np.linalg.svd(crystal, compute_uv=False)
    assert (values > 1e-9 * values[0]).sum() <= 3 * 2 - 3


@pytest.mark.parametrize("size", [1, 7, 50, None])
@pytest.mark.parametrize("name", ["mlp two species", "kernel two species", "linear"])
def test_chunks(name: str, size: int | None) -> None:
    types, build = MODELS[name]
    model, batch = build(), make_force_batch(5, types)
    whole, filled = training_rows(model, batch, OBJECTIVE), 0
    for where, rows in training_row_chunks(model, batch, OBJECTIVE, size):
        assert where.start == filled
        filled = where.stop
        torch.testing.assert_close(rows, whole[where], rtol=1e-12, atol=1e-14)
        assert size is None or len(rows) <= max(3, size)
    assert filled == len(whole)


def test_structures_without_forces_have_no_force_rows() -> None:
    types, build = MODELS["mlp two species"]
    model, batch = build(), make_force_batch(5, types)
    gone = torch.isin(batch.structure, torch.tensor([1, 4]))
    partly = replace(batch, forces=torch.where(gone.unsqueeze(1), torch.nan, batch.forces))
    keep = torch.cat([torch.ones(5, dtype=torch.bool), (~gone).repeat_interleave(3)])
    assert OBJECTIVE.n_rows(partly) == int(keep.sum())
    rows = training_rows(model, partly, OBJECTIVE)
    torch.testing.assert_close(rows, training_rows(model, batch, OBJECTIVE)[keep])
    assert (
        len(OBJECTIVE.batch_residuals(model, partly)) == len(rows) == len(OBJECTIVE.targets(partly))
    )
    unlabelled = replace(batch, forces=None, energies=None)  # labels play no part in rows
    torch.testing.assert_close(
        training_rows(model, unlabelled, OBJECTIVE), training_rows(model, batch, OBJECTIVE)
    )
    energies_only = replace(OBJECTIVE, force_weight=0.0)
    torch.testing.assert_close(
        training_rows(model, batch, energies_only), energy_rows(model, batch, energies_only)
    )


@pytest.mark.parametrize("which", ["last-layer", "species:33", "networks.1.0.*"])
def test_subsets(which: str) -> None:
    types, build = MODELS["mlp bias silu two species"]
    model, batch = build(), make_force_batch(4, types)
    subset = parameter_subset(model, which)
    expected = subset.columns(training_rows(model, batch, OBJECTIVE))
    patterns = {"last-layer": "model.networks.*.4.*", "species:33": "model.networks.1.*"}
    foreign = Foreign(model)
    same = parameter_subset(foreign, patterns.get(which, f"model.{which}"))
    torch.testing.assert_close(training_rows(model, batch, OBJECTIVE, subset), expected)
    torch.testing.assert_close(training_rows(foreign, batch, OBJECTIVE, same), expected)


@pytest.mark.parametrize("block", [1, 2**24])
@pytest.mark.parametrize("name", MODELS)
def test_products_without_rows(name: str, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchlpr.curvature.force_products.BLOCK", block)
    types, build = MODELS[name]
    model, batch = build(), make_force_batch(4, types)
    gone = (batch.structure == 2).unsqueeze(1)
    batch = replace(batch, forces=torch.where(gone, torch.nan, batch.forces))
    rows = training_rows(model, batch, OBJECTIVE)
    products = training_products(model, batch, OBJECTIVE)
    assert (products.n_rows, products.n_parameters) == rows.shape
    rng = np.random.default_rng(0)
    v, u = (torch.from_numpy(rng.normal(size=(3, n))) for n in rows.shape[::-1])
    torch.testing.assert_close(products.forward(v), v @ rows.mT, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(products.adjoint(u), u @ rows, rtol=1e-12, atol=1e-13)


def test_what_is_missing_is_named() -> None:
    types, build = MODELS["linear"]
    model, batch = build(), make_batch(3, types)
    for call in (OBJECTIVE.n_rows, lambda b: training_rows(model, b, OBJECTIVE)):
        with pytest.raises(InputError, match=r"forces weigh 0.3, but this batch has no deriv.*=0$"):
            call(batch)
    with pytest.raises(InputError, match="forces need derivatives; describe the structures with"):
        predict(model, batch)
    bare = replace(make_force_batch(3, types), forces=None)
    for call in (OBJECTIVE.targets, lambda b: OBJECTIVE.batch_residuals(model, b)):
        with pytest.raises(InputError, match="no forces, which the objective weighs; read the"):
            call(bare)
