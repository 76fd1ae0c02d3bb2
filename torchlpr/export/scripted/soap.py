"""SOAP inside TorchScript, from the systems of an engine, differentiable."""

from typing import Optional

import torch
from featomic.torch import SoapPowerSpectrum
from metatensor.torch import Labels, TensorBlock, TensorMap
from metatomic.torch import System
from torch import Tensor, nn

from torchlpr.descriptors.hypers import featomic_hypers
from torchlpr.descriptors.soap import SOAP
from torchlpr.export.scripted.folding import Folding

__all__ = ["ScriptedSoap"]


class ScriptedSoap(nn.Module):
    """Folded SOAP vectors of the atoms that are asked for.

    Args:
        soap: the descriptor.
        folding: of its vectors; the mirror half is not computed.
    """

    scale: Tensor

    def __init__(self, soap: SOAP, folding: Folding) -> None:
        super().__init__()
        self.calculator = SoapPowerSpectrum(**featomic_hypers(soap))
        self.properties = _selection(soap, folding)
        self.pairs = [list(pair) for pair in soap.pairs]
        blocks = self.properties.blocks()[: len(soap.pairs)]  # of the first centre
        self.widths = [len(block.properties) for block in blocks]
        self.normalize = soap.normalize
        self.register_buffer("scale", folding.scale)

    def forward(
        self,
        systems: list[System],
        samples: Tensor,
        selected: Optional[Labels],  # noqa: UP045 (nor does TorchScript know the other)
    ) -> Tensor:
        """Features of atoms.

        Args:
            systems: with the neighbours that featomic asked for.
            samples: system and atom of each row, shape (atoms, 2).
            selected: the same as labels where it is not every atom.

        Returns:
            Shape (atoms, folded features).
        """
        n = samples.shape[0]
        if n == 0:
            return self.scale.new_zeros(0, self.scale.shape[0])
        computed = self.calculator(
            systems, selected_samples=selected, selected_properties=self.properties
        )
        if len(self.pairs) == 1 and selected is None:
            features = computed.block(0).values
        else:
            features = self._assembled(computed, systems, samples)
        features = features * self.scale
        if self.normalize:
            features = features / torch.linalg.vector_norm(features, dim=1, keepdim=True)
        return features

    def _assembled(self, computed: TensorMap, systems: list[System], samples: Tensor) -> Tensor:
        """Blocks of centres and pairs of species, put into rows and columns."""
        sizes = torch.tensor([len(system) for system in systems], device=samples.device)
        first = sizes.cumsum(0) - sizes
        row = torch.zeros(int(sizes.sum()), dtype=torch.int64, device=samples.device)
        n = samples.shape[0]
        row[first[samples[:, 0]] + samples[:, 1]] = torch.arange(n, device=samples.device)
        parts: list[Tensor] = []
        for pair, width in zip(self.pairs, self.widths):  # noqa: B905 (not in TorchScript)
            part = self.scale.new_zeros(n, width)
            for key, block in computed.items():
                if int(key[1]) == pair[0] and int(key[2]) == pair[1]:
                    where = block.samples.values.to(torch.int64)
                    atoms = row[first[where[:, 0]] + where[:, 1]]
                    part = part.index_copy(0, atoms, block.values)
            parts.append(part)
        return torch.cat(parts, dim=1)


def _selection(soap: SOAP, folding: Folding) -> TensorMap:
    """The columns to compute, for every centre and pair of species."""
    n = soap.max_radial + 1
    every = torch.cartesian_prod(torch.arange(n), torch.arange(n))
    upper = torch.stack([folding.one, folding.two], dim=1)
    keys, blocks = [], []
    for centre in soap.types:
        for a, b in soap.pairs:
            radial = upper if a == b else every
            angular = torch.arange(soap.max_angular + 1).repeat_interleave(len(radial))
            columns = torch.column_stack([angular, radial.repeat(soap.max_angular + 1, 1)])
            keys.append([centre, a, b])
            blocks.append(_columns_alone(Labels(["l", "n_1", "n_2"], columns)))
    names = ["center_type", "neighbor_1_type", "neighbor_2_type"]
    return TensorMap(Labels(names, torch.tensor(keys)), blocks)


def _columns_alone(columns: Labels) -> TensorBlock:
    none = Labels(["none"], torch.zeros(0, 1, dtype=torch.int64))
    return TensorBlock(torch.zeros(0, len(columns)), none, [], columns)
