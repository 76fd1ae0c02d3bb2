"""Settings of the study of silicon."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torchlpr.errors import InputError

__all__ = ["QUICK", "Settings"]


@dataclass(frozen=True)
class Settings:
    """Of the study.

    Attributes:
        seed: of the slabs and of the crystals' deformations.
        seeds: of the draws of training sets against whose size errors are shown.
        dft_seeds: of the structures held out of the real data.
        slabs: training slabs of the kernel head.
        linear_slabs: of the linear head.
        test: slabs held out, and structures of each kind in the second part.
        layers: of the slabs, four atoms each.
        others: layers of the slabs of other thickness; the first, thicker one has claims.
        strained: deformed crystals.
        amplitude: standard deviation of the displacements in each direction, Å.
        strain: largest entry of the strain of crystals in the second part.
        mu: strength of the L2 term, eV^2.
        force_weight: of the objective; a tenth of the mean square over the 192 components of the
            forces of a slab, as SIMPLE-NN has it (Lee et al., Comput. Phys. Commun. 242, 95
            (2019), doi:10.1016/j.cpc.2019.04.014).
        references: environments of the kernel heads.
        zeta: exponent of their kernel: 32 makes it local.
        sizes: numbers of training structures in the second part.
        added: crystals added to the real data.
        networks: seeds of networks that are watched while they train; empty for none.
        network_slabs: slabs they train on.
        epochs: of Adam, full batch.
        steps: of Levenberg-Marquardt, which follow.
    """

    seed: int = 0
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    dft_seeds: list[int] = field(default_factory=lambda: list(range(8)))
    slabs: int = 40
    linear_slabs: int = 120
    test: int = 20
    layers: int = 16
    others: list[int] = field(default_factory=lambda: [32, 8, 24, 48])
    strained: int = 8
    amplitude: float = 0.05
    strain: float = 0.01
    mu: float = 1e-6
    force_weight: float = 5e-4
    references: int = 200
    zeta: int = 32
    sizes: list[int] = field(default_factory=lambda: [1, 2, 4, 8, 16])
    added: list[int] = field(default_factory=lambda: [0, 1, 2, 4, 6, 8])
    networks: list[int] = field(default_factory=lambda: [0, 1, 2])
    network_slabs: int = 16
    epochs: int = 300
    steps: int = 50

    def __post_init__(self) -> None:
        if not self.seeds or not self.sizes or not self.others or 0 not in self.added:
            raise InputError(
                "seeds, sizes and others must not be empty, and added must hold 0, not "
                f"{self.seeds}, {self.sizes}, {self.others} and {self.added}"
            )


QUICK: dict[str, Any] = {
    "seeds": [0],
    "slabs": 20,
    "linear_slabs": 40,
    "test": 6,
    "others": [32],
    "references": 120,
    "sizes": [1, 8],
    "dft_seeds": [0, 1, 2, 3],
    "networks": [],
}
"""What a quick run has less of."""
