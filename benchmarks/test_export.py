"""Seconds of an exported network's energy, forces and rigidities, as an engine asks for them.

Processor time, so that another process does not count. TORCHLPR_EXPORT_CELLS=10,5,25 makes 10,000
atoms (9 GiB of memory); 1000 training rows, 576-16-16-1, cutoff 5 Å.
"""

import functools
import os
import time

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

import torchlpr
from torchlpr.export import Run
from torchlpr.training import Stationarity

LPR = "torchlpr::local_prediction_rigidity"
CELLS = tuple(map(int, os.environ.get("TORCHLPR_EXPORT_CELLS", "3,3,3").split(",")))
ROWS, ROUNDS = 1000, {"rounds": 5, "warmup_rounds": 1}

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.* is (deprecated|not supported).*")


@functools.cache
def run() -> Run:
    """A network as initialised, and rattled crystals."""
    soap = torchlpr.SOAP(
        cutoff=5.0, max_radial=7, max_angular=8, width=0.5, smoothing=0.5, types=["Si"]
    )
    frames = [bulk("Si", cubic=True) for _ in range(ROWS)]
    for seed, atoms in enumerate(frames):
        atoms.rattle(0.05 + 0.2 * seed / ROWS, seed=seed)
    model = torchlpr.BehlerParrinelloMLP(soap.n_features, ["Si"], seed=0)
    batch = soap(frames, progress=False)
    rigidity = torchlpr.Rigidity(model, batch, torchlpr.Objective(mu=1e-6), "row")
    unknown = Stationarity(*[0.0] * len(Stationarity.__dataclass_fields__))
    return Run(soap, torchlpr.CompositionBaseline(["Si"]), rigidity, unknown, {})


@functools.cache
def atoms() -> Atoms:
    structure = bulk("Si", cubic=True) * CELLS
    structure.rattle(0.1, seed=1)
    return structure


@pytest.fixture(params=[True, False], ids=["with rigidity", "without"])
def calculator(request, tmp_path):
    metatomic_ase = pytest.importorskip("metatomic_ase", reason="needs torchlpr[metatomic]")
    torchlpr.export_metatomic(run(), tmp_path / "model.pt", rigidity=request.param)
    return metatomic_ase.MetatomicCalculator(tmp_path / "model.pt", do_gradients_with_energy=False)


def measured(benchmark, calculator, work):
    """Repeat the work on positions that are new every time."""
    rng = np.random.default_rng(0)

    def setup():
        moved = atoms().copy()
        moved.positions += 1e-3 * rng.normal(size=moved.positions.shape)
        moved.calc = calculator
        return (moved,), {}

    benchmark.group = f"exported, {len(atoms())} atoms"
    spent = []

    def timed(moved):
        start = time.process_time()
        work(moved)
        spent.append(time.process_time() - start)

    benchmark.pedantic(timed, setup=setup, **ROUNDS)
    benchmark.extra_info["processor seconds"] = min(spent)


def test_energy(benchmark, calculator):
    measured(benchmark, calculator, Atoms.get_potential_energy)


def test_forces(benchmark, calculator):
    measured(benchmark, calculator, Atoms.get_forces)


def test_rigidity(benchmark, calculator):
    from metatomic.torch import ModelOutput

    if LPR not in calculator._model.capabilities().outputs:
        pytest.skip("exported without rigidity")
    output = {LPR: ModelOutput(unit="eV^-2", sample_kind="atom")}
    measured(benchmark, calculator, lambda moved: calculator.run_model(moved, output))
