"""What the engine does around the gradients, on a toy with messages."""

import copy

import ase
import numpy as np
import pytest
import torch
from torch import nn

import torchlpr
from tests.potentials.toy import Messages, cells
from torchlpr import InputError, Objective
from torchlpr.potentials import PotentialRigidity
from torchlpr.structures.embedded import amorphous_silicon

OBJECTIVE = Objective(mu=1e-3)
TRAIN, TEST = cells(8), cells(3, seed=1)


@pytest.fixture(scope="module")
def whole() -> PotentialRigidity:
    return PotentialRigidity(Messages(), TRAIN, OBJECTIVE)


class Head(nn.Module):
    """A head of torchlpr and its descriptor, as if they were foreign."""

    def __init__(self, head: nn.Module, descriptor) -> None:
        super().__init__()
        self.head, self.descriptor = head, [descriptor]

    def batch(self, structures):
        return self.descriptor[0](structures)

    def local_energies(self, batch):
        return self.head(batch.features, batch.types)


@pytest.mark.parametrize(
    ("which", "per_atom"), [("all", True), ("last-layer", False), ("*networks.0.2*", True)]
)
def test_heads_of_torchlpr_have_the_same_rigidity(which: str, per_atom: bool) -> None:
    soap = torchlpr.SOAP(
        cutoff=2.85, max_radial=3, max_angular=2, width=0.5, smoothing=0.1, types=["Si"]
    )
    train, test = amorphous_silicon("train")[:6], amorphous_silicon("test")[:1]
    head = torchlpr.BehlerParrinelloMLP(soap.n_features, ["Si"], hidden=(5, 3), seed=0)
    objective = Objective(mu=1e-4, energy_weight=0.3, per_atom=per_atom)
    # a foreign module's last layer is its last submodule: the same one here
    ours = torchlpr.Rigidity(head, soap(train), objective, parameters=which)
    new = PotentialRigidity(Head(head, soap), train, objective, parameters=which)
    for mine, other in zip(ours.atoms(soap(test)), new.atoms(test), strict=True):
        torch.testing.assert_close(other, mine, rtol=1e-8, atol=0)
    torch.testing.assert_close(new.total(test), ours.total(soap(test)), rtol=1e-8, atol=0)


def test_one_pass_after_the_other_or_many_at_once(whole: PotentialRigidity) -> None:
    model = Messages()
    model.batched_gradients = False
    loop = PotentialRigidity(model, TRAIN, OBJECTIVE)
    torch.testing.assert_close(loop.atoms(TEST), whole.atoms(TEST), rtol=1e-11, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_are_float64_whatever_the_model_is(dtype: torch.dtype) -> None:
    model = Messages().to(dtype)
    own = PotentialRigidity(model, TRAIN, OBJECTIVE, dtype=None)
    assert next(own.potential.parameters()).dtype == dtype
    double = PotentialRigidity(model, TRAIN, OBJECTIVE).local(TEST)
    assert double.dtype == own.local(TEST).dtype == torch.float64
    tolerance = 1e-3 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(own.local(TEST), double, rtol=tolerance, atol=0)


def test_changes_are_those_of_a_new_start(whole: PotentialRigidity) -> None:
    less = PotentialRigidity(Messages(), TRAIN[:5], OBJECTIVE)
    torch.testing.assert_close(less.add(TRAIN[5:]).atoms(TEST), whole.atoms(TEST))
    torch.testing.assert_close(whole.remove(TRAIN[5:]).atoms(TEST), less.atoms(TEST))


@pytest.mark.parametrize("which", ["all", "last-layer"])
def test_other_strengths_of_the_regulariser(which: str) -> None:
    """In row space and in parameter space."""
    mus = [1e-2, 1e-5]
    new = PotentialRigidity(Messages(), TRAIN, Objective(mu=1e-5), which)
    swept = new.sweep(TEST, mus)
    for k, mu in enumerate(mus):
        fresh = PotentialRigidity(Messages(), TRAIN, Objective(mu=mu), which)
        torch.testing.assert_close(swept.rigidity[k], fresh.local(TEST))
        torch.testing.assert_close(swept.mu_fraction[k], fresh.mu_fraction(TEST))
        if which == "all":
            torch.testing.assert_close(new.at(mu).atoms(TEST), fresh.atoms(TEST))


@pytest.mark.parametrize("which", ["all", "last-layer"])
def test_the_largest_eigenvalue(which: str) -> None:
    new = PotentialRigidity(Messages(), TRAIN, OBJECTIVE, parameters=which)
    rows = [PotentialRigidity(Messages(), [a], OBJECTIVE, which).factor.rows for a in TRAIN]
    gram = torch.cat(rows) @ torch.cat(rows).T
    assert new.largest_eigenvalue() == pytest.approx(float(torch.linalg.eigvalsh(gram)[-1]))


def test_memory_is_predicted_chunked_and_refused(whole: PotentialRigidity) -> None:
    wide = Messages(width=150)
    free = PotentialRigidity.predict_memory(wide, TRAIN, TEST)
    assert free.rows >= 8 * 8 * sum(p.numel() for p in wide.parameters())
    assert "rows" in str(free)
    least = PotentialRigidity.predict_memory(
        wide, TRAIN, TEST, memory_limit=free.rows + free.graph // 4 + 37_000_000
    )
    assert 1 <= least.chunk < free.chunk
    assert least.peak < free.peak
    tight = PotentialRigidity(wide, TRAIN, OBJECTIVE, memory_limit=least.peak + 10_000)
    loose = PotentialRigidity(wide, TRAIN, OBJECTIVE)
    torch.testing.assert_close(tight.atoms(TEST), loose.atoms(TEST), rtol=1e-11, atol=0)
    with pytest.raises(InputError, match=r"8 rows of \d+ parameters need .* memory limit of"):
        PotentialRigidity(wide, TRAIN, OBJECTIVE, memory_limit=free.rows + free.graph // 4)
    with pytest.raises(InputError, match=r"one structure of 4 atoms needs .* take smaller"):
        PotentialRigidity(wide, TRAIN, OBJECTIVE, memory_limit=1000)


def changed(**methods) -> Messages:
    """The toy with other methods."""
    return type("Changed", (Messages,), methods)()


def own(self, batch):
    return Messages.local_energies(self, batch)


def frozen() -> Messages:
    return Messages().requires_grad_(False)


def infinite() -> Messages:
    model = Messages()
    model.readout.bias.data[:] = torch.inf
    return model


BAD = {
    "no module": (object, "torch.nn.Module with the methods"),
    "no method": (lambda: nn.Linear(3, 1), "a Linear is no potential"),
    "no weights": (lambda: changed(parameters=lambda self: iter(())), "has no parameters"),
    "not finite": (infinite, "parameter 'readout.bias' of the Messages is not finite"),
    "frozen": (frozen, r"all parameters asked for are frozen \(embedding, .*requires_grad_"),
    "energies not finite": (
        lambda: changed(local_energies=lambda self, b: own(self, b) * torch.nan),
        "gives the energy nan for atom 0 of structure 2",
    ),
    "wrong shape": (
        lambda: changed(local_energies=lambda self, b: own(self, b)[:, None]),
        r"gives \(4, 1\) for structure 2 of 4 atoms",
    ),
    "no graph": (
        lambda: changed(local_energies=lambda self, b: own(self, b).detach()),
        "no graph to the parameters",
    ),
    "no sum": (
        lambda: changed(energies=lambda self, b: own(self, b).sum()[None] + 0.01),
        "atomic energies of structure 0 add up to .* but Changed gives it",
    ),
    "unknown element": (
        lambda: Messages(types=(14,)),
        r"structure 0 holds Ge, which this Messages does not know \(it knows Si\)",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_potentials_that_will_not_do(name: str) -> None:
    make, sentence = BAD[name]
    with pytest.raises(InputError, match=sentence):
        PotentialRigidity(make(), TRAIN, OBJECTIVE)


def test_structures_and_settings_that_will_not_do(whole: PotentialRigidity) -> None:
    with pytest.raises(InputError, match="there are no structures"):
        PotentialRigidity(Messages(), [], OBJECTIVE)
    with pytest.raises(InputError, match=r"write \[atoms\]"):
        whole.local(TRAIN[0])
    with pytest.raises(InputError, match="structure 1 has no atoms"):
        whole.local([TRAIN[0], ase.Atoms()])
    with pytest.raises(InputError, match=r"forces weigh 0\.1"):
        PotentialRigidity(Messages(), TRAIN, Objective(mu=1.0, force_weight=0.1))
    with pytest.raises(InputError, match="no parameter is called 'head"):
        PotentialRigidity(Messages(), TRAIN, OBJECTIVE, parameters="head.*")
    with pytest.raises(InputError, match="real numbers"):
        PotentialRigidity(Messages(), TRAIN, OBJECTIVE, dtype=torch.int64)


def test_frozen_weights_do_not_count() -> None:
    model = Messages()
    model.mix.requires_grad_(False)
    new = PotentialRigidity(model, TRAIN, OBJECTIVE)
    assert "13 parameters, 40 frozen ones left out" in new.reason
    named = PotentialRigidity(Messages(), TRAIN, OBJECTIVE, ["embedding", "readout.*"])
    torch.testing.assert_close(new.atoms(TEST), named.atoms(TEST), rtol=1e-11, atol=0)
    assert [p.requires_grad for p in model.parameters()].count(False) == 4


def test_derivatives_agree_with_differences(whole: PotentialRigidity) -> None:
    """Independent of autograd: energies at shifted weights."""
    model = copy.deepcopy(Messages()).double()
    found = torch.cat([g.clone() for g in whole.gradients(TEST[:1])])
    rng, step = np.random.default_rng(0), 1e-5
    for column in rng.integers(0, found.shape[1], 12):
        values = []
        for sign in (1, -1):
            moved = copy.deepcopy(model)
            flat = nn.utils.parameters_to_vector(moved.parameters())
            flat[column] += sign * step
            nn.utils.vector_to_parameters(flat, moved.parameters())
            values.append(moved.local_energies(moved.batch(TEST[:1])).detach())
        slope = (values[0] - values[1]) / (2 * step)
        torch.testing.assert_close(found[:, column], slope, rtol=1e-7, atol=1e-9)
