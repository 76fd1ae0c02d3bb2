"""Gradients, rows and rigidities of any potential against loops and dense algebra."""

import ase.build
import numpy as np
import pytest
import torch

from tests.oracles import dense, potentials
from tests.potentials.packages import POTENTIALS
from tests.potentials.toy import cells
from torchlpr import Objective
from torchlpr.potentials import PotentialRigidity

pytestmark = pytest.mark.xdist_group("potentials")  # the packages take seconds to import
OBJECTIVE = Objective(mu=1e-3, energy_weight=0.7)
MU = 1e-3


@pytest.fixture(scope="module", params=POTENTIALS)
def potential(request):
    return POTENTIALS[request.param]()


@pytest.fixture(scope="module")
def train():
    return cells(5)


@pytest.fixture(scope="module")
def test():
    return cells(2, seed=1)


@pytest.fixture(scope="module")
def loops(potential, train, test):
    """Gradients of all atoms, by loops: of the training set, and of the test set."""
    both = potentials.atomic_gradients(potential, train + test)
    n = sum(map(len, train))
    return both[:n], both[n:]


@pytest.fixture(scope="module")
def whole(potential, train):
    return PotentialRigidity(potential, train, OBJECTIVE)


def means(gradients, structures):
    return torch.stack([part.mean(0) for part in gradients.split([len(a) for a in structures])])


def test_gradients_are_those_of_loops(whole, loops, test):
    found = torch.cat([part.clone() for part in whole.gradients(test)])
    assert found.dtype == torch.float64
    scale = float(loops[1].abs().max())
    torch.testing.assert_close(found, loops[1], rtol=1e-9, atol=1e-13 * scale)


def test_rows_are_sums_of_atomic_gradients(whole, loops, train):
    rows = whole.factor.state_dict()["rows"] if whole.factor.shape_name == "row space" else None
    if rows is None:
        pytest.skip("parameter space keeps no rows")
    expected = 0.7**0.5 * means(loops[0], train)
    scale = float(expected.abs().max())
    torch.testing.assert_close(rows, expected, rtol=1e-8, atol=1e-12 * scale)


@pytest.mark.parametrize("which", ["last-layer", ["last-layer", "species:Si"]], ids=str)
def test_rigidity_is_that_of_dense_algebra(potential, loops, train, test, which):
    new = PotentialRigidity(potential, train, OBJECTIVE, parameters=which)
    trainable = [p.numel() * [p.requires_grad] for p in potential.parameters()]
    kept = torch.tensor([flag for part in trainable for flag in part])
    position = torch.cumsum(kept, 0) - 1
    columns = position[new.subset.indices]
    rows = 0.7**0.5 * means(loops[0], train)[:, columns]
    gradients = loops[1][:, columns]
    exact = dense.prediction_rigidity(rows, gradients, MU)
    fraction = dense.mu_fraction(rows, gradients, MU)
    np.testing.assert_allclose(new.local(test), exact, rtol=1e-8)
    np.testing.assert_allclose(new.mu_fraction(test), fraction, rtol=1e-7)
    total = dense.prediction_rigidity(rows, means(gradients, test), MU)
    np.testing.assert_allclose(new.total(test), total, rtol=1e-8)


def test_the_whole_network_agrees_with_row_algebra(whole, loops, train, test):
    """P may be too many for P x P: Woodbury's identity in float64, at a mu where it is safe."""
    rows = (0.7**0.5 * means(loops[0], train)).numpy()
    g = loops[1].numpy()
    inner = np.linalg.solve(rows @ rows.T + MU * np.eye(len(rows)), rows @ g.T)
    exact = 1 / ((np.sum(g * g, 1) - np.sum((rows @ g.T) * inner, 0)) / MU)
    np.testing.assert_allclose(whole.local(test), exact, rtol=1e-6)


def test_atoms_may_stand_in_any_order(whole, test):
    order = np.random.default_rng(0).permutation(len(test[-1]))
    one, other = whole.local([test[-1]]), whole.local([test[-1][order]])
    torch.testing.assert_close(other, one[order.copy()], rtol=1e-6, atol=0)


def test_a_single_environment_adds_one(whole):
    """Exactly c = 0.7, at the same weights and mu, whatever else was trained on."""
    crystal = ase.build.bulk("Si", a=5.2)
    before = whole.local([crystal])
    torch.testing.assert_close(before[0], before[1], rtol=1e-5, atol=0)
    after = whole.add([crystal]).local([crystal])
    torch.testing.assert_close(after - before, torch.full_like(before, 0.7), rtol=1e-6, atol=0)


def test_weights_of_an_element_act_on_it_alone(potential):
    """Those of germanium: no gradient in silicon, and with the rest all that silicon lacks."""
    silicon, germanium = (cells(1, [symbol]) for symbol in ("Si", "Ge"))
    both = (silicon, germanium)
    one = [potentials.atomic_gradients(potential, cell).abs().sum(0) for cell in both]
    new = PotentialRigidity(potential, germanium, OBJECTIVE, parameters="species:Ge")
    flags = [p.numel() * [p.requires_grad] for p in potential.parameters()]
    position = torch.cumsum(torch.tensor([f for part in flags for f in part]), 0) - 1
    mine = torch.zeros(len(one[0]), dtype=torch.bool)
    mine[position[new.subset.indices]] = True
    assert bool((one[0][mine] == 0).all())
    assert bool(((one[1] > 0) & (one[0] == 0) <= mine).all())
    assert bool((one[1][mine] > 0).any())


def test_the_potential_stays_as_it_is(potential, whole):
    assert whole.potential is not potential
    first = next(potential.parameters())
    assert first.dtype == torch.float32
    assert first.requires_grad
    assert next(whole.potential.parameters()).dtype == torch.float64
