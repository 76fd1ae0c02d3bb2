"""The offset between clusters: two kinds of environments, compositions, and the definition."""

import pytest
import torch

from tests.cases import CASES, MODELS, make_batch
from torchlpr import AtomBatch, InputError, LinearModel, Objective, Rigidity, offset_rigidity
from torchlpr.curvature import atomic_gradients, energy_rows, parameter_subset

SOME = [case for case in CASES if case.size == "few rows"]


def mixture(shares, features):
    """Structures of 8 atoms, a share of which has the first environment."""
    kinds = torch.cat([torch.arange(8) >= round(8 * share) for share in shares]).long()
    structure = torch.arange(len(shares)).repeat_interleave(8)
    types = torch.full_like(kinds, 14)
    return AtomBatch(features[kinds], types, structure), kinds


@pytest.mark.parametrize("one_hot", [True, False])
@pytest.mark.parametrize(
    ("share", "n1", "n2", "value"),
    [(0.625, 49, 1, 0.01531), (0.625, 45, 5, 0.0703), (1.0, 49, 1, 0.245)],
)
def test_two_kinds_of_environments(one_hot, share, n1, n2, value):
    """n1 structures of 1:1 and n2 with another share, mu to 0; the three numbers are known."""
    rng = torch.Generator().manual_seed(0)
    random = torch.randn(2, 2, dtype=torch.float64, generator=rng)
    features = torch.eye(2, dtype=torch.float64) if one_hot else random
    batch, kinds = mixture([0.5] * n1 + [share] * n2, features)
    found = offset_rigidity(Rigidity(LinearModel(2, [14]), batch, Objective(1e-13)), batch, kinds)
    factor = (2 / (2 * share - 1)) ** 2
    expected = 1 / (factor / n1 + factor / n2)
    assert float(found.rigidity) == pytest.approx(expected, rel=1e-8)
    assert float(found.rigidity) == pytest.approx(value, rel=4e-3)
    assert float(found.mu_fraction) < 1e-9


@pytest.mark.parametrize("mu", [1e-6, 1e-2])
def test_one_ratio_leaves_the_regulariser_alone(mu):
    """The offset is an eigenvector of H with eigenvalue mu: PR = mu / |g|^2, whatever N."""
    batch, kinds = mixture([0.5] * 30, torch.eye(2, dtype=torch.float64))
    rigidity = Rigidity(LinearModel(2, [14]), batch, Objective(mu))
    found = offset_rigidity(rigidity, batch, kinds)
    assert float(found.rigidity) == pytest.approx(mu / 2, rel=1e-9)
    assert float(found.mu_fraction) == pytest.approx(1.0, rel=1e-9)
    assert float(rigidity.total(batch).min()) > 30  # and yet the totals are held firmly


@pytest.mark.parametrize("case", SOME, ids=str)
def test_definition(case):
    """Every pair of three clusters, against the Hessian inverted as a whole."""
    model, train, batch = case.model(), case.batch(), case.batch(seed=5, structures=9)
    objective = Objective(0.1)
    labels = torch.arange(len(batch)) % 4 - 1
    found = offset_rigidity(Rigidity(model, train, objective), batch, labels)
    g_train = atomic_gradients(model, train.features, train.types)
    rows = g_train.new_zeros(train.n_structures, g_train.shape[1])
    rows.index_add_(0, train.structure, g_train / train.counts[train.structure, None])
    h = rows.T @ rows + 0.1 * torch.eye(rows.shape[1], dtype=torch.float64, device=rows.device)
    g = atomic_gradients(model, batch.features, batch.types)
    mean = [g[(labels == k).to(g.device)].mean(dim=0) for k in range(3)]
    expected = []
    for a, b in [(0, 1), (0, 2), (1, 2)]:
        difference = mean[a] - mean[b]
        expected.append(1 / (difference @ torch.linalg.solve(h, difference)))
    torch.testing.assert_close(found.rigidity, torch.stack(expected), rtol=1e-8, atol=0)
    assert bool(((found.mu_fraction > 0) & (found.mu_fraction <= 1 + 1e-12)).all())


def test_labels_refused():
    batch = make_batch(3)
    rigidity = Rigidity(LinearModel(4, [14]), batch, Objective(1.0))
    ones = torch.zeros(len(batch), dtype=torch.int64)
    with pytest.raises(InputError, match="two clusters, but the labels name 1"):
        offset_rigidity(rigidity, batch, ones)
    with pytest.raises(InputError, match="labels must be"):
        offset_rigidity(rigidity, batch, ones[:-1])
    with pytest.raises(InputError, match="whole numbers"):
        offset_rigidity(rigidity, batch, ones.double())


@pytest.mark.parametrize("parameters", ["last-layer", "species:31"])
def test_with_a_part_of_the_weights(parameters):
    """The definition, with gradients by the chosen weights."""
    types, build = MODELS["mlp two species"]
    model, train, batch = build(), make_batch(9, types), make_batch(3, types, seed=1)
    rigidity = Rigidity(model, train, Objective(0.02), parameters=parameters)
    labels = torch.arange(len(batch)) % 2
    chosen = parameter_subset(model, parameters)
    g = atomic_gradients(model, batch.features, batch.types)[:, chosen.indices]
    difference = g[labels == 0].mean(0) - g[labels == 1].mean(0)
    rows = energy_rows(model, train, rigidity.objective)[:, chosen.indices]
    h = rows.mT @ rows + 0.02 * torch.eye(len(chosen)).double()
    expected = 1 / (difference @ torch.linalg.solve(h, difference))
    found = offset_rigidity(rigidity, batch, labels).rigidity
    torch.testing.assert_close(found, expected.reshape(1), rtol=1e-10, atol=0)
