"""From a derivative by features to one by positions and strain, a few atoms at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import ase
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from torchlpr.descriptors.hypers import featomic_hypers
from torchlpr.descriptors.soap import SOAP, _featomic_log, _plain
from torchlpr.errors import InputError
from torchlpr.structures.validation import validate

__all__ = ["SoapGradients", "soap_gradients"]

# doubles that featomic may hold for the derivatives of a chunk, with so many neighbours an atom
_DOUBLES = 2**25
_NEIGHBOURS = 60


@dataclass(frozen=True)
class SoapGradients:
    """Features of some atoms of a structure, and the way back to its geometry.

    Attributes:
        atoms: which atoms of the structure.
        features: as the descriptor gives them, shape (atoms, features), float64.
    """

    atoms: slice
    features: Tensor
    _norms: Tensor | None
    _blocks: list[tuple[NDArray[np.int64], slice, Any]]
    _n_atoms: int

    def pull_back(self, sensitivity: Tensor) -> tuple[Tensor, Tensor]:
        """Derivatives of a scalar by the geometry, from those by the features.

        Args:
            sensitivity: dE/dx, shape (atoms, features), eV.

        Returns:
            dE/dr of all atoms of the structure in eV/Å, shape (structure's atoms, 3), and the
            derivative by a homogeneous strain in eV, shape (3, 3).
        """
        s = sensitivity.detach().to(torch.float64)
        if self._norms is not None:  # x = p/|p|
            s = (s - (s * self.features).sum(1, keepdim=True) * self.features) / self._norms
        positions, strain = np.zeros((self._n_atoms, 3)), np.zeros((3, 3))
        for rows, columns, block in self._blocks:
            chosen = s[rows, columns].numpy()
            gradient = block.gradient("positions")
            centre, _, atom = np.asarray(gradient.samples.values).T
            np.add.at(positions, atom, np.einsum("kxp,kp->kx", gradient.values, chosen[centre]))
            if "strain" in block.gradients_list():
                gradient = block.gradient("strain")
                centre = np.asarray(gradient.samples.values)[:, 0]
                strain += np.einsum("kxyp,kp->xy", gradient.values, chosen[centre])
        return torch.from_numpy(positions), torch.from_numpy(strain)

    def blocks(self) -> tuple[Tensor, Tensor, Tensor]:
        """The derivatives themselves, where they are not zero.

        Returns:
            Centres and moved atoms, shape (pairs,) each, both numbered as in the structure, and
            dx/dr in 1/Å, shape (pairs, 3, features).
        """
        found = []
        for rows, columns, block in self._blocks:
            gradient = block.gradient("positions")
            centre, _, atom = np.asarray(gradient.samples.values, dtype=np.int64).T
            found.append((rows[centre] * self._n_atoms + atom, columns, gradient.values))
        everything = [code for code, _, _ in found] or [np.empty(0, dtype=np.int64)]
        codes = np.unique(np.concatenate(everything))
        values = np.zeros((len(codes), 3, self.features.shape[1]))
        for code, columns, gradient in found:
            values[np.searchsorted(codes, code), :, columns] = gradient
        centre, moved = map(torch.from_numpy, np.divmod(codes, self._n_atoms))
        out = torch.from_numpy(values)
        if self._norms is not None:  # x = p/|p|: dx = (dp - x (x . dp)) / |p|
            x = self.features[centre].unsqueeze(1)  # [pair, 1, feature]
            out -= (out @ x.mT) * x
            out /= self._norms[centre].unsqueeze(1)
        return centre + self.atoms.start, moved, out


def soap_gradients(soap: SOAP, atoms: ase.Atoms) -> Iterator[SoapGradients]:
    """Features of one structure with their derivatives, chunk after chunk.

    Derivatives by the strain are there for periodic structures. Memory is bounded: only the
    derivatives of one chunk are held.

    Args:
        soap: the descriptor; its cache plays no part.
        atoms: the structure.

    Yields:
        Consecutive atoms.

    Raises:
        InputError: if the structure is not valid, featomic refuses it, or features that are zero
            should be normalised.
    """
    import featomic
    from metatensor import Labels

    validate([atoms], "the input", types=soap.types)
    plain = _plain(atoms)
    calculator = featomic.SoapPowerSpectrum(**featomic_hypers(soap))
    wanted = ["positions", "strain"] if atoms.pbc.all() else ["positions"]
    step = max(1, _DOUBLES // (3 * _NEIGHBOURS * soap.n_features))
    for start in range(0, len(atoms), step):
        chunk = np.arange(start, min(start + step, len(atoms)))
        samples = Labels(["system", "atom"], np.stack([np.zeros_like(chunk), chunk], axis=1))
        try:
            with _featomic_log("the structure"):
                computed = calculator.compute([plain], gradients=wanted, selected_samples=samples)
        except featomic.FeatomicError as error:
            raise InputError(f"featomic cannot compute {soap!r}: {error}") from error
        features = torch.zeros(len(chunk), soap.n_features, dtype=torch.float64)
        width, blocks = soap.n_features // len(soap.pairs), []
        for key, block in computed.items():
            pair = soap.pairs.index((key["neighbor_1_type"], key["neighbor_2_type"]))
            columns = slice(pair * width, (pair + 1) * width)
            rows = np.asarray(block.samples.values)[:, 1].astype(np.int64) - start
            if len(rows):
                features[rows, columns] = torch.from_numpy(np.asarray(block.values))
                blocks.append((rows, columns, block))
        norms = None
        if soap.normalize:
            norms = torch.linalg.vector_norm(features, dim=1, keepdim=True)
            if not bool(norms.all()):
                raise InputError(
                    f"the features of atom {start + int((norms == 0).nonzero()[0, 0])} are zero "
                    "and cannot be normalized; take a larger cutoff or normalize=False"
                )
            features = features / norms
        yield SoapGradients(slice(start, start + len(chunk)), features, norms, blocks, len(atoms))
