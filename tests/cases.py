"""One list of cases: models x dtypes x sizes x devices; and random problems for the theorems."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor, nn

from torchlpr.models import BehlerParrinelloMLP, LinearModel, SparseKernelModel
from torchlpr.structures.batch import AtomBatch

FEATURES = 4
ONE, TWO = (14,), (31, 33)

# the property tests: same examples in every run, no clock
theorem = settings(derandomize=True, deadline=None, max_examples=30, database=None)
seeds = st.integers(0, 2**32 - 1)
ridges = st.floats(-4, 2).map(lambda exponent: 10.0**exponent)


def mlp(types: tuple[int, ...], **options) -> Callable[[], nn.Module]:
    return lambda: BehlerParrinelloMLP(FEATURES, types, **{"hidden": (4, 2), "seed": 7} | options)


def linear(types: tuple[int, ...]) -> nn.Module:
    model = LinearModel(FEATURES, types)
    model.weight.data = random_tensor(1, len(model.weight))
    return model


def kernel(types: tuple[int, ...], points: int = 3, zeta: int = 2) -> nn.Module:
    model = SparseKernelModel(make_batch(points * len(types), types, seed=99, atoms=1), zeta)
    model.weight.data = random_tensor(2, len(model.weight))
    return model


MODELS: dict[str, tuple[tuple[int, ...], Callable[[], nn.Module]]] = {
    "mlp": (ONE, mlp(ONE)),
    "mlp two species": (TWO, mlp(TWO)),
    "mlp bias tanh": (ONE, mlp(ONE, bias=True, activation="tanh")),
    "mlp bias silu two species": (TWO, mlp(TWO, bias=True, activation="silu")),
    "mlp softplus": (ONE, mlp(ONE, activation="softplus", hidden=(6,))),
    "mlp linear": (ONE, mlp(ONE, activation="linear")),
    "linear": (ONE, lambda: linear(ONE)),
    "linear two species": (TWO, lambda: linear(TWO)),
    "kernel": (ONE, lambda: kernel(ONE)),
    "kernel two species": (TWO, lambda: kernel(TWO)),
}
DTYPES = (torch.float64, torch.float32)
SIZES = {"few rows": 3, "many rows": 70}  # fewer and more structures than parameters
DEVICES = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)


@dataclass(frozen=True)
class Case:
    """A model of one dtype, and a training set of one size, on one device."""

    name: str
    dtype: torch.dtype
    size: str
    device: str

    def __str__(self) -> str:
        return f"{self.name}, {str(self.dtype)[6:]}, {self.size}, {self.device}"

    def model(self) -> nn.Module:
        return MODELS[self.name][1]().to(device=self.device, dtype=self.dtype)

    def batch(self, seed: int = 0, structures: int | None = None) -> AtomBatch:
        types = MODELS[self.name][0]
        count = SIZES[self.size] if structures is None else structures
        return make_batch(count, types, seed).to(self.device, self.dtype)


CASES = [Case(*fields) for fields in product(MODELS, DTYPES, SIZES, DEVICES)]


def random_tensor(seed: int, *shape: int) -> Tensor:
    """Standard normal float64 numbers, the same everywhere."""
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def make_batch(
    structures: int,
    types: tuple[int, ...] = ONE,
    seed: int = 0,
    atoms: int | None = None,
    features: int = FEATURES,
) -> AtomBatch:
    """Structures of 1 to 5 atoms (or of ``atoms``) whose species alternate within a structure."""
    rng = np.random.default_rng([seed, structures])
    counts = rng.integers(1, 6, structures) if atoms is None else np.full(structures, atoms)
    total = int(counts.sum())
    return AtomBatch(
        torch.from_numpy(rng.normal(size=(total, features))),
        torch.tensor(types)[torch.arange(total) % len(types)],
        torch.repeat_interleave(torch.arange(structures), torch.from_numpy(counts)),
        torch.from_numpy(rng.normal(size=structures)),
    )


@dataclass(frozen=True)
class Problem:
    """Rows and gradients of a random linear model of a random size."""

    rows: Tensor
    gradients: Tensor
    rng: np.random.Generator

    def more_rows(self, count: int) -> Tensor:
        return torch.from_numpy(self.rng.normal(size=(count, self.rows.shape[1])))


@st.composite
def problems(draw: st.DrawFn, min_rows: int = 0) -> Problem:
    """Up to 12 rows and 10 parameters, rows outnumbering parameters or the reverse."""
    m, p = draw(st.integers(min_rows, 12)), draw(st.integers(1, 10))
    rng = np.random.default_rng(draw(seeds))
    gradients = torch.from_numpy(rng.normal(size=(4, p)))
    return Problem(torch.from_numpy(rng.normal(size=(m, p))), gradients, rng)
