"""Losses of means, as papers and other codes write them, in the half convention."""

from __future__ import annotations

import math

from torchlpr.errors import InputError
from torchlpr.objective import Objective
from torchlpr.structures.batch import AtomBatch

__all__ = ["mean_loss_objective"]


def mean_loss_objective(
    batch: AtomBatch,
    l2: float,
    force_weight: float = 0.0,
    energy_weight: float = 1.0,
    per_atom: bool = True,
) -> Objective:
    r"""The objective with the minimum of a loss of means.

    .. math:: \frac{c_E}{N} \sum_A \left( \frac{\Delta E_A}{n_A} \right)^2
        + \frac{f}{n_F} \sum_i (\Delta F_i)^2 + \ell |w|^2 = \frac{2}{N} L

    for N structures and n_F components of forces, where L is the objective with

    .. math:: \mu = \ell N, \qquad c_F = f N / n_F.

    A penalty written as l/2 \|w\|^2 is this one with half of l. In mini-batches the L2 term stands
    beside the mean of each batch, and N is the number of structures of the whole training set.

    Source: the loss of SIMPLE-NN (Lee et al., Comput. Phys. Commun. 242, 95 (2019),
    doi:10.1016/j.cpc.2019.04.014), which Yoo et al., Phys. Rev. Mater. 3, 093802 (2019) use, with
    l = 1e-6; its default is f = 0.1 Å^2.

    Args:
        batch: the whole training set, of which N and n_F are counted.
        l2: l, eV^2 per squared weight unit.
        force_weight: f, Å^2.
        energy_weight: c_E, dimensionless.
        per_atom: energies per atom; False takes total energies.

    Returns:
        The objective, in the half convention.

    Raises:
        InputError: if a coefficient is no such number, or forces weigh and the batch has none.
    """
    for name, value in (("l2", l2), ("force_weight", force_weight)):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise InputError(f"{name} must be a number, not {value!r}")
    if not (math.isfinite(l2) and l2 > 0):
        raise InputError(f"l2 must be a positive number, not {l2}")
    n, weight = batch.n_structures, force_weight
    if force_weight:
        components = 3 * int(batch.counts[batch.has_forces].sum())
        if not components:
            raise InputError(
                f"forces weigh {force_weight}, but no structure has any; read them with the right "
                "forces_key, or set force_weight=0"
            )
        weight = force_weight * n / components
    return Objective(l2 * n, energy_weight, per_atom, weight)
