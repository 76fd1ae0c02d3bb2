"""Rigidities of batches: some of the weights, checkpoints, a tolerance; as of all at once."""

from pathlib import Path

import pytest
import torch

from tests.cases import MODELS, make_batch
from tests.curvature.test_feature_span import largest, make_problem
from tests.force_cases import make_force_batch
from torchlpr import InputError, Objective, Rigidity
from torchlpr.curvature import streaming

OBJECTIVE = Objective(mu=1e-2, energy_weight=2.0, force_weight=0.3)
SHAPES = ["row", "parameter"]
CHOICES = ["all", "last-layer", "species:33", ["networks.0.0.*", "networks.1.4.*"]]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("parameters", CHOICES, ids=str)
def test_some_weights(parameters: str | list[str], shape: str, tmp_path: Path) -> None:
    types, build = MODELS["mlp bias silu two species"]
    model, train, test = build(), make_force_batch(6, types), make_batch(4, types, seed=5, atoms=2)
    parts = [train.select([0, 1]), train.select([2]), train.select([3, 4, 5])]
    whole = Rigidity(model, train, OBJECTIVE, shape, parameters)
    path = tmp_path / "rows.pt"
    found = Rigidity.from_batches(model, parts, OBJECTIVE, shape, path, parameters=parameters)
    assert found.factor.n_parameters == len(found.subset) == whole.factor.n_parameters
    torch.testing.assert_close(found.structures(test), whole.structures(test), rtol=1e-10, atol=0)
    if parameters != "species:33":  # energies of the others do not depend on its weights
        torch.testing.assert_close(found.atoms(test), whole.atoms(test), rtol=1e-10, atol=0)
    found.save(tmp_path / "rigidity.pt")
    again = Rigidity.load(tmp_path / "rigidity.pt")
    assert again.parameters == ([parameters] if isinstance(parameters, str) else parameters)
    assert torch.equal(again.total(test), found.total(test))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_checkpoint_goes_on_and_is_of_these_weights(
    shape: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    types, build = MODELS["mlp two species"]
    model, path = build(), tmp_path / "rows.pt"
    parts = [make_force_batch(3, types, seed) for seed in range(4)]
    test, one, other = make_batch(3, types, seed=9, atoms=2), "networks.0.2.*", "networks.1.2.*"

    def broken():
        yield from parts[:2]
        raise KeyboardInterrupt

    monkeypatch.setattr(streaming, "SAVE_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        Rigidity.from_batches(model, broken(), OBJECTIVE, shape, path, parameters=one)
    resumed = Rigidity.from_batches(model, parts, OBJECTIVE, shape, path, parameters=one)
    alone = Rigidity.from_batches(model, parts, OBJECTIVE, shape, parameters=one)
    assert torch.equal(resumed.total(test), alone.total(test))
    with pytest.raises(InputError, match=r"begun with .* or for other weights; give the same"):
        Rigidity.from_batches(model, parts, OBJECTIVE, shape, path, parameters=other)
    with pytest.raises(InputError, match=rf"holds rows of {len(resumed.subset)} parameters"):
        Rigidity.from_batches(model, parts, OBJECTIVE, shape, path)


def test_all_weights_by_another_name_are_the_same_checkpoint(tmp_path: Path) -> None:
    types, build = MODELS["mlp two species"]
    model, parts, path = build(), [make_batch(3, types)], tmp_path / "rows.pt"
    objective = Objective(mu=0.1)
    one = Rigidity.from_batches(model, parts, objective, "row", path)
    two = Rigidity.from_batches(model, parts, objective, "row", path, parameters="networks.*")
    assert torch.equal(one.factor.rows, two.factor.rows)


def test_the_tolerance_is_kept_and_used() -> None:
    """A larger one truncates more of the span of the training features."""
    model, train, test = make_problem((14,), noise=1e-3)
    objective = Objective(mu=1e-4 * largest(model, train))
    exact = Rigidity(model, train, objective, "row", tolerance=0.0).local(test)
    rough = Rigidity.from_batches(model, [train], objective, "row", tolerance=1e-3)
    assert rough.tolerance == 1e-3
    error = float((rough.local(test) / exact - 1).abs().max())
    assert 1e-10 < error < 1e-3
    fine = Rigidity.from_batches(model, [train], objective, "row")
    assert fine.tolerance == Rigidity(model, train, objective).tolerance
    assert float((fine.local(test) / exact - 1).abs().max()) < 1e-10


def test_what_is_refused() -> None:
    model, batch = MODELS["mlp"][1](), make_batch(3)
    objective = Objective(mu=0.1)
    for shape in ("auto", "matrix-free", "column", "rows"):
        with pytest.raises(InputError, match=f"shape '{shape}' needs the whole training set at"):
            Rigidity.from_batches(model, [batch], objective, shape)
    with pytest.raises(InputError, match=r"tolerance is a relative error in .0, 1., not 2"):
        Rigidity.from_batches(model, [batch], objective, tolerance=2)
    with pytest.raises(InputError, match="no parameter is called 'netwrok'"):
        Rigidity.from_batches(model, [batch], objective, parameters="netwrok")
