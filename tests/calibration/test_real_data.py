"""DFT silicon: uncertainties from rigidity against one error bar for all structures."""

from pathlib import Path

import numpy as np
import pytest

import torchlpr
from torchlpr.calibration import fit_alpha, reliability, single_environment
from torchlpr.training import fit
from torchlpr.training.errors import energy_errors


@pytest.mark.parametrize("method", ["likelihood", "absolute", "crps"])
def test_rigidity_tells_more_than_one_error_bar(method: str, data_dir: Path) -> None:
    """alpha from 45 structures: better on 44 others, and on strained crystals never seen."""
    frames = torchlpr.read(data_dir / "si_ge_mlearn/si.xyz")
    kinds = np.array([atoms.info["config_type"] for atoms in frames])
    soap = torchlpr.SOAP(
        cutoff=5.0, max_radial=4, max_angular=3, width=0.5, smoothing=0.5, types=["Si"],
        normalize=True,
    )  # fmt: skip
    others = np.random.default_rng(0).permutation(np.flatnonzero(kinds != "Elastic"))
    parts = others[:89], others[89:134], others[134:], np.flatnonzero(kinds == "Elastic")
    batch = soap(frames)
    train, valid, test, elastic = (batch.select(part.tolist()) for part in parts)
    baseline = torchlpr.CompositionBaseline.fit(train)
    train, valid, test, elastic = map(baseline.subtract, (train, valid, test, elastic))
    model, objective = torchlpr.LinearModel(soap.n_features, ["Si"]), torchlpr.Objective(mu=1e-6)
    fit(model, train, objective, progress=False)
    rigidity = torchlpr.Rigidity(model, train, objective)
    errors = energy_errors(model, valid)
    alpha = fit_alpha(errors, rigidity.total(valid), method)
    one_bar = errors.square().mean().sqrt()
    assert single_environment(elastic).all()
    for new, rigid in ((test, rigidity.total(test)), (elastic, rigidity.total(elastic))):
        r = energy_errors(model, new)
        calibrated = reliability(r, alpha.value * rigid.rsqrt())
        assert calibrated.nll < reliability(r, one_bar.expand_as(r)).nll
        assert 0.4 < calibrated.rms_z < 2  # 1 where the assumptions hold
