"""Equal environments are found to rounding, and only these."""

import pytest
import torch
from ase.build import bulk
from hypothesis import given, settings
from hypothesis import strategies as st

from torchlpr import SOAP, AtomBatch, BehlerParrinelloMLP, Objective, Rigidity
from torchlpr.curvature import distinct_environments


@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_each_atom_has_a_representative_like_itself(seed: int, kinds: int, atoms: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(kinds, 5, generator=generator, dtype=torch.float64)
    kind = torch.randint(kinds, (atoms,), generator=generator)
    types = torch.randint(1, 3, (atoms,), generator=generator)
    noise = 1e-15 * torch.randn(atoms, 5, generator=generator, dtype=torch.float64)
    x = centres[kind] + noise
    found = distinct_environments(x, types)
    pairs = len({(int(k), int(z)) for k, z in zip(kind, types, strict=True)})
    if found is None:
        assert atoms < 2 or pairs > 0.8 * atoms
        return
    first, owner = found
    assert torch.equal(kind[first[owner]], kind)
    assert torch.equal(types[first[owner]], types)
    assert torch.equal(owner[first], torch.arange(len(first)))


def test_atoms_that_differ_by_little_are_kept_apart() -> None:
    x = torch.ones(40, 3, dtype=torch.float64)
    x[1:, 0] += 1e-11 * torch.arange(1, 40)
    assert distinct_environments(x, torch.ones(40).long()) is None


def test_probes_that_cannot_tell_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchlpr.curvature.distinct.PROBES", 1)
    x = torch.eye(4, dtype=torch.float64).repeat(5, 1)
    monkeypatch.setattr(torch, "randn", lambda *shape, **_: torch.ones(*shape).double())
    first, owner = distinct_environments(x, torch.ones(20).long()) or (None, None)
    assert first is not None
    assert torch.equal(x[first[owner]], x)


def test_a_crystal_costs_one_atom() -> None:
    cell = bulk("Si", "diamond", 5.43, cubic=True).repeat(2)
    rattled = cell.copy()
    rattled.rattle(0.1, seed=1)
    soap = SOAP(cutoff=4.0, max_radial=3, max_angular=3, width=0.5, smoothing=0.5, types=["Si"])
    train, test = soap([rattled]), soap([cell])
    model = BehlerParrinelloMLP(train.features.shape[1], [14], (4, 4), seed=0)
    rigidity = Rigidity(model, train, Objective(mu=1e-4))
    found = distinct_environments(test.features, test.types)
    assert found is not None
    assert len(found[0]) == 1
    everyone = Rigidity(model, train, Objective(mu=1e-4), tolerance=0.0).atoms(test)
    torch.testing.assert_close(rigidity.atoms(test), everyone, rtol=1e-9, atol=0)
    both = AtomBatch.cat([test, train])
    everyone = Rigidity(model, train, Objective(mu=1e-4), tolerance=0.0).atoms(both)
    torch.testing.assert_close(rigidity.atoms(both), everyone, rtol=1e-9, atol=0)
