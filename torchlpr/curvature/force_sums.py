"""Mixed derivatives by weights and positions: of heads linear in their weights, of any module."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vmap

from torchlpr.curvature.gradients import parameter_count, split_parameters
from torchlpr.curvature.layered_forces import layered_force_sums
from torchlpr.curvature.pairs import Pairs
from torchlpr.curvature.subsets import Subset
from torchlpr.models import (
    BehlerParrinelloMLP,
    LinearInParameters,
    LinearModel,
    SparseKernelModel,
)
from torchlpr.models.triangular import solve_rows
from torchlpr.structures.species import atoms_of_each_type

__all__ = ["force_sums", "generic_force_sums"]


def force_sums(model: nn.Module, pairs: Pairs, subset: Subset | None = None) -> Tensor:
    """Derivatives by the weights of dE/dr of each moved atom, by the cheapest exact way.

    Args:
        model: maps (features, types) to atomic energies; each energy must depend on its own
            atom's features alone.
        pairs: the moved atoms and their environments.
        subset: the weights to differentiate by, None for all.

    Returns:
        Shape (moved atoms, 3, parameters), float64, eV/Å per unit of weight.
    """
    if isinstance(model, BehlerParrinelloMLP):
        return layered_force_sums(model, pairs, subset)
    if not isinstance(model, LinearInParameters):
        return generic_force_sums(model, pairs, subset)
    with torch.no_grad():
        if isinstance(model, LinearModel):
            out = _linear(model, pairs)
        elif isinstance(model, SparseKernelModel):
            out = _kernel(model, pairs)
        else:
            out = _basis(model, pairs)
    if subset is None:
        return out
    return subset.columns(out.flatten(0, 1)).view(len(out), 3, len(subset))


def generic_force_sums(model: nn.Module, pairs: Pairs, subset: Subset | None = None) -> Tensor:
    """``vmap(grad(jvp))`` over moved atoms and directions, for any module.

    The environments of all moved atoms are made equally many by such that do not change, which
    add nothing to a derivative that is linear in the change.

    Args:
        model: maps (features, types) to atomic energies.
        pairs: the moved atoms and their environments.
        subset: the weights to differentiate by, whole parameters; None for all.

    Returns:
        Shape (moved atoms, 3, parameters), float64.
    """
    fixed, weights = split_parameters(model, subset)
    n, width = pairs.n_moved, pairs.features.shape[1]
    out = pairs.values.new_zeros(n, 3, sum(w.numel() for w in weights.values()))
    for z in pairs.types.unique().tolist():  # a species at a time: a module may branch on it
        mine = pairs.of_type(z)
        if not len(mine.centre):
            continue
        counts = mine.counts
        most = int(counts.max())
        position = torch.arange(len(mine.centre), device=counts.device)
        position -= (counts.cumsum(0) - counts)[mine.moved]
        x = pairs.features.new_zeros(n, most, width)
        x[:] = pairs.features[mine.centre[0]]
        x[mine.moved, position] = pairs.features[mine.centre]
        change = pairs.values.new_zeros(n, 3, most, width)
        change[mine.moved, :, position] = mine.values
        types = torch.full((most,), z, dtype=torch.int64, device=counts.device)

        def slope(w: dict[str, Tensor], at: Tensor, along: Tensor, types: Tensor = types) -> Tensor:
            def energy(features: Tensor) -> Tensor:
                local: Tensor = functional_call(model, {**fixed, **w}, (features, types))
                return local.sum()

            tangent: Tensor = jvp(energy, (at,), (along,))[1]
            return tangent

        directions = vmap(grad(slope), in_dims=(None, None, 0))
        blocks = vmap(directions, in_dims=(None, 0, 0))(weights, x, change)
        out += torch.cat([blocks[name].flatten(2) for name in weights], dim=2)
    return out


def _linear(model: LinearModel, pairs: Pairs) -> Tensor:
    """Summed derivatives of the features in the block of the environment's species."""
    atoms_of_each_type(pairs.types, model.types)  # refuses foreign species
    parts = [mine.sum(mine.values) for mine in map(pairs.of_type, model.types)]
    return torch.cat(parts, dim=2)


def _kernel(model: SparseKernelModel, pairs: Pairs) -> Tensor:
    """L^-1 of the summed derivatives of the kernels, zeta (x . x_j)^(zeta - 1) x_j . dx."""
    atoms_of_each_type(pairs.types, model.types)
    parts = []
    for z in model.types:
        mine = pairs.of_type(z)
        points = model.get_buffer(f"inducing_{z}").to(torch.float64)
        cholesky = model.get_buffer(f"cholesky_{z}").to(torch.float64)
        slope = model.zeta * (pairs.features @ points.mT) ** (model.zeta - 1)  # [env, inducing]
        change = mine.values @ points.mT  # [pair, 3, inducing]
        summed = mine.sum(change.mul_(slope[mine.centre].unsqueeze(1)))
        parts.append(solve_rows(cholesky.mT, summed, upper=True))
    return torch.cat(parts, dim=2)


def _basis(model: LinearInParameters, pairs: Pairs) -> Tensor:
    """Any other basis, differentiated in forward mode."""
    x, types = pairs.features[pairs.centre], pairs.types[pairs.centre]
    out = pairs.values.new_zeros(pairs.n_moved, 3, parameter_count(model))
    for direction in range(3):
        along = pairs.values[:, direction]
        change: Tensor = jvp(lambda f: model.basis(f, types), (x,), (along,))[1]
        out[:, direction] = pairs.sum(change.to(out))
    return out
