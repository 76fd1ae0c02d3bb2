"""Memory of the rigidity of a potential, predicted before any row is allocated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import ase
import torch
from torch import Tensor, nn

from torchlpr.curvature.gradients import CHUNK_BYTES
from torchlpr.curvature.memory import ShapeName, fitting_shape, predict_memory
from torchlpr.errors import InputError
from torchlpr.free_memory import format_bytes
from torchlpr.potentials.protocol import Potential, energies_of
from torchlpr.potentials.weights import Weights

__all__ = ["PotentialMemory", "gradients_at_once", "graph_bytes", "predict_potential_memory"]

# gradients at a time where 30 MiB hold fewer: each chunk reads all rows from memory once or twice
AT_ONCE = 16
# a backward pass holds about as much as the forward pass saved for it
PASSES = 2


class PotentialMemory(NamedTuple):
    """Bytes above the potential, the structures and the interpreter.

    Attributes:
        rows: the rows, kept as long as the rigidity lives.
        algebra: at most needed beside them to factorise, or for a chunk of gradients.
        graph: at most needed beside both for the passes of the largest structure.
        shape: "row" or "parameter".
        chunk: gradients at a time.
    """

    rows: int
    algebra: int
    graph: int
    shape: ShapeName
    chunk: int

    @property
    def peak(self) -> int:
        """The most at any time."""
        return self.rows + self.algebra + self.graph

    def __str__(self) -> str:
        """In words."""
        parts = f"{format_bytes(self.rows)} rows, {format_bytes(self.algebra)} algebra"
        return f"{format_bytes(self.peak)} ({parts}, {format_bytes(self.graph)} graph)"


def predict_potential_memory(
    potential: Potential,
    weights: Weights,
    n_rows: int,
    structures: Sequence[ase.Atoms],
    limit: int,
    n_atoms: int = 0,
) -> PotentialMemory:
    """Predict the memory of rows, factor, and the evaluation of atoms.

    Args:
        potential: in the dtype that it will run in; one forward pass of the structure with most
            atoms measures what autograd keeps.
        weights: the weights that count.
        n_rows: number M of training structures.
        structures: all that it will run on.
        limit: bytes that may be used.
        n_atoms: atoms that will be evaluated.

    Returns:
        The prediction, with the largest chunk that fits.

    Raises:
        InputError: with sizes and remedies, if not even one gradient at a time fits.
    """
    index = max(range(len(structures)), key=lambda i: len(structures[i]))
    largest = structures[index]
    graph = PASSES * graph_bytes(potential, largest, index)
    if graph >= limit:
        raise InputError(
            f"one structure of {len(largest)} atoms needs {format_bytes(graph)} in "
            f"{type(potential).__name__}, more than the memory limit of {format_bytes(limit)}: "
            "take smaller structures, or raise memory_limit"
        )
    p = len(weights)
    order: tuple[ShapeName, ShapeName] = (
        ("row", "parameter") if n_rows <= p else ("parameter", "row")
    )
    # in parameter space the rows stand beside the triangle until it is made
    shape, _ = fitting_shape(order, n_rows, p, limit - graph)
    batched = getattr(potential, "batched_gradients", False)
    most = gradients_at_once(p)
    for chunk in sorted({most, *(2**k for k in range(most.bit_length()))}, reverse=True):
        memory = predict_memory(shape, n_rows, p, n_atoms, chunk, copies=2 if batched else 1)
        build = predict_memory(shape, n_rows, p, chunk=1, copies=1).build
        beside = 8 * n_rows * p if shape == "parameter" else 0
        algebra = max(build + beside, memory.evaluate) + 8 * p  # autograd's own gradient
        passes = graph * (min(chunk, len(largest)) if batched else 1)
        found = PotentialMemory(memory.held, algebra, passes, shape, chunk)
        if found.peak <= limit or chunk == 1:
            break
    if found.peak > limit:
        raise InputError(
            f"{n_rows} rows of {p} parameters need {found}, more than the memory limit of "
            f"{format_bytes(limit)}: take fewer structures, parameters='last-layer' or another "
            "part of the weights, or raise memory_limit"
        )
    return found


def gradients_at_once(n_parameters: int) -> int:
    """Gradients worth holding at a time: 30 MiB of them, or as many as make the algebra fast."""
    return max(AT_ONCE, CHUNK_BYTES // (8 * max(1, n_parameters)))


def graph_bytes(potential: Potential, atoms: ase.Atoms, index: int) -> int:
    """What autograd keeps of one forward pass, beside the parameters.

    Args:
        potential: the potential.
        atoms: the structure.
        index: its number, for errors.

    Returns:
        Bytes.
    """
    assert isinstance(potential, nn.Module)
    own = {tensor.untyped_storage().data_ptr() for tensor in _tensors(potential)}
    sizes: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # itself would hold its own graph for ever

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        energies_of(potential, atoms, index)
    return sum(sizes.values())


def _tensors(module: nn.Module) -> Sequence[Tensor]:
    return [*module.parameters(), *module.buffers()]
