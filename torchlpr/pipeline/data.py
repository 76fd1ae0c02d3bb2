"""From files to batches: read, check, split, describe."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ase import Atoms
from ase.data import chemical_symbols

from torchlpr.bars import bar
from torchlpr.descriptors.shared import describe_shared
from torchlpr.descriptors.soap import SOAP
from torchlpr.descriptors.state import Descriptor
from torchlpr.descriptors.symmetry import SymmetryFunctions
from torchlpr.errors import InputError
from torchlpr.export import Run
from torchlpr.pipeline.config import DataConfig, DescriptorConfig
from torchlpr.ranks import ALONE, Ranks
from torchlpr.structures.batch import AtomBatch
from torchlpr.structures.io import read, require_energies, require_forces
from torchlpr.structures.species import normalise_types
from torchlpr.structures.splits import split
from torchlpr.structures.validation import validate

__all__ = ["Parts", "describe", "described_chunks", "read_parts"]

# structures whose features, and their derivatives, are held at a time: a few hundred MB for 100
# atoms and 1000 features
CHUNK, FORCE_CHUNK = 256, 8


@dataclass
class Parts:
    """Training, validation and test structures; the latter two may be empty.

    Attributes:
        train: training structures.
        validation: those that choose mu.
        test: those that nothing was chosen by.
        train_indices: place of each training structure in its file.
    """

    train: list[Atoms]
    validation: list[Atoms]
    test: list[Atoms]
    train_indices: list[int]


def read_parts(config: DataConfig, forces: bool = False) -> Parts:
    """Read the files of a fit and set parts of the training file aside as asked.

    Args:
        config: where structures come from.
        forces: whether all must have forces.

    Returns:
        The three parts, all with energies.
    """
    structures = _read(config, config.train, forces)
    fractions = {
        name: float(value)
        for name in ("validation", "test")
        if not isinstance(value := getattr(config, name), str) and value
    }
    parts: dict[str, list[Atoms]] = {"train": structures, "validation": [], "test": []}
    trained = list(range(len(structures)))
    if fractions:
        sizes = _sizes(fractions, len(structures), config)
        indices = split(structures, sizes, config.seed, config.group_key)
        for name, part in zip(("train", *fractions), indices, strict=True):
            parts[name] = [structures[i] for i in part]
        trained = [int(i) for i in indices[0]]
    for name in ("validation", "test"):
        value = getattr(config, name)
        if isinstance(value, str):
            parts[name] = _read(config, value, forces)
    return Parts(**parts, train_indices=trained)


def describe(
    parts: Parts, config: DescriptorConfig, ranks: Ranks = ALONE, derivatives: bool = False
) -> tuple[Descriptor, dict[str, AtomBatch]]:
    """Features of every part that is not empty.

    Args:
        parts: the structures.
        config: the descriptor's settings; its types default to those of the training part, on
            which symmetry functions are scaled.
        ranks: processes that each compute the features of some structures.
        derivatives: with those of the features, and forces.

    Returns:
        The descriptor, and batches by the names train, validation and test.
    """
    with ranks.agreed():
        descriptor = _described(parts, config)
    named = {"train": parts.train, "validation": parts.validation, "test": parts.test}
    return descriptor, {
        name: describe_shared(descriptor, part, ranks, derivatives=derivatives)
        for name, part in named.items()
        if part
    }


def described_chunks(
    run: Run, structures: list[Atoms], what: str, progress: bool | None = None
) -> Iterator[AtomBatch]:
    """Features of a few structures at a time, as a run describes them.

    Args:
        run: gives descriptor and objective: where forces weigh, features have derivatives.
        structures: any number of them.
        what: they are, for the bar.
        progress: whether to show it; None shows it for long work.

    Yields:
        Consecutive structures.
    """
    with bar(len(structures), what, "structure", progress) as shown:
        forces = run.rigidity.objective.force_weight > 0
        size = FORCE_CHUNK if forces else CHUNK
        for start in range(0, len(structures), size):
            part = structures[start : start + size]
            yield run.descriptor(part, progress=False, derivatives=forces)
            shown.update(len(part))


def _described(parts: Parts, config: DescriptorConfig) -> Descriptor:
    """The descriptor, after a look at the structures."""
    descriptor = _descriptor(config, config.types or _symbols(parts.train))
    named = {"train": parts.train, "validation": parts.validation, "test": parts.test}
    for name, structures in named.items():
        if structures:
            validate(structures, f"the {name} set", types=descriptor.types)
    if isinstance(descriptor, SymmetryFunctions) and config.scaling != "none":
        descriptor = descriptor.scaled(parts.train, config.scaling)
    return descriptor


def _descriptor(config: DescriptorConfig, types: list[str]) -> Descriptor:
    if config.kind == "symmetry-functions":
        return SymmetryFunctions.standard(
            config.cutoff, types, config.n_radial, config.n_angular, style=config.style
        )
    return SOAP(
        cutoff=config.cutoff,
        max_radial=config.max_radial,
        max_angular=config.max_angular,
        width=config.width,
        smoothing=config.smoothing,
        types=types,
        radial_scaling=config.radial_scaling,
        normalize=config.normalize,
        cache=config.cache,
    )


def _read(config: DataConfig, path: str, forces: bool) -> list[Atoms]:
    structures = read(path, config.energy_key, config.forces_key)
    require_energies(structures, path)
    if forces:
        require_forces(structures, path)
    return structures


def _sizes(fractions: dict[str, float], n: int, config: DataConfig) -> list[float] | list[int]:
    """Fractions where groups stay together, else whole numbers with at least one structure."""
    if any(not 0 < value < 1 for value in fractions.values()) or sum(fractions.values()) >= 1:
        raise InputError(
            f"data.validation and data.test are fractions of the training file and must leave "
            f"some of it to train on, not {fractions}"
        )
    if n <= len(fractions):
        raise InputError(
            f"{Path(config.train)} has {n} structures, too few to set validation and test "
            "structures aside; give files for them or set the fractions to 0"
        )
    if config.group_key is not None:
        return [1 - sum(fractions.values()), *fractions.values()]
    aside = [max(1, round(value * n)) for value in fractions.values()]
    return [n - sum(aside), *aside]


def _symbols(structures: list[Atoms]) -> list[str]:
    numbers = {int(z) for atoms in structures for z in set(atoms.numbers.tolist())}
    return [chemical_symbols[z] for z in normalise_types(numbers)]
