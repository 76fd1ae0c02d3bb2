"""Numbers instead of environments: x encoded by radial symmetry functions, for model problems."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from torchlpr.descriptors.scaling import FeatureScaling
from torchlpr.descriptors.symmetry_terms import radial_terms
from torchlpr.errors import InputError
from torchlpr.structures.batch import AtomBatch

__all__ = ["ScalarFunctions"]


class ScalarFunctions:
    r"""Features of a number, :math:`G^2_s(x) = e^{-\eta (x - R_s)^2} f_c(x)`, standardised.

    A structure is a group of numbers, its energy the sum of a function at them.

    Source: Yoo et al., Phys. Rev. Mater. 3, 093802 (2019), Supplemental Material, Fig. S4, which
    gives the number of functions only.

    Args:
        lower: smallest x.
        upper: largest x.
        n_features: number of functions, centres evenly from ``lower`` to ``upper``.
        width: of the Gaussians; eta = 1/(2 width^2).
        cutoff: of the cosine cutoff, larger than ``upper`` so that every x is seen.
    """

    def __init__(
        self, lower: float, upper: float, n_features: int, width: float, cutoff: float
    ) -> None:
        if not (0 <= lower < upper < cutoff and width > 0 and n_features > 1):
            raise InputError(
                "scalar functions need 0 <= lower < upper < cutoff, a positive width and two "
                f"functions, not lower={lower}, upper={upper}, cutoff={cutoff}, width={width}, "
                f"n_features={n_features}"
            )
        self.lower, self.upper, self.cutoff = lower, upper, cutoff
        centres = self.grid(n_features).tolist()
        self.g2 = [(1 / (2 * width**2), centre) for centre in centres]
        self.scaling = FeatureScaling.fit(self._plain(self.grid(301)), "standard")

    @property
    def n_features(self) -> int:
        """Number of functions."""
        return len(self.g2)

    def grid(self, n: int) -> Tensor:
        """Even numbers from the smallest to the largest x, shape (n,), float64."""
        return torch.linspace(self.lower, self.upper, n, dtype=torch.float64)

    def __call__(
        self, groups: Sequence[Sequence[float]] | Tensor, sums: object = None
    ) -> AtomBatch:
        """Groups of numbers as structures.

        Args:
            groups: numbers of each group, shape (groups, numbers).
            sums: sum of the function over each group, shape (groups,); None where it is unknown.

        Returns:
            The batch, every number an atom of type 1.

        Raises:
            InputError: if a number is out of range.
        """
        x = torch.as_tensor(groups, dtype=torch.float64)
        if x.ndim != 2 or not bool(((x >= self.lower) & (x <= self.upper)).all()):
            raise InputError(
                f"groups must have shape (groups, numbers) and numbers from {self.lower} to "
                f"{self.upper}"
            )
        structure = torch.arange(len(x)).repeat_interleave(x.shape[1])
        features = self.scaling(self._plain(x.flatten()))
        return AtomBatch.from_arrays(features, torch.ones_like(structure), structure, sums)

    def _plain(self, x: Tensor) -> Tensor:
        return radial_terms(x, self.g2, self.cutoff)
