"""What the studies that replace structures have in common."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from torchlpr import SOAP, AtomBatch, Committee, InputError, LinearModel, Objective, Rigidity, fit
from torchlpr.models import SparseKernelModel
from torchlpr.models.inducing import select_inducing
from torchlpr.studies.data_choice import check_data, deal, shared_file
from torchlpr.studies.exchange import describe, exchange
from torchlpr.studies.exchange_stage import ExchangeOptions
from torchlpr.training import energy_rmse

OPTIONS = ExchangeOptions(references=20, members=4, fraction=0.7, many=400, seed=3)


def cells(n: int, share: float, seed: int) -> list[Atoms]:
    rng, frames = np.random.default_rng(seed), []
    for _ in range(n):
        symbols = ["Ga"] * round(8 * share) + ["As"] * (8 - round(8 * share))
        atoms = Atoms(symbols, positions=rng.uniform(0, 5.6, (8, 3)), cell=[5.6] * 3, pbc=True)
        atoms.calc = SinglePointCalculator(atoms, energy=float(rng.normal()) - 20)
        frames.append(atoms)
    return frames


@pytest.fixture(scope="module")
def batches():
    soap = SOAP(
        cutoff=3.5, max_radial=2, max_angular=2, width=0.5, smoothing=0.5, types=["Ga", "As"]
    )
    probe = cells(2, 0.5, 5)
    symbols = [s for frame in probe for s in frame.get_chemical_symbols()]
    return describe(
        soap,
        cells(12, 0.5, 0),
        {"other": cells(3, 0.75, 1)},
        cells(6, 0.5, 2),
        {"1:1": cells(5, 0.5, 3)},
        probe,
        symbols,
        {31: -1.0, 33: -2.0},
    )


@pytest.mark.parametrize("head", ["kernel", "linear"])
def test_rows_of_basis_functions_are_the_model_itself(batches, head) -> None:
    """One mean environment a structure gives what atoms and species give."""
    result = exchange(head, batches, OPTIONS)
    model = (
        SparseKernelModel(select_inducing(batches.base, 20))
        if head == "kernel"
        else LinearModel(batches.soap.n_features, batches.soap.types)
    )
    objective = Objective(result.search.best)
    kept = batches.base.select(batches.kept(3, OPTIONS.seed))
    for name, train in (
        ("before", batches.base),
        ("other", AtomBatch.cat([kept, batches.added["other"]])),
    ):
        fit(model, train, objective, progress=False)
        stage = result.stages[name]
        lpr = Rigidity(model, train, objective).local(batches.probe)
        np.testing.assert_allclose(stage.lpr, lpr, rtol=1e-6)
        error = energy_rmse(model, batches.tests["1:1"])
        assert stage.rmse["1:1"] == pytest.approx(error, rel=1e-6)
        committee = Committee.train(
            model, train, objective, 400, "subsample", fraction=0.7, seed=3, progress=False
        ).predict(batches.probe)
        np.testing.assert_allclose(stage.subsampled, committee.atoms.variance, rtol=1e-5)
        zero = torch.where(batches.probe.types == 31, -1.0, -2.0)
        constant = batches.baseline(batches.probe.features, batches.probe.types) - zero
        shown = committee.atoms.members[:4] + constant
        np.testing.assert_allclose(stage.members, shown, rtol=1e-5, atol=1e-6)
    assert result.variants == ["other"]
    after, before = result.stages["other"], result.before
    gallium = np.array(result.classes) == "Ga"
    ratio = after.lpr[gallium].median() / before.lpr[gallium].median()
    assert result.ratio("other", {"Ga"}) == pytest.approx(float(ratio))
    # one noise for all, so the variance of a drawn committee is that over LPR
    assert after.sigma == before.sigma
    scaled = after.drawn * after.lpr / after.sigma**2
    assert float(scaled.mean()) == pytest.approx(1, abs=0.1)
    assert result.agreement("other", "drawn").slope == pytest.approx(-1, abs=0.3)


def test_the_baseline_knows_no_species(batches) -> None:
    assert len(set(batches.baseline.energies.tolist())) == 1
    means = batches.base.energies / batches.base.counts
    assert float(means.mean()) == pytest.approx(0, abs=1e-12)


def test_what_is_kept(batches) -> None:
    kept = batches.kept(3, 0)
    assert len(kept) == 9
    assert kept == sorted(set(kept))
    assert kept != batches.kept(3, 1)
    for wrong in (0, 12):
        with pytest.raises(InputError, match=f"{wrong} structures cannot replace"):
            batches.kept(wrong, 0)


def test_dealing() -> None:
    assert sorted(deal(range(9), 9, 0)) == list(range(9))
    assert deal(range(9), 4, 1) == deal(range(9), 4, 1) != deal(range(9), 4, 2)
    with pytest.raises(InputError, match="10 of 9 structures"):
        deal(range(9), 10, 0)


def test_choices_of_data(monkeypatch, tmp_path) -> None:
    with pytest.raises(InputError, match="surrogate, original, not 'mine'"):
        check_data("mine")
    monkeypatch.delenv("TORCHLPR_DATA", raising=False)
    with pytest.raises(InputError, match=r"needs carbon, .* set TORCHLPR_DATA to .* holds c/c.xyz"):
        shared_file("c/c.xyz", "carbon")
    monkeypatch.setenv("TORCHLPR_DATA", str(tmp_path))
    with pytest.raises(InputError, match=r"c.xyz, carbon, is not there"):
        shared_file("c.xyz", "carbon")
    (tmp_path / "c.xyz").touch()
    assert shared_file("c.xyz", "carbon") == tmp_path / "c.xyz"
