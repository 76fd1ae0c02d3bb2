"""Parameter subsets against slices of everything."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.cases import FEATURES, MODELS, TWO, make_batch, mlp, theorem
from tests.curvature.test_products import Foreign, check
from torchlpr.curvature import (
    ModelRows,
    Subset,
    atomic_gradients,
    energy_rows,
    gradient_chunks,
    parameter_subset,
)
from torchlpr.errors import InputError
from torchlpr.models import BehlerParrinelloMLP
from torchlpr.objective import Objective

WHICH = ["all", "last-layer", "species", "*weight", ["last-layer", "*0.weight"]]
OBJECTIVE = Objective(mu=1.0, energy_weight=0.7)


@pytest.mark.parametrize("which", WHICH, ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_rows_gradients_and_products_are_slices(name: str, which: str | list[str]) -> None:
    types, build = MODELS[name]
    if name.startswith(("linear", "kernel")) and which == WHICH[-1]:
        which = ["weight", "all"]
    if which == "species":
        which = f"species:{types[-1]}"
    model, batch = build(), make_batch(7, types)
    subset = parameter_subset(model, which)
    rows = energy_rows(model, batch, OBJECTIVE, subset=subset)
    torch.testing.assert_close(
        rows, energy_rows(model, batch, OBJECTIVE)[:, subset.indices], rtol=1e-13, atol=1e-15
    )
    whole = atomic_gradients(model, batch.features, batch.types)
    gradients = atomic_gradients(model, batch.features, batch.types, subset)
    torch.testing.assert_close(gradients, whole[:, subset.indices], rtol=1e-13, atol=1e-15)
    chunks = torch.cat([g.clone() for _, g in gradient_chunks(model, batch, 2, subset)])
    torch.testing.assert_close(chunks, gradients, rtol=1e-13, atol=1e-15)
    check(ModelRows(model, batch, OBJECTIVE.row_scale(batch.counts), subset), rows)


@pytest.mark.parametrize("which", ["all", "last-layer", "inner.networks.1.*", "*bias"])
def test_any_module(which: str) -> None:
    model, batch = Foreign(mlp(TWO, bias=True)()), make_batch(7, TWO)
    subset = parameter_subset(model, which)
    rows = energy_rows(model, batch, OBJECTIVE, subset=subset)
    whole = energy_rows(model, batch, OBJECTIVE)
    assert 0 < len(subset) <= whole.shape[1]
    torch.testing.assert_close(rows, whole[:, subset.indices], rtol=1e-13, atol=1e-15)
    check(ModelRows(model, batch, OBJECTIVE.row_scale(batch.counts), subset), rows)


def test_which_weights_are_meant() -> None:
    """One vector of all weights, marked by the names that own its parts."""
    model = mlp(TWO, bias=True)()
    owners = np.concatenate([[name] * p.numel() for name, p in model.named_parameters()])

    def names(which: str | list[str], of: torch.nn.Module = model) -> set[str]:
        return set(owners[parameter_subset(of, which).indices])

    last = {f"networks.{s}.4.{kind}" for s in (0, 1) for kind in ("weight", "bias")}
    assert names("last-layer") == last
    assert names("all") == set(owners)
    assert names("species:As") == names("species:33") == names("networks.1.*")
    assert names("species:Ga,As") == names("species:31,33") == set(owners)
    assert names(["networks.0.0.bias", "last-layer"]) == last | {"networks.0.0.bias"}
    only_last = parameter_subset(Foreign(model), "last-layer").indices
    assert set(owners[only_last]) == {"networks.1.4.weight", "networks.1.4.bias"}


@pytest.mark.parametrize("name", ["linear two species", "kernel two species"])
def test_species_of_a_linear_head_are_the_columns_that_its_atoms_fill(name: str) -> None:
    types, build = MODELS[name]
    model, batch = build(), make_batch(5, types)
    basis = model.basis(batch.features, batch.types)
    for z in types:
        filled = (basis[batch.types == z] != 0).any(0).nonzero().squeeze(1)
        assert torch.equal(parameter_subset(model, f"species:{z}").indices, filled)


@theorem
@given(lengths=st.lists(st.integers(1, 5), min_size=1, max_size=6), data=st.data())
def test_positions_are_where_columns_go(lengths: list[int], data: st.DataObject) -> None:
    edges = np.cumsum([0, *lengths]).tolist()
    blocks = list(pairwise(edges))
    picked = sorted(data.draw(st.sets(st.sampled_from(blocks), min_size=1)))
    subset = Subset(picked, edges[-1])
    matrix = torch.arange(edges[-1]).unsqueeze(0)
    chosen = subset.columns(matrix)
    assert torch.equal(chosen[0], subset.indices)
    for start, stop in blocks:
        place = subset.position(start, stop)
        assert (place is not None) == ((start, stop) in picked)
        if place is not None:
            assert torch.equal(chosen[:, place], matrix[:, start:stop])


def test_what_names_nothing_is_refused() -> None:
    model = mlp(TWO)()
    with pytest.raises(InputError, match=r"no parameter is called 'head'.*networks\.0\.0\.weight"):
        parameter_subset(model, "head")
    with pytest.raises(InputError, match="no weights for species 14"):
        parameter_subset(model, "species:Si")
    with pytest.raises(InputError, match="'Xx' is no chemical element"):
        parameter_subset(model, "species:Xx")
    with pytest.raises(InputError, match="Foreign has no weights for each species"):
        parameter_subset(Foreign(model), "species:Ga")
    with pytest.raises(InputError, match="no parameters are chosen"):
        parameter_subset(model, [])


def test_the_last_layer_takes_no_more_memory_than_its_share() -> None:
    model = BehlerParrinelloMLP(FEATURES, TWO, (50, 5), seed=1)
    batch = make_batch(4, TWO)
    subset = parameter_subset(model, "last-layer")
    rows = energy_rows(model, batch, OBJECTIVE, subset=subset)
    assert rows.untyped_storage().nbytes() == rows.shape[0] * 10 * 8
