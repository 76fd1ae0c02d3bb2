"""Symmetry functions of Behler and Parrinello, differentiable in positions and cells."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations_with_replacement
from typing import Any

import ase
import torch
from torch import Tensor

from torchlpr.bars import bar
from torchlpr.descriptors.geometry import Geometry
from torchlpr.descriptors.hypers import check_length
from torchlpr.descriptors.scaling import FeatureScaling, ScalingKind
from torchlpr.descriptors.structures import as_batch, checked
from torchlpr.descriptors.symmetry_parameters import (
    ZETAS,
    Style,
    angular_parameters,
    radial_parameters,
)
from torchlpr.descriptors.symmetry_terms import angular_terms, cosine_cutoff, radial_terms
from torchlpr.errors import InputError
from torchlpr.structures.batch import AtomBatch
from torchlpr.structures.species import normalise_types

__all__ = ["SymmetryFunctions"]

#: numbers in the terms of one block of structures: 32 MiB in float64, a few times that in all
_BLOCK = 2**22


class SymmetryFunctions:
    r"""Radial and angular symmetry functions of the atomic environments.

    .. math::
        G^2_i &= \sum_{j} e^{-\eta (r_{ij} - R_s)^2} f_c(r_{ij}) \\
        G^4_i &= 2^{1-\zeta} \sum_{j < k} (1 + \lambda \cos\theta_{ijk})^\zeta
            e^{-\eta (r_{ij}^2 + r_{ik}^2 + r_{jk}^2)} f_c(r_{ij}) f_c(r_{ik}) f_c(r_{jk}) \\
        G^5_i &= 2^{1-\zeta} \sum_{j < k} (1 + \lambda \cos\theta_{ijk})^\zeta
            e^{-\eta (r_{ij}^2 + r_{ik}^2)} f_c(r_{ij}) f_c(r_{ik})

    with the cosine cutoff :math:`f_c(r) = (\cos(\pi r / r_c) + 1) / 2`. G2 takes neighbours of one
    species, G4 and G5 those of one unordered pair of species, each pair of neighbours once (the
    original counts it twice). Columns run over (species, g2), then over (pair, g4 and g5), the
    functions fastest, pairs in the order of :attr:`pairs`: they do not depend on what a structure
    holds. Features have one continuous derivative; structures may be periodic in any directions.

    Source: Behler and Parrinello, Phys. Rev. Lett. 98, 146401 (2007),
    doi:10.1103/PhysRevLett.98.146401; Behler, J. Chem. Phys. 134, 074106 (2011),
    doi:10.1063/1.3553717.

    Args:
        cutoff: radius of an environment in Å.
        types: atomic numbers or chemical symbols of all species the model may meet.
        g2: (eta in 1/Å^2, R_s in Å) of each radial function.
        g4: (eta in 1/Å^2, zeta, lambda) of each angular function, lambda +1 or -1.
        g5: the same, for those without the distance between the neighbours.
        scaling: of the columns, as :class:`FeatureScaling` or its plain settings; None leaves the
            functions as they are. See :meth:`scaled`.
    """

    def __init__(
        self,
        *,
        cutoff: float,
        types: Iterable[int | str],
        g2: Iterable[Sequence[float]] = (),
        g4: Iterable[Sequence[float]] = (),
        g5: Iterable[Sequence[float]] = (),
        scaling: FeatureScaling | Mapping[str, Any] | None = None,
    ) -> None:
        self.cutoff = check_length("cutoff", cutoff)
        self.types = normalise_types(types)
        self.g2 = [_radial(p) for p in g2]
        self.g4, self.g5 = [_angular("g4", p) for p in g4], [_angular("g5", p) for p in g5]
        if not (self.g2 or self.g4 or self.g5):
            raise InputError("there are no symmetry functions; give g2, g4 or g5")
        if isinstance(scaling, Mapping):
            scaling = FeatureScaling.from_dict(scaling)
        if scaling is not None and len(scaling.shift) != self.n_features:
            raise InputError(
                f"the scaling is for {len(scaling.shift)} features, but there are "
                f"{self.n_features}; fit it anew"
            )
        self.scaling = scaling

    @classmethod
    def standard(
        cls,
        cutoff: float,
        types: Iterable[int | str],
        n_radial: int = 8,
        n_angular: int = 2,
        *,
        style: Style = "gastegger-shifted",
        zetas: Iterable[float] = ZETAS,
        wide: bool = False,
    ) -> SymmetryFunctions:
        """A set of functions by the rules of the literature.

        Args:
            cutoff: radius of an environment in Å.
            types: atomic numbers or chemical symbols.
            n_radial: G2 functions for each species.
            n_angular: values of eta of the angular functions; each comes with every zeta and with
                both signs of lambda.
            style: rule for the radial functions, see
                :func:`torchlpr.descriptors.symmetry_parameters.radial_parameters`.
            zetas: angular resolutions.
            wide: G5 instead of G4.

        Returns:
            The descriptor, without scaling.
        """
        g2 = radial_parameters(cutoff, n_radial, style)
        angular = angular_parameters(cutoff, n_angular, zetas)
        g4, g5 = ([], angular) if wide else (angular, [])
        return cls(cutoff=cutoff, types=types, g2=g2, g4=g4, g5=g5)

    def __repr__(self) -> str:
        return (
            f"SymmetryFunctions(cutoff={self.cutoff}, types={list(self.types)}, {len(self.g2)} G2, "
            f"{len(self.g4)} G4, {len(self.g5)} G5, "
            f"scaling={None if self.scaling is None else self.scaling.kind})"
        )

    def hypers(self) -> dict[str, Any]:
        """The plain constructor arguments, as checkpoints hold them.

        Returns:
            ``d`` such that ``SymmetryFunctions(**d)`` is the same descriptor, scaling included.
        """
        return {
            "cutoff": self.cutoff,
            "types": list(self.types),
            "g2": [list(p) for p in self.g2],
            "g4": [list(p) for p in self.g4],
            "g5": [list(p) for p in self.g5],
            "scaling": None if self.scaling is None else self.scaling.as_dict(),
        }

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Pairs of neighbour species (atomic numbers), in the order of the columns."""
        return list(combinations_with_replacement(self.types, 2))

    @property
    def n_features(self) -> int:
        """Number of columns: species x g2 + pairs x (g4 + g5)."""
        return len(self.types) * len(self.g2) + len(self.pairs) * len(self.g4 + self.g5)

    def scaled(
        self, structures: Sequence[ase.Atoms] | AtomBatch, kind: ScalingKind = "range"
    ) -> SymmetryFunctions:
        """The same functions, scaled to what training structures span.

        Args:
            structures: training structures, or the batch that this descriptor made of them.
            kind: "range" for [-1, 1], "standard" for zero mean and unit variance.

        Returns:
            A descriptor whose columns are scaled; a scaling of this one is replaced.

        Raises:
            InputError: if a batch is given but this descriptor is scaled already.
        """
        plain = SymmetryFunctions(**self.hypers() | {"scaling": None})
        if isinstance(structures, AtomBatch) and self.scaling is not None:
            raise InputError("the batch is scaled already; fit a scaling to the structures")
        batch = structures if isinstance(structures, AtomBatch) else plain(structures)
        scaling = FeatureScaling.fit(batch.features, kind)
        return SymmetryFunctions(**plain.hypers() | {"scaling": scaling})

    def __call__(
        self,
        structures: Sequence[ase.Atoms],
        progress: bool | None = None,
        *,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
        derivatives: bool = False,
    ) -> AtomBatch:
        """Features of all atoms of some structures.

        Args:
            structures: periodic in any directions.
            progress: show a progress bar; None shows one on terminals, after two seconds.
            dtype: of the features.
            device: to compute on.
            derivatives: give the derivatives by positions too, and the forces where there are
                any; they take 24 bytes a feature and pair of neighbours.

        Returns:
            Batch in the order of the structures and of their atoms; with energies if every
            structure has one.

        Raises:
            InputError: if a structure is empty, of a species not in ``types``, or has two atoms at
                the same place.
        """
        structures = checked(structures, self.types, "SymmetryFunctions", mixed_pbc=True)
        parts = []
        with bar(len(structures), "symmetry functions", "structure", progress) as shown:
            for block in self._blocks(structures):
                geometry = Geometry.from_structures(block, self.cutoff, dtype=dtype, device=device)
                with torch.no_grad():
                    parts.append(self.features(geometry))
                shown.update(len(block))
        features = torch.cat(parts)
        if not derivatives:
            return as_batch(features, structures)
        from torchlpr.descriptors.derivatives import feature_derivatives

        return as_batch(features, structures, feature_derivatives(self, structures, progress))

    def features(self, geometry: Geometry, vectors: Tensor | None = None) -> Tensor:
        """Features, differentiable in positions and cells as often as autograd is asked to.

        Forces are ``-torch.autograd.grad(energy, geometry.positions)``.

        Args:
            geometry: from :meth:`Geometry.from_structures` with this cutoff or a larger one.
            vectors: from the centre to the neighbour of each pair, where they are the variables;
                None takes the geometry's.

        Returns:
            Shape (atoms, features), in the dtype and on the device of the geometry.

        Raises:
            InputError: if the geometry's cutoff is smaller than the descriptor's.
        """
        if geometry.cutoff < self.cutoff:
            raise InputError(
                f"the geometry has neighbours up to {geometry.cutoff} Å only, the symmetry "
                f"functions need {self.cutoff}"
            )
        species = self._species(geometry.types)
        vectors = geometry.vectors() if vectors is None else vectors
        r = torch.linalg.vector_norm(vectors, dim=1)
        parts = []
        if self.g2:
            terms = radial_terms(r, self.g2, self.cutoff)
            kind = species[geometry.second]
            parts.append(_sum(terms, geometry.first, kind, len(species), len(self.types)))
        if self.g4 or self.g5:
            parts.append(self._angular(geometry, vectors, r, species))
        features = torch.cat(parts, dim=1)
        return features if self.scaling is None else self.scaling(features)

    def _angular(self, geometry: Geometry, vectors: Tensor, r: Tensor, species: Tensor) -> Tensor:
        """G4 and G5, shape (atoms, pairs x functions)."""
        one, two = geometry.triplets()
        if not self.g5:  # G4 needs neighbours that are in reach of each other: about half of them
            with torch.no_grad():
                apart = torch.linalg.vector_norm(vectors[two] - vectors[one], dim=1)
            one, two = one[apart < self.cutoff], two[apart < self.cutoff]
        fc, square = cosine_cutoff(r, self.cutoff), r.square()
        cosine = (vectors[one] * vectors[two]).sum(dim=1) / (r[one] * r[two])
        squares, cutoffs = square[one] + square[two], fc[one] * fc[two]
        terms = []
        if self.g4:
            opposite = (vectors[two] - vectors[one]).square().sum(dim=1)
            third = cosine_cutoff(opposite.sqrt(), self.cutoff)
            terms.append(angular_terms(cosine, squares + opposite, cutoffs * third, self.g4))
        if self.g5:
            terms.append(angular_terms(cosine, squares, cutoffs, self.g5))
        a, b = species[geometry.second[one]], species[geometry.second[two]]
        low, high, n = torch.minimum(a, b), torch.maximum(a, b), len(self.types)
        # row by row through the upper triangle, as combinations_with_replacement goes
        pair = low * n - low * (low - 1) // 2 + high - low
        centre = geometry.first[one]
        return _sum(torch.cat(terms, dim=1), centre, pair, len(species), len(self.pairs))

    def _species(self, types: Tensor) -> Tensor:
        """Position of each atom's species in ``types``."""
        known = types.new_tensor(self.types)
        species = torch.searchsorted(known, types).clamp(max=len(known) - 1)
        if bool((wrong := known[species] != types).any()):
            number = int(types[wrong][0])
            raise InputError(f"atomic number {number} is not among the types {list(self.types)}")
        return species

    def _blocks(self, structures: Sequence[ase.Atoms]) -> Iterator[list[ase.Atoms]]:
        """Structures whose terms fit together into a block, at least one at a time."""
        block: list[ase.Atoms] = []
        held = 0.0
        for atoms in structures:
            terms = self._terms(atoms)
            if block and held + terms > _BLOCK:
                yield block
                block, held = [], 0.0
            block.append(atoms)
            held += terms
        yield block

    def _terms(self, atoms: ase.Atoms) -> float:
        """Estimated number of terms of a structure, from its density."""
        volume = atoms.cell.volume if atoms.pbc.all() else math.inf
        sphere = 4 / 3 * math.pi * self.cutoff**3
        near = max(sphere * len(atoms) / volume, min(len(atoms), sphere * 0.1))
        angular = near / 2 * len(self.g4 + self.g5)
        return len(atoms) * near * (len(self.g2) + angular)


def _sum(terms: Tensor, centre: Tensor, kind: Tensor, atoms: int, kinds: int) -> Tensor:
    """Sum the terms of each centre and kind of neighbour, shape (atoms, kinds x functions)."""
    out = terms.new_zeros(atoms * kinds, terms.shape[1])
    return out.index_add(0, centre * kinds + kind, terms).reshape(atoms, kinds * terms.shape[1])


def _radial(parameters: Sequence[float]) -> tuple[float, float]:
    """Checked parameters of a G2."""
    if len(parameters) != 2:
        raise InputError(f"a function of g2 has eta and R_s, not {list(parameters)}")
    eta, shift = map(float, parameters)
    if not (math.isfinite(eta) and eta >= 0 and math.isfinite(shift)):
        raise InputError(f"a function of g2 has eta >= 0 and a finite R_s, not {[eta, shift]}")
    return eta, shift


def _angular(name: str, parameters: Sequence[float]) -> tuple[float, float, float]:
    """Checked parameters of a G4 or G5."""
    if len(parameters) != 3:
        raise InputError(f"a function of {name} has eta, zeta and lambda, not {list(parameters)}")
    eta, zeta, sign = map(float, parameters)
    if not (math.isfinite(eta) and eta >= 0 and math.isfinite(zeta) and zeta >= 1):
        raise InputError(f"a function of {name} has eta >= 0 and zeta >= 1, not {[eta, zeta]}")
    if abs(sign) != 1:
        raise InputError(f"lambda of a function of {name} is 1 or -1, not {sign}")
    return eta, zeta, sign
