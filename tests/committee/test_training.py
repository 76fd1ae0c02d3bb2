"""Members trained together are the members trained alone."""

import math

import numpy as np
import pytest
import torch
from ase.build import bulk

from tests.cases import MODELS, ONE, make_batch, mlp
from tests.training import dense
from torchlpr import (
    SOAP,
    AtomBatch,
    BehlerParrinelloMLP,
    Committee,
    InputError,
    LinearModel,
    Objective,
    fit,
)
from torchlpr.committee.adam import _parts, adam_members
from torchlpr.committee.forward import member_energies, vmap_energies
from torchlpr.committee.networks import distinct_columns
from torchlpr.committee.stacked import StackedLoss
from torchlpr.committee.tasks import MemberTasks, draw_tasks
from torchlpr.training import AdamSettings, LMSettings
from torchlpr.training.network import train_network

OBJECTIVE = Objective(0.02, energy_weight=1.7)
NETWORKS = ["mlp", "mlp two species", "mlp bias tanh", "mlp bias silu two species", "mlp linear"]


def subsample_tasks(model, batch, members, size, seed=3) -> MemberTasks:
    return draw_tasks(
        "subsample", batch, OBJECTIVE, len(dense.flat(model)), members, size, 0.0, seed
    )


@pytest.mark.parametrize("fraction", [0.3, 0.8])
@pytest.mark.parametrize("mu", [1e-9, 0.05])
@pytest.mark.parametrize("structures", [4, 40])
@pytest.mark.parametrize("name", ["linear", "linear two species", "kernel two species"])
def test_a_subsampled_member_is_the_ridge_of_its_structures(
    name: str, structures: int, mu: float, fraction: float
) -> None:
    types, build = MODELS[name]
    batch, model, objective = make_batch(structures, types), build(), Objective(mu, 1.7)
    committee = Committee.train(model, batch, objective, 5, "subsample", fraction=fraction, seed=3)
    size = round(fraction * structures)
    tasks = draw_tasks("subsample", batch, objective, len(dense.flat(model)), 5, size, 0.0, 3)
    assert (tasks.kept.sum(1) == size).all()
    r, t = dense.rows(model, batch, objective), dense.targets(batch, objective)
    for kept, weights in zip(tasks.kept.numpy() > 0, committee.weights, strict=True):
        expected = dense.ridge(r[kept], t[kept], mu)
        np.testing.assert_allclose(weights, expected, rtol=0, atol=1e-7 * np.abs(expected).max())


@pytest.mark.parametrize("structures", [4, 40])
@pytest.mark.parametrize("name", ["linear two species", "kernel"])
def test_a_sampled_member_is_the_ridge_of_its_labels_and_prior(name: str, structures: int) -> None:
    types, build = MODELS[name]
    batch, model = make_batch(structures, types), build()
    committee = Committee.train(model, batch, OBJECTIVE, 3, sigma=0.4, seed=8)
    r, t = dense.rows(model, batch, OBJECTIVE), dense.targets(batch, OBJECTIVE)
    p = r.shape[1]
    for number, weights in enumerate(committee.weights):
        rng = np.random.default_rng([8, number, 0])
        noisy = t + 0.4 * rng.normal(size=len(t))
        centre = 0.4 / math.sqrt(OBJECTIVE.mu) * rng.normal(size=p)
        expected = centre + dense.ridge(r, noisy - r @ centre, OBJECTIVE.mu)
        np.testing.assert_allclose(weights, expected, rtol=0, atol=1e-10 * np.abs(expected).max())


@pytest.mark.parametrize("name", NETWORKS)
def test_the_wide_forward_pass_is_each_member_s_own(name: str) -> None:
    types, build = MODELS[name]
    batch, model = make_batch(6, types), build()
    weights = torch.stack([torch.from_numpy(dense.flat(model)) * f for f in (1.0, -0.7, 2.0)])
    committee = Committee(model, weights)
    together = committee.predict(batch).atoms.members
    for number in range(3):
        alone = committee.member(number)(batch.features, batch.types)
        np.testing.assert_allclose(together[number], alone.detach(), rtol=1e-12)
    for energies in (member_energies, vmap_energies):
        found = energies(committee.model, weights, batch.features, batch.types)
        np.testing.assert_allclose(found, together, rtol=1e-12)


@pytest.mark.parametrize("name", NETWORKS)
def test_adam_together_is_adam_alone(name: str) -> None:
    """Against Lightning and torch.optim on the member's own structures, plateau included."""
    types, build = MODELS[name]
    batch, model = make_batch(10, types), build()
    settings = AdamSettings(epochs=60, lr=0.1, patience=1, cooldown=2)
    tasks = subsample_tasks(model, batch, 3, 7)
    start = torch.from_numpy(dense.flat(model)).expand(3, -1)
    found = adam_members(
        StackedLoss(model, batch, OBJECTIVE, tasks), start, settings, progress=False
    )
    rates = []
    for kept, weights in zip(tasks.kept, found, strict=True):
        alone = build()
        own = batch.select(kept.nonzero().squeeze(1))
        log = train_network(alone, own, OBJECTIVE, settings, progress=False)
        rates.append(log[-1][-1])
        np.testing.assert_allclose(weights, dense.flat(alone), rtol=0, atol=1e-9)
    assert min(rates) < settings.lr  # the plateau was met, or this would not show it


def adam_alone(model, batch, kept, settings: AdamSettings, steps: int) -> tuple[float, int]:
    """torch.optim on what one member sees of each shared mini-batch; its rate and idle steps."""
    adam = torch.optim.Adam(model.parameters(), settings.lr)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
        adam, factor=settings.factor, patience=settings.patience, cooldown=settings.cooldown
    )
    idle = 0
    for epoch in range(settings.epochs):
        order = np.random.default_rng([settings.seed, epoch, 2]).permutation(len(kept))
        losses = []
        for part in np.array_split(order, steps):
            own = [m for m in part.tolist() if kept[m]]
            idle += not own
            if not own:
                continue
            residuals = OBJECTIVE.batch_residuals(model, batch.select(own))
            loss = OBJECTIVE.data_loss(residuals) * int(kept.sum()) / len(own)
            loss = loss + OBJECTIVE.penalty(model.parameters())
            adam.zero_grad()
            loss.backward()
            adam.step()
            losses += [float(loss.detach())] * len(own)
        plateau.step(np.mean(losses))
    return adam.param_groups[0]["lr"], idle


@pytest.mark.parametrize(("size", "steps"), [(1, 3), (2, 2), (3, 1)])
@pytest.mark.parametrize("name", [*NETWORKS, "linear"])
def test_shared_mini_batches_are_mini_batches_alone(name: str, size: int, steps: int) -> None:
    """With atoms in any order, and members that see nothing of a mini-batch."""
    types, build = MODELS[name]
    given, model = make_batch(10, types), build()
    mixed = torch.randperm(len(given), generator=torch.Generator().manual_seed(1))
    batch = AtomBatch(
        given.features[mixed], given.types[mixed], given.structure[mixed], given.energies
    )
    settings = AdamSettings(40, lr=0.1, patience=1, cooldown=2, batch_size=size, seed=4)
    tasks = subsample_tasks(model, batch, 3, 3)
    start = torch.from_numpy(dense.flat(model)).expand(3, -1)
    stack = StackedLoss(model, batch, OBJECTIVE, tasks)
    found = adam_members(stack, start, settings, progress=False)
    ends = []
    for kept, weights in zip(tasks.kept, found, strict=True):
        alone = build()
        ends.append(adam_alone(alone, batch, kept, settings, steps))
        np.testing.assert_allclose(weights, dense.flat(alone), rtol=0, atol=1e-9)
    rates, idle = zip(*ends, strict=True)
    assert min(rates) < settings.lr
    assert sum(idle) == 0 if steps == 1 else sum(idle) > 0


def test_a_shuffle_is_not_what_chose_a_member() -> None:
    """Equal seeds: each epoch's mini-batches hold about as many of each member's structures."""
    model, batch = LinearModel(4, ONE), make_batch(100)
    tasks = draw_tasks("subsample", batch, OBJECTIVE, 4, 5, 80, 0.0, 0)
    stack = StackedLoss(model, batch, OBJECTIVE, tasks)
    for epoch in range(5):
        parts = list(_parts(stack, AdamSettings(batch_size=16), epoch))
        assert len(parts) == 5
        assert torch.stack([part.seen for part in parts]).min() >= 10


@pytest.mark.parametrize("size", [None, 2])
def test_derivatives_of_features_are_no_obstacle(size: int | None) -> None:
    """Repeated columns are left out, and the derivatives that a batch may bring with them."""
    cells = [bulk("Si", cubic=True) for _ in range(4)]
    for number, cell in enumerate(cells):
        cell.rattle(0.1, seed=number)
        cell.info["energy"] = float(number)
    soap = SOAP(
        cutoff=3.0, max_radial=2, max_angular=2, width=0.5, smoothing=0.5, types=["Si"]
    )  # fmt: skip
    with_them, without = (soap(cells, progress=False, derivatives=d) for d in (True, False))
    model = BehlerParrinelloMLP(with_them.features.shape[1], ["Si"], (3,), seed=0)
    options = {"sigma": 0.1, "settings": AdamSettings(5, batch_size=size), "progress": False}
    first, second = (
        Committee.train(model, batch, OBJECTIVE, 2, **options).weights
        for batch in (with_them, without)
    )
    assert first.equal(second)


@pytest.mark.parametrize("name", [*NETWORKS, "linear"])
def test_predictions_are_differentiable(name: str) -> None:
    types, build = MODELS[name]
    batch, model = make_batch(3, types), build()
    committee = Committee(model, torch.from_numpy(dense.flat(model)).expand(2, -1))
    x = batch.features.clone().requires_grad_(True)
    moved = AtomBatch(x, batch.types, batch.structure)
    (found,) = torch.autograd.grad(committee.predict(moved).atoms.mean.sum(), x)
    (expected,) = torch.autograd.grad(committee.member(0)(x, batch.types).sum(), x)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("structures", [8, 60])
@pytest.mark.parametrize("name", [*NETWORKS, "linear"])
def test_levenberg_marquardt_together_is_alone(name: str, structures: int) -> None:
    types, build = MODELS[name]
    batch, model = make_batch(structures, types), build()
    size = structures * 3 // 4
    committee = Committee.train(
        model, batch, OBJECTIVE, 3, "subsample", fraction=size / structures, seed=3,
        start="model", optimizer="lm", lm_settings=LMSettings(12, 1e-9, 0), progress=False,
    )  # fmt: skip
    tasks = subsample_tasks(model, batch, 3, size)
    for kept, weights in zip(tasks.kept, committee.weights, strict=True):
        alone = build()
        own = batch.select(kept.nonzero().squeeze(1))
        fit(alone, own, OBJECTIVE, "lm", lm_settings=LMSettings(12, 1e-9, 0), progress=False)
        np.testing.assert_allclose(weights, dense.flat(alone), rtol=0, atol=1e-7)


def test_a_sampled_network_is_at_the_minimum_of_its_own_loss() -> None:
    """Gradient of 1/2 |t + noise - f(w)|^2 + mu/2 |w - w0|^2, by plain autograd."""
    batch, model = make_batch(9), mlp(ONE, bias=True)()
    steps = LMSettings(2000)
    committee = Committee.train(
        model, batch, OBJECTIVE, 3, sigma=0.05, lm_settings=steps, progress=False
    )
    tasks = draw_tasks(
        "sample-then-optimise", batch, OBJECTIVE, len(dense.flat(model)), 3, 9, 0.05, 0
    )
    for number in range(3):
        alone = committee.member(number).requires_grad_(True)
        noisy = AtomBatch(batch.features, batch.types, batch.structure, tasks.energies[number])
        slope = (
            dense.gradient(alone, noisy, OBJECTIVE) - OBJECTIVE.mu * tasks.centres[number].numpy()
        )
        size = OBJECTIVE.mu * np.linalg.norm(committee.weights[number])
        assert np.linalg.norm(slope) <= 1e-6 * size
    assert committee.facts["relative_gradient"] <= 1e-6
    starts = {tuple(w[:3].tolist()) for w in committee.weights}
    assert len(starts) == 3


@pytest.mark.parametrize("atoms", [1, 7, 1000])
@pytest.mark.parametrize("name", ["mlp two species", "linear"])
def test_blocks_of_structures_add_up(name: str, atoms: int, monkeypatch) -> None:
    monkeypatch.setattr("torchlpr.committee.stacked.BLOCK_ATOMS", atoms)
    types, build = MODELS[name]
    given = make_batch(9, types)
    order = torch.randperm(len(given), generator=torch.Generator().manual_seed(1))
    batch = AtomBatch(
        given.features[order], given.types[order], given.structure[order], given.energies
    )
    model = build()
    tasks = subsample_tasks(model, batch, 3, 6)
    stack = StackedLoss(model, batch, OBJECTIVE, tasks)
    w = torch.from_numpy(np.random.default_rng(0).normal(size=tasks.centres.shape))
    losses, gradient = stack.value_and_gradient(w)
    np.testing.assert_allclose(losses, stack.losses(w), rtol=1e-12)
    for weights, kept, slope in zip(w, tasks.kept, gradient, strict=True):
        alone = build()
        torch.nn.utils.vector_to_parameters(weights, alone.parameters())
        expected = dense.gradient(alone, batch.select(kept.nonzero().squeeze(1)), OBJECTIVE)
        np.testing.assert_allclose(slope, expected, rtol=1e-9, atol=1e-12)


def test_equal_columns_are_folded_without_a_change() -> None:
    """A power spectrum holds p(n1, n2) and p(n2, n1): the same function of the weights."""
    batch = make_batch(5)
    doubled = AtomBatch(
        torch.cat([batch.features, batch.features[:, [2, 0]]], 1),
        batch.types,
        batch.structure,
        batch.energies,
    )
    model = mlp(ONE)()
    model = type(model)(6, ONE, (4, 2), seed=1)
    tasks = subsample_tasks(model, doubled, 2, 4)
    stack = StackedLoss(model, doubled, OBJECTIVE, tasks)
    weights = torch.from_numpy(np.random.default_rng(0).normal(size=tasks.centres.shape))
    expected = vmap_energies(stack.model, weights, doubled.features, doubled.types)
    np.testing.assert_allclose(stack.energies(weights), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("kernel", {}),
        ("mlp", {"sigma": 0.1, "settings": AdamSettings(epochs=3)}),
        ("mlp", {"method": "subsample", "lm_settings": LMSettings(3)}),
    ],
)
def test_a_seed_says_it_all(name: str, options: dict) -> None:
    types, build = MODELS[name]
    batch = make_batch(10, types)

    def weights(members: int, seed: int) -> torch.Tensor:
        given = {"progress": False, "seed": seed} | options
        return Committee.train(build(), batch, OBJECTIVE, members, **given).weights

    first = weights(4, 5)
    torch.manual_seed(99)
    assert weights(4, 5).equal(first)
    assert not weights(4, 6).allclose(first)
    np.testing.assert_allclose(weights(6, 5)[:4], first, rtol=0, atol=1e-9)  # growing keeps them


@pytest.mark.parametrize("name", ["mlp two species", "linear", "kernel two species"])
def test_saved_and_read(name: str, tmp_path) -> None:
    types, build = MODELS[name]
    batch = make_batch(6, types)
    options = {"sigma": 0.1, "lm_settings": LMSettings(2), "progress": False}
    committee = Committee.train(build(), batch, OBJECTIVE, 3, **options)
    committee.save(tmp_path / "c.pt")
    again = Committee.load(tmp_path / "c.pt")
    assert again.predict(batch).atoms.members.equal(committee.predict(batch).atoms.members)
    assert again.facts == committee.facts
    assert (len(again), again.sigma, str(again)) == (3, 0.1, str(committee))


def test_float32_members_are_trained_in_float64() -> None:
    model = mlp(ONE)().to(torch.float32)
    committee = Committee.train(
        model, make_batch(5).to(dtype=torch.float32), OBJECTIVE, 2, sigma=0.1, progress=False,
        lm_settings=LMSettings(5),
    )  # fmt: skip
    assert committee.weights.dtype == torch.float64
    assert committee.predict(make_batch(2)).atoms.variance.dtype == torch.float64


class Foreign(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.ones(4, dtype=torch.float64))

    def forward(self, features, types):
        return torch.tanh(features @ self.w)


def test_a_foreign_module_trains_from_its_own_weights() -> None:
    batch = make_batch(20)
    committee = Committee.train(
        Foreign(), batch, OBJECTIVE, 3, sigma=0.1, start="model", progress=False
    )  # fmt: skip
    assert committee.facts["relative_gradient"] < 1e-3  # what stationarity calls a minimum
    alone = committee.member(2)(batch.features, batch.types)
    np.testing.assert_allclose(committee.predict(batch).atoms.members[2], alone, rtol=1e-12)


LINEAR, NETWORK = LinearModel(4, ONE), mlp(ONE)()
BAD = {
    "members": (LINEAR, {"members": 1}, "at least 2 members"),
    "method": (LINEAR, {"method": "bagging"}, "'bagging' is unknown"),
    "fraction": (LINEAR, {"method": "subsample", "fraction": 1.0}, "between 0 and 1, not 1.0"),
    "all": (LINEAR, {"method": "subsample", "fraction": 0.99}, "members would not differ"),
    "none": (LINEAR, {"method": "subsample", "fraction": 0.01}, "members would not differ"),
    "sigma": (LINEAR, {"sigma": -1.0}, "sigma must be a positive number"),
    "no sigma": (NETWORK, {}, "needs sigma"),
    "seed": (LINEAR, {"seed": -3}, "seed must be a whole number"),
    "optimizer": (LINEAR, {"optimizer": "sgd"}, "'sgd' trains no committee"),
    "lbfgs": (NETWORK, {"optimizer": "lbfgs", "sigma": 0.1}, "'lbfgs' trains no committee"),
    "decay": (
        NETWORK,
        {"sigma": 0.1, "settings": AdamSettings(final_lr=1e-4)},
        "halves its learning rate at plateaus",
    ),
    "closed": (NETWORK, {"optimizer": "closed-form", "sigma": 0.1}, "not linear in its param"),
    "start": (NETWORK, {"start": "zero", "sigma": 0.1}, "'zero' is unknown"),
    "foreign": (Foreign(), {"sigma": 0.1}, "use start='model'"),
    "early": (
        NETWORK,
        {"sigma": 0.1, "settings": AdamSettings(early_stopping=2)},
        "number of epochs",
    ),
}


@pytest.mark.parametrize("case", BAD, ids=str)
def test_bad_settings(case: str) -> None:
    model, options, message = BAD[case]
    with pytest.raises(InputError, match=message):
        Committee.train(model, make_batch(9), OBJECTIVE, progress=False, **options)


def test_bad_batches_and_weights() -> None:
    batch = make_batch(4)
    bare = AtomBatch(batch.features, batch.types, batch.structure)
    with pytest.raises(InputError, match="no energies"):
        Committee.train(LINEAR, bare, OBJECTIVE)
    with pytest.raises(InputError, match="takes 7 features"):
        Committee.train(LinearModel(7, ONE), batch, OBJECTIVE)
    blank = AtomBatch(batch.features, batch.types, batch.structure, torch.zeros(4).double())
    with pytest.raises(InputError, match="give sigma"):
        Committee.train(LINEAR, blank, OBJECTIVE)
    with pytest.raises(InputError, match=r"shape \(members, 4\)"):
        Committee(LINEAR, torch.zeros(3, 5))
    with pytest.raises(InputError, match="member 1 are not finite"):
        Committee(LINEAR, torch.tensor([[0.0] * 4, [math.nan] * 4]))
    with pytest.raises(InputError, match="no member 2"):
        Committee(LINEAR, torch.zeros(2, 4)).member(2)
    with pytest.raises(InputError, match="takes 4 features"):
        Committee(LINEAR, torch.zeros(2, 4)).predict(make_batch(2, features=3))


def test_a_loss_that_runs_away_is_named() -> None:
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        Committee.train(
            mlp(ONE, activation="linear")(), make_batch(5), OBJECTIVE, 2, sigma=0.1,
            settings=AdamSettings(lr=1e200, epochs=5), progress=False,
        )  # fmt: skip


@pytest.mark.parametrize("late", [False, True])  # whether the last row alone tells them apart
@pytest.mark.parametrize("rows", [1, 5, 300])
def test_distinct_columns(rows: int, late: bool) -> None:
    rng = np.random.default_rng(rows)
    column = np.array([0, 3, 1, 1, 2, 0, 3, 4, 4])
    features = rng.normal(size=(rows, 5))[:, column]
    if late:
        features[: rows - 1] = features[: rows - 1, :1]
    distinct, found = distinct_columns(torch.from_numpy(features))
    np.testing.assert_array_equal(distinct[:, found], features)
    assert distinct.shape == (rows, 5)
    assert all(
        (found[a] == found[b]) == (column[a] == column[b]) for a in range(9) for b in range(9)
    )
