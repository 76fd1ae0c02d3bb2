"""Gradients of atomic energies with respect to all weights, atom by atom, in float64.

The generic way is ``vmap(grad)`` over atoms and works for any module that maps
(features, types) to atomic energies. Heads linear in their parameters hand over their basis,
and the Behler-Parrinello network has a closed form. Parameters are ordered as
``module.parameters()`` yields them, each flattened.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from torchlpr.curvature.layered import layered_gradients
from torchlpr.curvature.subsets import Subset
from torchlpr.errors import InputError
from torchlpr.models import BehlerParrinelloMLP, LinearInParameters
from torchlpr.structures.batch import AtomBatch

__all__ = [
    "atomic_gradients",
    "check_parameters",
    "chunk_size",
    "generic_gradients",
    "gradient_chunks",
    "parameter_count",
    "split_parameters",
]

# enough for GEMM at full speed, and less than the 32 MiB beyond which the allocator of the C
# library asks the kernel for fresh pages every time
CHUNK_BYTES = 30 * 2**20


def parameter_count(model: nn.Module) -> int:
    """Number P of weights."""
    return sum(p.numel() for p in model.parameters())


def chunk_size(n_parameters: int, budget: int = CHUNK_BYTES) -> int:
    """Atoms whose float64 gradients fit into a budget of bytes, at least one."""
    return max(1, budget // (8 * max(1, n_parameters)))


def atomic_gradients(
    model: nn.Module,
    features: Tensor,
    types: Tensor,
    subset: Subset | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Gradient of every atomic energy with respect to the weights, by the cheapest exact way.

    Args:
        model: maps (features, types) to atomic energies; each energy must depend on its own
            atom's features alone.
        features: shape (atoms, features).
        types: atomic numbers, shape (atoms,).
        subset: the weights to differentiate by, see
            :func:`torchlpr.curvature.parameter_subset`; None for all.
        out: memory that the closed form of a network may write into instead of asking for new
            one, shape (atoms, parameters), float64.

    Returns:
        g_k = d(energy of atom k)/d(weights), shape (atoms, parameters), float64, in eV per
        unit of weight.

    Raises:
        InputError: if the model has no parameters, or they are not finite.
    """
    check_parameters(model, features)
    x = features.to(torch.float64)
    if isinstance(model, LinearInParameters):
        with torch.no_grad():
            basis = model.basis(x, types).to(torch.float64)
            return basis if subset is None else subset.columns(basis)
    if isinstance(model, BehlerParrinelloMLP):
        return layered_gradients(model, x, types, subset, out)
    return generic_gradients(model, x, types, subset)


def check_parameters(model: nn.Module, features: Tensor) -> None:
    """Refuse a model without parameters, with bad ones, or for other features.

    Args:
        model: any module; where it has ``n_features``, features must be as many.
        features: shape (atoms, features).

    Raises:
        InputError: naming what does not fit.
    """
    if not parameter_count(model):
        raise InputError(f"{type(model).__name__} has no parameters, so nothing has a gradient")
    for name, p in model.named_parameters():
        if not bool(torch.isfinite(p).all()):
            raise InputError(f"parameter {name!r} of the model is not finite; train it again")
    expected = getattr(model, "n_features", features.shape[1])
    if expected != features.shape[1]:
        raise InputError(
            f"the model takes {expected} features an atom and the batch has {features.shape[1]}; "
            "use the descriptor that the model was trained with"
        )


def generic_gradients(
    model: nn.Module, features: Tensor, types: Tensor, subset: Subset | None = None
) -> Tensor:
    """``vmap(grad)`` over atoms, for any module.

    Args:
        model: maps (features, types) to atomic energies.
        features: shape (atoms, features), float64.
        types: atomic numbers, shape (atoms,).
        subset: the weights to differentiate by, whole parameters; None for all.

    Returns:
        Shape (atoms, parameters), float64.
    """
    fixed, weights = split_parameters(model, subset)
    count = sum(w.numel() for w in weights.values())
    out = features.new_zeros(len(features), count)
    for z in types.unique():  # a species at a time: vmap cannot branch on a batched type
        chosen = (types == z).nonzero().squeeze(1)
        one = z.reshape(1)

        def energy(w: dict[str, Tensor], atom: Tensor, one: Tensor = one) -> Tensor:
            local: Tensor = functional_call(model, {**fixed, **w}, (atom.unsqueeze(0), one))
            return local.squeeze(0)

        blocks = vmap(grad(energy), in_dims=(None, 0))(weights, features[chosen])
        out[chosen] = torch.cat([blocks[name].flatten(1) for name in weights], dim=1)
    return out


def split_parameters(
    model: nn.Module, subset: Subset | None = None
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Buffers and frozen weights, and the weights to differentiate by, in float64.

    Args:
        model: any module.
        subset: the weights to differentiate by, whole parameters; None for all.

    Returns:
        Two dictionaries for ``functional_call``, the second in the order of the gradients.
    """
    fixed = {name: _double(value) for name, value in model.named_buffers()}
    weights: dict[str, Tensor] = {}
    start = 0
    for name, value in model.named_parameters():
        stop = start + value.numel()
        chosen = subset is None or subset.position(start, stop) is not None
        (weights if chosen else fixed)[name] = _double(value)
        start = stop
    return fixed, weights


def _double(value: Tensor) -> Tensor:
    """The tensor without its graph, floating-point numbers in float64."""
    return value.detach().to(torch.float64) if value.is_floating_point() else value


def gradient_chunks(
    model: nn.Module, batch: AtomBatch, size: int | None = None, subset: Subset | None = None
) -> Iterator[tuple[slice, Tensor]]:
    """Atomic gradients in chunks of consecutive atoms, so that memory stays bounded.

    Args:
        model: maps (features, types) to atomic energies.
        batch: the atoms.
        size: atoms a chunk, by default what fits into 30 MiB.
        subset: the weights to differentiate by, None for all.

    Yields:
        The chunk's slice of atoms and their gradients, shape (chunk, parameters), float64, which
        the next chunk overwrites; one empty chunk where there are no atoms.
    """
    count = parameter_count(model) if subset is None else len(subset)
    step = size or chunk_size(count)
    memory = None
    if isinstance(model, BehlerParrinelloMLP):  # fresh pages cost more than the gradients
        memory = torch.empty(
            min(step, len(batch)), count, dtype=torch.float64, device=batch.features.device
        )
    for start in range(0, max(1, len(batch)), step):
        part = slice(start, min(start + step, len(batch)))
        out = None if memory is None else memory[: part.stop - part.start]
        x, types = batch.features[part], batch.types[part]
        yield part, atomic_gradients(model, x, types, subset, out)
