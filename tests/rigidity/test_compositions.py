"""T7, T8: species ratios decide which atomic energies are fixed (C12, C13)."""

import numpy as np
import pytest
import torch

from torchlpr import AtomBatch, LinearModel, Objective, Rigidity

A, B = 31, 33


def mixtures(*fractions: tuple[float, int], atoms: int = 8) -> AtomBatch:
    """Copies of structures with the given fraction of A; one constant feature for each atom."""
    types = []
    for fraction, copies in fractions:
        n = round(fraction * atoms)
        assert n == fraction * atoms
        types += ([A] * n + [B] * (atoms - n)) * copies
    structure = torch.arange(len(types)) // atoms
    return AtomBatch(torch.ones(len(types), 1).double(), torch.tensor(types), structure)


ONE_OF_EACH = mixtures((0.5, 1), atoms=2)


def closed_form(p: float, n1: int, n2: int) -> list[float]:
    """T7: n1 structures at fraction 1/2, n2 at fraction p, mu to zero."""
    d = 2 * p - 1
    return [
        1 / ((2 * (1 - p) / d) ** 2 / n1 + 1 / d**2 / n2),
        1 / ((2 * p / d) ** 2 / n1 + 1 / d**2 / n2),
    ]


@pytest.mark.parametrize(
    ("p", "n1", "n2", "expected"),
    [(0.75, 1, 1, (0.2, 1 / 13)), (1.0, 1, 1, (1, 1 / 5)), (1.0, 9, 1, (1, 9 / 13))],
)
def test_c12_two_types(p: float, n1: int, n2: int, expected: tuple[float, float]) -> None:
    train = mixtures((0.5, n1), (p, n2))
    lpr = Rigidity(LinearModel(1, [A, B]), train, Objective(mu=1e-12)).local(ONE_OF_EACH)
    np.testing.assert_allclose(lpr, expected, rtol=1e-8)
    np.testing.assert_allclose(closed_form(p, n1, n2), expected, rtol=1e-14)


@pytest.mark.parametrize("p", [0.0, 0.125, 0.625, 1.0])
@pytest.mark.parametrize(("n1", "n2"), [(3, 2), (40, 1)])
def test_t7_further_from_half_is_better(p: float, n1: int, n2: int) -> None:
    train = mixtures((0.5, n1), (p, n2))
    lpr = Rigidity(LinearModel(1, [A, B]), train, Objective(mu=1e-12)).local(ONE_OF_EACH)
    np.testing.assert_allclose(lpr, closed_form(p, n1, n2), rtol=1e-8)


@pytest.mark.parametrize(("mu", "tolerance"), [(1e-3, 1e-10), (1e-6, 1e-8)])
def test_c13_one_ratio_fixes_nothing(mu: float, tolerance: float) -> None:
    """T8: 400 structures, all 1:1: LPR = 2 mu (N + 2 mu)/(N + 4 mu), the regulariser's alone."""
    n = 400
    rigidity = Rigidity(LinearModel(1, [A, B]), mixtures((0.5, n), atoms=2), Objective(mu=mu))
    expected = 2 * mu * (n + 2 * mu) / (n + 4 * mu)
    np.testing.assert_allclose(rigidity.local(ONE_OF_EACH), [expected] * 2, rtol=tolerance)
    if mu == 1e-3:
        np.testing.assert_allclose(expected, 1.99999000e-3, rtol=1e-8)
    fraction = rigidity.mu_fraction(ONE_OF_EACH)
    assert (fraction > 1 - 1e-4).all()
    # the total is fixed all the same
    np.testing.assert_allclose(rigidity.total(ONE_OF_EACH), [n + 2 * mu], rtol=1e-10)
