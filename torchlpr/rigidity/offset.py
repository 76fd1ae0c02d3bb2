"""Rigidity of the energy offset between clusters of environments."""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor

from torchlpr.curvature import gradient_chunks
from torchlpr.errors import InputError
from torchlpr.rigidity.evaluation import Evaluation
from torchlpr.rigidity.prediction import quadratic_forms
from torchlpr.rigidity.rigidity import Rigidity
from torchlpr.structures.batch import AtomBatch

__all__ = ["offset_rigidity"]


def offset_rigidity(rigidity: Rigidity, batch: AtomBatch, labels: Tensor) -> Evaluation:
    r"""How firmly the training set holds the mean energies of clusters of environments apart.

    .. math::
        \mathrm{PR}_{ab} = \left(g_{ab}^\top H^{-1} g_{ab}\right)^{-1}, \qquad
        g_{ab} = \frac{1}{n_a} \sum_{k \in a} g_k - \frac{1}{n_b} \sum_{k \in b} g_k

    Where every training structure holds two clusters in the same ratio n_a : n_b, energy can move
    from the one to the other (+c/n_a, -c/n_b) without a trace in total energies, and without one
    in forces as long as no structure crosses the gap between them: the mapping is ad hoc, and this
    rigidity is near its floor, the regulariser's, with a mu-fraction near 1. One structure of
    another ratio mends it; of two clusters in n1 structures of ratio 1:1 and n2 with a share p of
    the one, with independent gradients, for mu to 0:

    .. math:: \mathrm{PR}^{-1} = \left(\frac{2}{2p-1}\right)^2 \left(\frac1{n_1}+\frac1{n_2}\right)

    Source: the ad hoc mapping: Yoo et al., Phys. Rev. Mater. 3, 093802 (2019); rigidity: Chong et
    al., J. Chem. Theory Comput. 19, 8020 (2023); of their combination: derived here.

    Args:
        rigidity: of the trained model.
        batch: environments of the clusters.
        labels: cluster of each atom, whole numbers; negative ones take no part (the labels of
            :class:`torchlpr.analysis.single_linkage.ClusterGap`), shape (atoms,).

    Returns:
        Rigidities in 1/eV^2 and mu-fractions of the differences 0-1, 0-2, ..., 1-2, ... of the
        clusters by increasing label, shape (pairs of clusters,) each, float64.

    Raises:
        InputError: if there is not one whole number for each atom, or fewer than two clusters.
    """
    given = torch.as_tensor(labels, device=batch.features.device)
    if tuple(given.shape) != (len(batch),) or given.is_floating_point():
        raise InputError(
            f"labels must be {len(batch)} whole numbers, one for each atom, not "
            f"{given.dtype} of shape {tuple(given.shape)}"
        )
    clusters, number = torch.unique(given[given >= 0], return_inverse=True)
    if len(clusters) < 2:
        raise InputError(
            f"an offset needs two clusters, but the labels name {len(clusters)}; negative labels "
            "take no part"
        )
    member = torch.full((len(batch),), -1, dtype=torch.int64, device=given.device)
    member[given >= 0] = number
    sums = torch.zeros(
        len(clusters), len(rigidity.subset), dtype=torch.float64, device=given.device
    )
    for part, gradients in gradient_chunks(rigidity.model, batch, subset=rigidity.subset):
        inside = member[part] >= 0
        sums.index_add_(0, member[part][inside], gradients[inside])
    means = sums / torch.bincount(number)[:, None]
    one, two = zip(*combinations(range(len(clusters)), 2), strict=True)
    forms = quadratic_forms(rigidity.factor, means[list(one)] - means[list(two)])
    return Evaluation(1.0 / forms.value, forms.regulariser / forms.value)
