"""Runs and rigidities go to disk and come back the same."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.cases import MODELS, make_batch
from tests.pipeline.small import silicon
from torchlpr import InputError, Objective, Rigidity
from torchlpr.descriptors.soap import SOAP
from torchlpr.export import Run, load
from torchlpr.models import (
    BehlerParrinelloMLP,
    CompositionBaseline,
    LinearModel,
    SparseKernelModel,
)
from torchlpr.models.inducing import select_inducing
from torchlpr.training import LMSettings, fit

TYPES = (14,)
HEADS = ["mlp", "linear", "kernel"]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("shape", ["row", "parameter"])
@pytest.mark.parametrize("name", ["mlp bias silu two species", "linear two species", "kernel"])
def test_a_rigidity_comes_back_bit_by_bit(
    name: str, shape: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    types, build = MODELS[name]
    model, train = build(), make_batch(12, types, seed=1)
    if isinstance(model, SparseKernelModel):
        model = SparseKernelModel(model.inducing_batch(), 2, dtype)  # basis stays float64
        model.weight.data = torch.arange(1.0, 4.0, dtype=dtype)
    else:
        model = model.to(dtype)
    objective = Objective(mu=0.02, energy_weight=2.0, per_atom=False)
    test = make_batch(5, types, seed=2)
    rigidity = Rigidity(model, train, objective, shape)
    rigidity.save(tmp_path / "sub" / "rigidity.pt")
    again = Rigidity.load(tmp_path / "sub" / "rigidity.pt")
    assert again.objective == objective
    assert again.reason == rigidity.reason
    assert type(again.factor) is type(rigidity.factor)
    for ours, theirs in zip(again.model.parameters(), model.parameters(), strict=True):
        assert ours.dtype == dtype
        assert torch.equal(ours, theirs)
    for method in ("atoms", "structures"):
        for ours, theirs in zip(
            getattr(again, method)(test), getattr(rigidity, method)(test), strict=True
        ):
            assert torch.equal(ours, theirs)
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["rigidity.pt"]


def make_run(name: str, dtype: torch.dtype = torch.float64) -> Run:
    soap = SOAP(cutoff=3.5, max_radial=2, max_angular=2, width=0.5, smoothing=0.5, types=TYPES)
    batch = soap(silicon(9))
    baseline = CompositionBaseline.fit(batch, TYPES)
    batch = baseline.subtract(batch)
    model: nn.Module
    if name == "mlp":
        model = BehlerParrinelloMLP(soap.n_features, TYPES, (4,), bias=True, seed=1, dtype=dtype)
    elif name == "linear":
        model = LinearModel(soap.n_features, TYPES, dtype)
    else:
        model = SparseKernelModel(select_inducing(batch, 6), 2, dtype)
    objective = Objective(mu=1e-3)
    result = fit(model, batch, objective, lm_settings=LMSettings(steps=5), progress=False)
    rigidity = Rigidity(model, batch, objective)
    return Run(soap, baseline, rigidity, result.stationarity, {"rmse_train": result.rmse})


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("name", HEADS)
def test_a_run_predicts_the_same_after_loading(
    name: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    run, frames = make_run(name, dtype), silicon(4, seed=5)
    run.save(tmp_path / "run.pt")
    again = load(tmp_path / "run.pt")
    assert next(again.rigidity.model.parameters()).dtype == dtype
    assert again.descriptor.hypers() == run.descriptor.hypers()
    assert again.baseline.types == TYPES
    assert torch.equal(again.baseline.energies, run.baseline.energies)
    assert again.stationarity == run.stationarity
    assert (again.metrics, again.versions) == (run.metrics, run.versions)
    assert {"torchlpr", "torch", "python"} <= set(again.versions)
    before, after = run.predict(frames), again.predict(frames)
    for name_ in ("energies", "local_energies", "lpr", "lpr_mu_fraction", "pr", "pr_mu_fraction"):
        assert torch.equal(getattr(before, name_), getattr(after, name_)), name_
        assert getattr(after, name_).dtype == torch.float64


@pytest.mark.parametrize("name", HEADS)
def test_predictions_are_sums_of_local_energies(name: str) -> None:
    run, frames = make_run(name), silicon(4, seed=5)
    found = run.predict(frames)
    batch = run.descriptor(frames)
    local = run.rigidity.model(batch.features, batch.types).detach().numpy()
    local = local + float(run.baseline.energies[0])
    np.testing.assert_allclose(found.local_energies, local, rtol=1e-14)
    np.testing.assert_allclose(found.energies, np.bincount(batch.structure, local), rtol=1e-14)
    errors = found.energies.numpy() - [atoms.info["energy"] for atoms in frames]
    per_atom = errors / [len(atoms) for atoms in frames]
    assert found.rmse() == pytest.approx(np.sqrt(np.mean(per_atom**2)), rel=1e-12)
    np.testing.assert_array_equal(found.lpr, run.rigidity.local(batch))
    np.testing.assert_array_equal(found.pr, run.rigidity.total(batch))
    assert set(found.per_atom()) == {"lpr", "lpr_mu_fraction", "local_energy"}
    for atoms in frames:
        del atoms.info["energy"]
    assert run.predict(frames).rmse() is None


def test_what_is_no_run(tmp_path: Path) -> None:
    cases = [
        (tmp_path / "nowhere", "does not exist; give the folder that torchlpr fit wrote"),
        (tmp_path, r"holds no checkpoint\.pt; give the folder"),
    ]
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "config.yaml").write_text("{}")
    cases.append((tmp_path / "begun", "not finished; run torchlpr fit again to resume it"))
    run = make_run("linear")
    run.rigidity.save(tmp_path / "rigidity.pt")
    cases.append((tmp_path / "rigidity.pt", "is a torchlpr rigidity file, not a run file"))
    for path, words in cases:
        with pytest.raises(InputError, match=words) as caught:
            load(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_foreign_model_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.ones(4).double())

        def forward(self, features: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
            return features @ self.w

    with pytest.raises(InputError, match="a Own cannot be saved"):
        Rigidity(Own(), make_batch(3), Objective(mu=1.0)).save(tmp_path / "x.pt")
    assert [*tmp_path.iterdir()] == []
