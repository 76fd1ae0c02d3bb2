"""torchlpr fit and rigidity with symmetry functions instead of SOAP."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.cli.sentence import refused
from tests.pipeline.small import silicon, torchlpr, write_config, write_frames
from torchlpr import SOAP, InputError, SymmetryFunctions, load
from torchlpr.descriptors.state import descriptor_state, load_descriptor
from torchlpr.serialization import read_document, write_document
from torchlpr.structures.io import read

SETTINGS = {
    "kind": "symmetry-functions", "cutoff": 4.0, "n_radial": 4, "n_angular": 1,
}  # fmt: skip
FOREIGN = {"max_radial": 7, "max_angular": 6}  # SOAP's defaults, in place of those of the small run


@pytest.mark.parametrize("scaling", ["range", "standard", "none"])
@pytest.mark.parametrize("kind", ["mlp", "linear", "kernel"])
def test_a_fit_and_its_rigidity(kind: str, scaling: str, tmp_path: Path) -> None:
    train = write_frames(tmp_path / "si.xyz", silicon(12))
    descriptor = SETTINGS | FOREIGN | {"scaling": scaling}
    config = write_config(tmp_path / "c.yaml", train, model={"kind": kind}, descriptor=descriptor)
    assert torchlpr("fit", "--config", config, "--out", tmp_path / "run") == 0
    run = load(tmp_path / "run")
    assert isinstance(run.descriptor, SymmetryFunctions)
    assert run.descriptor.n_features == 4 + 6
    assert (run.descriptor.scaling.kind if run.descriptor.scaling else "none") == scaling
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["structures"] == {"train": 8, "validation": 2, "test": 2}
    words = ["rigidity", tmp_path / "run", train, "--out", tmp_path / "lpr.xyz"]
    assert torchlpr(*words) == 0
    written = np.concatenate([a.arrays["lpr"] for a in read(tmp_path / "lpr.xyz")])
    np.testing.assert_allclose(written, run.predict(read(train)).lpr.numpy(), rtol=1e-7)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kind": "symmetry-functions"}, ["descriptor.max_radial is a setting of soap"]),
        ({"n_radial": 5}, ["descriptor.n_radial is a setting of symmetry-functions", "is soap"]),
        (SETTINGS | FOREIGN | {"n_radial": 1}, ["at least 2, not 1"]),
        (SETTINGS | FOREIGN | {"style": "mine"}, ["descriptor.style", "mine"]),
        (SETTINGS | FOREIGN | {"scaling": "log"}, ["descriptor.scaling", "log"]),
        ({"kind": "acsf"}, ["descriptor.kind", "acsf"]),
    ],
)
def test_settings_refused(
    settings: dict, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = write_frames(tmp_path / "si.xyz", silicon(10))
    config = write_config(tmp_path / "c.yaml", train, descriptor=settings)
    refused(capsys, ["fit", "--config", config, "--out", tmp_path / "run"], words)


def test_descriptors_on_disk(tmp_path: Path) -> None:
    plain = SymmetryFunctions.standard(4.0, ["Si", "Ge"], 3, 1)
    soap = SOAP(cutoff=4, max_radial=2, max_angular=1, width=0.5, smoothing=0.5, types=["Si"])
    for descriptor in (plain, plain.scaled(silicon(3)), soap):
        write_document(tmp_path / "d.pt", "descriptor", descriptor_state(descriptor))
        again = load_descriptor(read_document(tmp_path / "d.pt", "descriptor"))
        assert type(again) is type(descriptor)
        x, y = again(silicon(2)).features, descriptor(silicon(2)).features
        assert torch.equal(x, y)
    assert isinstance(load_descriptor(soap.hypers()), SOAP)  # the first runs named no kind
    with pytest.raises(InputError, match=r"descriptor 'mace' is unknown .* update torchlpr"):
        load_descriptor({"kind": "mace"})
