"""T2-T5: what training data add to rigidity, as identities on random problems."""

import math

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.cases import FEATURES, ONE, Problem, make_batch, problems, ridges, seeds, theorem
from torchlpr import AtomBatch, BehlerParrinelloMLP, LinearModel, Objective, Rigidity
from torchlpr import prediction_rigidity as rigidity
from torchlpr.curvature import build

weights = st.floats(0.01, 10)


@theorem
@given(problem=problems(), mu=ridges, copies=st.integers(1, 4), c=weights)
def test_t2_copies_of_one_environment(problem: Problem, mu: float, copies: int, c: float) -> None:
    """C11: m rows sqrt(c) g_k add m c to LPR_k, at any mu, whatever else is in the data."""
    g = problem.gradients[:1]
    before = rigidity(problem.rows, g, mu)
    after = rigidity(torch.cat([problem.rows, math.sqrt(c) * g.repeat(copies, 1)]), g, mu)
    torch.testing.assert_close(after, before + copies * c, rtol=1e-10, atol=0)


@theorem
@given(seed=seeds, size=st.integers(1, 6), c=weights, network=st.booleans())
def test_t2_through_structures(seed: int, size: int, c: float, network: bool) -> None:
    """A crystal of any size whose atoms share an environment adds its weight, exactly."""
    model = BehlerParrinelloMLP(FEATURES, ONE, (3,), seed=0) if network else LinearModel(4, ONE)
    train, atom = make_batch(3, seed=seed), make_batch(1, seed=seed, atoms=1)
    crystal = AtomBatch(
        atom.features.repeat(size, 1), atom.types.repeat(size), atom.structure.repeat(size),
        torch.zeros(1, dtype=torch.float64),
    )  # fmt: skip
    objective = Objective(mu=0.01, energy_weight=c)
    before = Rigidity(model, train, objective).local(atom)
    after = Rigidity(model, AtomBatch.cat([train, crystal]), objective).local(atom)
    torch.testing.assert_close(after, before + c, rtol=1e-10, atol=0)


@theorem
@given(problem=problems(), mu=ridges, c=weights)
def test_t3_a_structure_raises_its_own_rigidity_by_its_weight(
    problem: Problem, mu: float, c: float
) -> None:
    row = problem.more_rows(1)
    after = rigidity(torch.cat([problem.rows, math.sqrt(c) * row]), row, mu)
    torch.testing.assert_close(after, rigidity(problem.rows, row, mu) + c, rtol=1e-10, atol=0)


@theorem
@given(problem=problems(min_rows=1), mu=ridges)
def test_t3_degrees_of_freedom(problem: Problem, mu: float) -> None:
    """C16: sum_A 1/PR_A = sum s^2/(s^2 + mu) <= min(N, P), and PR_A >= 1."""
    own = rigidity(problem.rows, problem.rows, mu)
    s = np.linalg.svd(problem.rows.numpy(), compute_uv=False)
    dof = float(np.sum(s**2 / (s**2 + mu)))
    assert (own >= 1 - 1e-12).all()
    np.testing.assert_allclose(float((1 / own).sum()), dof, rtol=1e-10)
    for shape in ("row", "parameter"):
        factor = build(problem.rows, mu, shape)
        np.testing.assert_allclose(factor.effective_dof(), dof, rtol=1e-10)
    assert dof <= min(problem.rows.shape)


@theorem
@given(problem=problems(), mu=ridges, factor=st.floats(1, 100))
def test_t4_monotone_in_data_weights_and_mu(problem: Problem, mu: float, factor: float) -> None:
    rows, gradients = problem.rows, problem.gradients
    floor = rigidity(rows, gradients, mu) * (1 - 1e-10)
    assert (rigidity(torch.cat([rows, problem.more_rows(1)]), gradients, mu) >= floor).all()
    assert (rigidity(rows, gradients, mu * factor) >= floor).all()
    heavier = rows.clone()
    heavier[: len(rows) // 2] *= math.sqrt(factor)
    assert (rigidity(heavier, gradients, mu) >= floor).all()


@theorem
@given(problem=problems(), mu=ridges, k=st.integers(1, 4))
def test_t4_rank_k_update(problem: Problem, mu: float, k: int) -> None:
    """C15: 1/LPR' = 1/LPR - u^T (I + B H^-1 B^T)^-1 u with u = B H^-1 g."""
    rows, gradients, added = problem.rows, problem.gradients, problem.more_rows(k)
    h = rows.mT @ rows + mu * torch.eye(rows.shape[1], dtype=rows.dtype)
    inverse_b = torch.linalg.solve(h, added.mT)  # [p, b]
    u = gradients @ inverse_b
    middle = torch.eye(k, dtype=rows.dtype) + added @ inverse_b
    gain = (u * torch.linalg.solve(middle, u.mT).mT).sum(1)
    after = rigidity(torch.cat([rows, added]), gradients, mu)
    # the difference loses digits where the update is most of 1/LPR: judge on that scale
    before = 1 / rigidity(rows, gradients, mu)
    assert ((1 / after - (before - gain)).abs() <= 1e-10 * before).all()


@theorem
@given(problem=problems(min_rows=2), mu=ridges)
def test_t4_removal(problem: Problem, mu: float) -> None:
    """C15: without row b, 1/LPR' = 1/LPR + u^2/(1 - h), u = b^T H^-1 g, h = b^T H^-1 b."""
    rows, gradients = problem.rows, problem.gradients
    b = rows[0]
    remaining = rigidity(rows[1:], b.unsqueeze(0), mu).item()  # 1 - h = PR' / (1 + PR'), T3
    h = rows.mT @ rows + mu * torch.eye(rows.shape[1], dtype=rows.dtype)
    u = gradients @ torch.linalg.solve(h, b)
    loss = u.square() * (1 + remaining) / remaining
    expected = 1 / rigidity(rows, gradients, mu) + loss
    torch.testing.assert_close(1 / rigidity(rows[1:], gradients, mu), expected, rtol=1e-10, atol=0)


@theorem
@given(problem=problems(min_rows=1), mu=ridges, n=st.integers(2, 9))
def test_t5_copies_of_the_whole_set(problem: Problem, mu: float, n: int) -> None:
    """C14: LPR_n(mu) = n LPR_1(mu/n)."""
    copies = rigidity(problem.rows.repeat(n, 1), problem.gradients, mu)
    once = rigidity(problem.rows, problem.gradients, mu / n)
    torch.testing.assert_close(copies, n * once, rtol=1e-12, atol=0)
