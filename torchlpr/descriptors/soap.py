"""The SOAP power spectrum of every atom, as a plain float64 tensor of fixed width.

Features are computed once, on the CPU, by featomic (once called rascaline); what is differentiated
afterwards are models of the features, in pure torch.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import combinations_with_replacement
from typing import Any

import ase
import numpy as np
import torch
from torch import Tensor

from torchlpr.bars import bar
from torchlpr.descriptors.cache import FeatureCache, cache_key
from torchlpr.descriptors.hypers import (
    LARGEST_RADIAL,
    check_index,
    check_length,
    check_scaling,
    featomic_hypers,
)
from torchlpr.descriptors.structures import as_batch, checked
from torchlpr.errors import InputError
from torchlpr.structures.batch import AtomBatch
from torchlpr.structures.derivatives import Derivatives
from torchlpr.structures.species import normalise_types

__all__ = ["SOAP"]

#: features held by featomic at a time, beside the result: 32 MiB
_BLOCK = 2**22


class SOAP:
    r"""SOAP power spectrum of the atomic environments.

    .. math::
        p^{ab}_{i,\,l n n'} = \frac{(-1)^l}{\sqrt{2l+1}} \sum_m
            \langle a n l m | \rho_i \rangle \langle b n' l m | \rho_i \rangle

    with real spherical harmonics and featomic's sign, for each unordered pair of neighbour species
    a <= b (times :math:`\sqrt 2` if they differ, so that scalar products are those of all ordered
    pairs). Columns run over (pair, l, n, n'), the last fastest, pairs in the order of
    :attr:`pairs`: they do not depend on what a structure holds.

    Source: Bartók et al., Phys. Rev. B 87, 184115 (2013), doi:10.1103/PhysRevB.87.184115;
    radial scaling: Willatt et al., Phys. Chem. Chem. Phys. 20, 29661 (2018),
    doi:10.1039/C8CP05921G.

    Args:
        cutoff: radius of an environment in Å.
        max_radial: largest radial index, in featomic's meaning: 9 gives 10 functions.
        max_angular: largest angular momentum.
        width: width of the atomic Gaussians in Å.
        smoothing: width of the shifted cosine that ends at the cutoff, in Å.
        types: atomic numbers or chemical symbols of all species the model may meet.
        radial_scaling: ``{"exponent": m, "rate": c, "scale": r0}`` weighs a neighbour at distance
            r by c / (c + (r / r0)^m); None weighs all alike.
        normalize: scale the vector of each atom to unit norm.
        cache: folder that keeps the features between runs; None keeps none.
    """

    def __init__(
        self,
        *,
        cutoff: float,
        max_radial: int,
        max_angular: int,
        width: float,
        smoothing: float,
        types: Iterable[int | str],
        radial_scaling: Mapping[str, float] | None = None,
        normalize: bool = False,
        cache: str | os.PathLike[str] | None = None,
    ) -> None:
        self.cutoff = check_length("cutoff", cutoff)
        self.max_radial = check_index("max_radial", max_radial, LARGEST_RADIAL)
        self.max_angular = check_index("max_angular", max_angular)
        self.width = check_length("width", width)
        self.smoothing = check_length("smoothing", smoothing)
        if self.smoothing > self.cutoff:
            raise InputError(f"smoothing={smoothing} must not exceed cutoff={cutoff}")
        self.types = normalise_types(types)
        self.radial_scaling = check_scaling(radial_scaling)
        self.normalize = bool(normalize)
        self.cache = cache

    def __repr__(self) -> str:
        return f"SOAP({', '.join(f'{name}={value!r}' for name, value in self.hypers().items())})"

    def hypers(self) -> dict[str, Any]:
        """The plain constructor arguments, as YAML files and checkpoints hold them.

        Returns:
            ``d`` such that ``SOAP(**d)`` is the same descriptor. The cache folder is left out: it
            belongs to a machine, not to the descriptor.
        """
        return {
            "cutoff": self.cutoff,
            "max_radial": self.max_radial,
            "max_angular": self.max_angular,
            "width": self.width,
            "smoothing": self.smoothing,
            "types": list(self.types),
            "radial_scaling": None if self.radial_scaling is None else dict(self.radial_scaling),
            "normalize": self.normalize,
        }

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Pairs of neighbour species (atomic numbers), in the order of the columns."""
        return list(combinations_with_replacement(self.types, 2))

    @property
    def n_features(self) -> int:
        """Number of columns: pairs x (max_radial + 1)^2 x (max_angular + 1)."""
        return len(self.pairs) * (self.max_radial + 1) ** 2 * (self.max_angular + 1)

    def __call__(
        self,
        structures: Sequence[ase.Atoms],
        progress: bool | None = None,
        *,
        derivatives: bool = False,
    ) -> AtomBatch:
        """Features of all atoms of some structures.

        Args:
            structures: periodic in all directions or in none.
            progress: show a progress bar; None shows one on terminals, after two seconds.
            derivatives: give the derivatives by positions too, and the forces where there are
                any; they take 24 bytes a feature and pair of neighbours.

        Returns:
            Batch in the order of the structures and of their atoms, features float64 on the CPU;
            with energies if every structure has one.

        Raises:
            InputError: if a structure is empty, of mixed pbc, of a species not in ``types``, or
                if the features do not fit into the memory of the machine.
        """
        structures = checked(structures, self.types, "SOAP")
        features = self._features(structures, progress)
        if not derivatives:
            return as_batch(features, structures)
        return as_batch(features, structures, self._derivatives(structures, progress))

    def _features(self, structures: list[ase.Atoms], progress: bool | None) -> Tensor:
        """Features from the cache if it has them, else computed and kept."""
        if self.cache is None:
            return self._compute(structures, progress)
        cache, key = FeatureCache(self.cache), cache_key(self.hypers(), structures)
        features = cache.load(key, (sum(map(len, structures)), self.n_features))
        if features is None:
            features = self._compute(structures, progress)
            cache.save(key, features)
        return features

    def _derivatives(self, structures: list[ase.Atoms], progress: bool | None) -> Derivatives:
        """Derivatives from the cache if it has them, else computed and kept."""
        from torchlpr.descriptors.derivatives import feature_derivatives

        if self.cache is None:
            return feature_derivatives(self, structures, progress)
        cache, key = FeatureCache(self.cache), cache_key(self.hypers(), structures)
        derivatives = cache.load_derivatives(key, self.n_features)
        if derivatives is None:
            derivatives = feature_derivatives(self, structures, progress)
            cache.save_derivatives(key, derivatives)
        return derivatives

    def _compute(self, structures: list[ase.Atoms], progress: bool | None) -> Tensor:
        """Fill the features block by block, so that featomic holds few of them at a time."""
        import featomic

        counts = [len(atoms) for atoms in structures]
        features = _allocate(sum(counts), self.n_features)
        first_row = np.concatenate([[0], np.cumsum(counts)])
        try:
            calculator = featomic.SoapPowerSpectrum(**featomic_hypers(self))
            with bar(len(structures), "SOAP", "structure", progress) as shown:
                for start, stop in _blocks(counts, _BLOCK // self.n_features):
                    with _featomic_log(f"structures {start} to {stop - 1}"):
                        block = calculator.compute([_plain(a) for a in structures[start:stop]])
                    self._scatter(block, features.numpy()[first_row[start] :], first_row[start:])
                    shown.update(stop - start)
        except featomic.FeatomicError as error:
            raise InputError(f"featomic cannot compute {self!r}: {error}") from error
        return _normalized(features, counts) if self.normalize else features

    def _scatter(self, block: Any, out: np.ndarray, first_row: np.ndarray) -> None:
        """Copy one TensorMap to the rows of its atoms and the columns of its pairs of species.

        Blocks hold the atoms of one species, with neighbours of one pair; what has no block is 0.
        """
        width = self.n_features // len(self.pairs)
        for key, values in block.items():
            pair = self.pairs.index((key["neighbor_1_type"], key["neighbor_2_type"]))
            system, atom = np.asarray(values.samples.values).T
            rows = first_row[system] - first_row[0] + atom
            out[rows, pair * width : (pair + 1) * width] = values.values


def _plain(atoms: ase.Atoms) -> ase.Atoms:
    """Geometry alone, without the cell of a molecule, which featomic would warn about."""
    cell = atoms.cell if atoms.pbc.any() else None
    return ase.Atoms(atoms.numbers, atoms.positions, cell=cell, pbc=atoms.pbc)


def _allocate(atoms: int, n_features: int) -> Tensor:
    """Zeros of shape (atoms, n_features), float64, if the machine can hold them."""
    size = 8 * atoms * n_features
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not everywhere
        memory = size
    if size > memory:
        raise InputError(
            f"the features of {atoms} atoms, {n_features} each, take {size / 2**30:.1f} GiB of "
            f"{memory / 2**30:.1f} GiB of memory; lower max_radial or max_angular, drop species "
            "from types, or describe fewer structures at a time"
        )
    return torch.zeros(atoms, n_features, dtype=torch.float64)


def _blocks(counts: Sequence[int], atoms: int) -> Iterator[tuple[int, int]]:
    """Ranges of structures of at most so many atoms, but of at least one structure."""
    start, held = 0, 0
    for index, count in enumerate(counts):
        if index > start and held + count > atoms:
            yield start, index
            start, held = index, 0
        held += count
    yield start, len(counts)


@contextmanager
def _featomic_log(where: str) -> Iterator[None]:
    """Turn featomic's log into warnings that say where, instead of lines of the root logger."""
    from featomic import log

    messages: list[str] = []

    def keep(level: int, message: str) -> None:
        if level <= log.FEATOMIC_LOG_LEVEL_WARN:
            messages.append(message.split(" -- ")[-1])

    log.set_logging_callback(keep)
    try:
        yield
    finally:
        log.set_logging_callback(log.default_logging_callback)
    if messages:
        warnings.warn(f"featomic on {where}: {messages[0]}", UserWarning, stacklevel=6)


def _normalized(features: Tensor, counts: Sequence[int]) -> Tensor:
    """Rows scaled to unit norm, in place."""
    norms = torch.linalg.vector_norm(features, dim=1)
    if not bool(norms.all()):
        row = int((norms == 0).nonzero()[0])
        structure = int(np.searchsorted(np.cumsum(counts), row, side="right"))
        atom = row - sum(counts[:structure])
        raise InputError(
            f"the features of atom {atom} of structure {structure} are zero and cannot be "
            "normalized; take a larger cutoff or normalize=False"
        )
    return features.div_(norms[:, None])
