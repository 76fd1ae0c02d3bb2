"""Parameter subsets: the weights that rows and gradients are taken with respect to.

Rigidity restricted to some weights is that of a model whose other weights are frozen: never lower
than the full one, and cheaper. The regulariser is restricted with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from torchlpr.errors import InputError
from torchlpr.models import BehlerParrinelloMLP, LinearModel, SparseKernelModel
from torchlpr.structures.species import normalise_types

__all__ = ["Subset", "parameter_subset"]

SPECIES = "species:"


class Subset:
    """Some weights of a model, in the order of its parameter vector.

    Args:
        spans: first and end positions of the chosen weights in the vector of all
            weights, ascending, without overlap.
        total: number of all weights.

    Attributes:
        indices: positions of the chosen weights, shape (chosen,), int64, ascending.
    """

    def __init__(self, spans: Sequence[tuple[int, int]], total: int) -> None:
        self.spans, self.total = tuple(spans), total
        self.indices = torch.cat([torch.arange(*span) for span in self.spans])

    def __len__(self) -> int:
        """Number of chosen weights."""
        return len(self.indices)

    def position(self, start: int, stop: int) -> slice | None:
        """Where a block of weights lies among the chosen ones.

        Args:
            start: first position of the block in the vector of all weights.
            stop: its end.

        Returns:
            The slice of the chosen weights, None where the block is not chosen.
        """
        before = 0
        for first, last in self.spans:
            if first <= start and stop <= last:
                return slice(before + start - first, before + stop - first)
            before += last - first
        return None

    def columns(self, matrix: Tensor) -> Tensor:
        """The chosen columns of a matrix with one column for every weight."""
        if len(self.spans) == 1:  # a view
            return matrix[:, slice(*self.spans[0])]
        return matrix[:, self.indices.to(matrix.device)]


def parameter_subset(model: nn.Module, which: str | Sequence[str] = "all") -> Subset:
    """Choose weights by their part in the model.

    Args:
        model: any module; its weights are ordered as ``named_parameters`` yields them.
        which: "all"; "last-layer": the weights of the last linear layer of every species'
            network, of all weights in a head that is linear, and in any other module the
            parameters of the submodule that comes last; "species:Si" or "species:14,32": the
            weights of those species in torchlpr's heads; anything else is a pattern for the
            names of parameters, such as "networks.0.*". A list takes the union.

    Returns:
        The subset.

    Raises:
        InputError: if nothing is chosen, or a species has no weights of its own.
    """
    choices = [which] if isinstance(which, str) else list(which)
    blocks = _named_spans(model)
    total = max((stop for _, stop in blocks.values()), default=0)
    chosen: set[tuple[int, int]] = set()
    for choice in choices:
        if choice == "all":
            chosen |= set(blocks.values())
        elif choice == "last-layer":
            chosen |= {blocks[name] for name in _last_layer(model)}
        elif choice.startswith(SPECIES):
            chosen |= set(_species_spans(model, choice.removeprefix(SPECIES), blocks))
        else:
            matching = {span for name, span in blocks.items() if fnmatchcase(name, choice)}
            if not matching:
                raise InputError(
                    f"no parameter is called {choice!r}; use 'all', 'last-layer', 'species:Si' "
                    f"or a pattern for these names: {', '.join(blocks)}"
                )
            chosen |= matching
    if not chosen:
        raise InputError("no parameters are chosen; use parameters='all'")
    return Subset(_merged(chosen), total)


def _named_spans(model: nn.Module) -> dict[str, tuple[int, int]]:
    """Where each parameter lies in the vector of all."""
    spans, start = {}, 0
    for name, parameter in model.named_parameters():
        spans[name] = (start, start + parameter.numel())
        start += parameter.numel()
    return spans


def _merged(spans: set[tuple[int, int]]) -> list[tuple[int, int]]:
    """Union of spans as few ascending ones."""
    merged: list[tuple[int, int]] = []
    for start, stop in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return merged


def _last_layer(model: nn.Module) -> list[str]:
    names = [name for name, _ in model.named_parameters()]
    if isinstance(model, BehlerParrinelloMLP):
        last: dict[str, int] = {}
        for name in names:
            _, network, layer, _ = name.split(".")
            last[network] = max(last.get(network, 0), int(layer))
        return [name for name in names if int(name.split(".")[2]) == last[name.split(".")[1]]]
    if patterns := getattr(model, "last_layer", ()):
        return [name for name in names if any(fnmatchcase(name, p) for p in patterns)]
    owner = names[-1].rpartition(".")[0] if names else ""
    return [name for name in names if name.rpartition(".")[0] == owner]


def _species_spans(
    model: nn.Module, species: str, blocks: dict[str, tuple[int, int]]
) -> list[tuple[int, int]]:
    """Weights of some species in a head that has separate ones."""
    chosen = normalise_types(int(s) if s.isdigit() else s for s in species.split(","))
    if (own_spans := getattr(model, "species_spans", None)) is not None:
        return [span for z in chosen for span in own_spans(z, blocks)]
    if not isinstance(model, (BehlerParrinelloMLP, LinearModel, SparseKernelModel)):
        raise InputError(
            f"a {type(model).__name__} has no weights for each species; choose its parameters by "
            f"a pattern for these names: {', '.join(blocks)}"
        )
    own = list(model.types)
    spans = []
    for z in chosen:
        if z not in own:
            raise InputError(f"the model has no weights for species {z}, only for {own}")
        spans += _one_species(model, own.index(z), blocks)
    return spans


def _one_species(
    model: BehlerParrinelloMLP | LinearModel | SparseKernelModel,
    index: int,
    blocks: dict[str, tuple[int, int]],
) -> list[tuple[int, int]]:
    if isinstance(model, BehlerParrinelloMLP):
        return [s for name, s in blocks.items() if name.startswith(f"networks.{index}.")]
    if isinstance(model, LinearModel):
        return [(index * model.n_features, (index + 1) * model.n_features)]
    sizes = [len(model.get_buffer(f"inducing_{z}")) for z in model.types]
    before = sum(sizes[:index])
    return [(before, before + sizes[index])]
