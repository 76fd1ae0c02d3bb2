"""What became of a model of slabs, one of which gave way to another structure."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

__all__ = ["CRYSTAL", "OTHER", "SLABS", "SlabStage", "offset_of_ratio"]

SLABS, CRYSTAL, OTHER = "slabs", "one crystal", "one slab of"


@dataclass(frozen=True)
class SlabStage:
    """A model of slabs, some of which gave way to another structure.

    Attributes:
        head: "linear" or "kernel".
        trained: on what.
        n_structures: in the training set.
        force_weight: of the objective.
        slab_rmse: of held-out slabs, eV/atom.
        slab_force_rmse: of held-out slabs, eV/Å.
        crystal_errors: of the crystal and of its deformations, eV/atom.
        crystal_lpr: of their atoms, 1/eV^2.
        slab_rigidity: median of held-out slabs, 1/eV^2.
        offset: rigidity of the offset between bulk-like and surface atoms, 1/eV^2.
        offset_floor: share of the regulariser in it.
        predicted: what the monitor says it would be with the crystal in the training set, 1/eV^2.
        site_energies: predicted for the atoms of held-out slabs, eV, with the baseline.
        bulk_error: mean error of these for bulk-like atoms, by the teacher's split, eV.
        surface_error: for surface atoms, eV.
        slab_lpr: of the atoms of held-out slabs, 1/eV^2.
        words: of the monitor.
        ad_hoc: whether it calls the mapping ad hoc.
        seconds: wall time of training and rigidities.
    """

    head: str
    trained: str
    n_structures: int
    force_weight: float
    slab_rmse: float
    slab_force_rmse: float
    crystal_errors: Tensor
    crystal_lpr: Tensor
    slab_rigidity: float
    offset: float
    offset_floor: float
    predicted: float
    site_energies: Tensor
    bulk_error: float
    surface_error: float
    slab_lpr: Tensor
    words: str
    ad_hoc: bool
    seconds: float

    @property
    def crystal_error(self) -> float:
        """RMSE of the deformed crystals, none of which was trained on, eV/atom."""
        return float(self.crystal_errors[1:].square().mean().sqrt())

    @property
    def loss(self) -> str:
        """What it was trained on of each structure."""
        return "energies and forces" if self.force_weight else "energies"


def offset_of_ratio(share: float, other: float, n: int) -> float:
    r"""Rigidity of the offset between two clusters, in the limit of a vanishing regulariser.

    .. math:: \mathrm{PR} = (p - p_0)^2 / (1/n + 1)

    for n structures with a share :math:`p_0` of the one cluster and one with a share p, where
    environments of a cluster have one gradient.

    Args:
        share: of the n structures.
        other: of the one.
        n: structures of the same share.

    Returns:
        In 1/eV^2.
    """
    return (other - share) ** 2 / (1 / n + 1)
