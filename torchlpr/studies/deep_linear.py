"""A network of linear layers is ridge regression in other features, and so is its rigidity."""

from __future__ import annotations

import torch
from torch import Tensor

from torchlpr.errors import InputError
from torchlpr.models import BehlerParrinelloMLP, LinearModel
from torchlpr.objective import Objective
from torchlpr.rigidity import Rigidity
from torchlpr.structures.batch import AtomBatch

__all__ = ["as_ridge", "metric", "ridge_rigidity"]


def metric(model: BehlerParrinelloMLP) -> Tensor:
    r"""Inner product of weight derivatives as one of features.

    .. math:: g(x) \cdot g(x') = x^T M x', \qquad
              M = \sum_l |W_L \cdots W_{l+1}|^2 \, B_l^T B_l, \quad B_l = W_{l-1} \cdots W_1

    so that the Gauss-Newton rigidity is that of ridge regression with features M^(1/2) x at the
    same mu. With 576 features and two hidden layers
    M = |W3 W2|^2 I + |W3|^2 W1^T W1 + W1^T W2^T W2 W1.

    Args:
        model: of linear layers without biases, for one species.

    Returns:
        M, shape (features, features).

    Raises:
        InputError: if the model is another.
    """
    if model.activation != "linear" or model.bias or len(model.types) != 1:
        raise InputError(
            "only a network of one species with linear activation and without biases is ridge "
            f"regression in other features, not one with {model.settings()}"
        )
    layers = [p.detach().to(torch.float64) for p in model.parameters()]
    after = [torch.ones(1, 1, dtype=torch.float64, device=layers[0].device)]
    for weight in reversed(layers[1:]):
        after.append(after[-1] @ weight)
    before = torch.eye(model.n_features, dtype=torch.float64, device=layers[0].device)
    total = torch.zeros_like(before)
    for weight, gain in zip(layers, reversed(after), strict=True):
        total += gain.square().sum() * before.mT @ before
        before = weight @ before
    return total


def as_ridge(model: BehlerParrinelloMLP, batch: AtomBatch) -> AtomBatch:
    """The batch with features M^(1/2) x.

    Args:
        model: as for :func:`metric`.
        batch: structures with features x.

    Returns:
        The same structures, float64.
    """
    values, vectors = torch.linalg.eigh(metric(model))
    root = vectors * values.clamp(min=0).sqrt() @ vectors.mT
    double = batch.to(dtype=torch.float64)
    return AtomBatch(double.features @ root, batch.types, batch.structure, double.energies)


def ridge_rigidity(
    model: BehlerParrinelloMLP, train: AtomBatch, objective: Objective, atoms: AtomBatch
) -> Tensor:
    """Rigidity of atoms by ridge regression with features M^(1/2) x.

    Args:
        model: as for :func:`metric`.
        train: training structures.
        objective: the loss, whose mu both share.
        atoms: where to.

    Returns:
        LPR in eV^-2, shape (atoms,).
    """
    linear = LinearModel(model.n_features, model.types)
    return Rigidity(linear, as_ridge(model, train), objective).local(as_ridge(model, atoms))
