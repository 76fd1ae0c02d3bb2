"""Which weights of a potential count, and their derivatives by backward passes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from torchlpr.curvature import Subset, parameter_subset
from torchlpr.errors import InputError

__all__ = ["Weights"]


class Weights:
    """The chosen trainable weights of a module, as one vector in the order of its parameters.

    Args:
        module: the potential; parameters that do not require gradients never count.
        which: see :func:`torchlpr.curvature.parameter_subset`.

    Attributes:
        subset: the chosen weights among all.
        frozen: number of weights that were asked for and are frozen.

    Raises:
        InputError: if nothing is chosen, or all that is chosen is frozen.
    """

    def __init__(self, module: nn.Module, which: str | Sequence[str] = "all") -> None:
        asked = parameter_subset(module, which)
        spans, frozen, start = [], [], 0
        # number of each parameter with chosen weights, which of them (None: all), where they go
        self._pieces: list[tuple[int, Tensor | None, slice]] = []
        before = 0
        for number, (name, parameter) in enumerate(module.named_parameters()):
            stop = start + parameter.numel()
            inside = _overlap(asked.spans, start, stop)
            if inside and not parameter.requires_grad:
                frozen.append(name)
            elif inside:
                spans += inside
                count, chosen = sum(b - a for a, b in inside), None
                if count < parameter.numel():
                    chosen = torch.cat([torch.arange(a - start, b - start) for a, b in inside])
                    chosen = chosen.to(parameter.device)
                self._pieces.append((number, chosen, slice(before, before + count)))
                before += count
            start = stop
        if not spans:
            raise InputError(
                f"all parameters asked for are frozen ({', '.join(frozen[:3])}"
                f"{', ...' if len(frozen) > 3 else ''}); call requires_grad_(True) on those that "
                "are trained"
            )
        self.subset = Subset(spans, asked.total)
        self.frozen = len(asked) - len(self.subset)

    def __len__(self) -> int:
        """Number of chosen weights."""
        return len(self.subset)

    def freeze_others(self, module: nn.Module) -> None:
        """Spare the backward passes of parameters without a chosen weight.

        Args:
            module: a copy of the module, changed in place.
        """
        chosen = {number for number, _, _ in self._pieces}
        for number, parameter in enumerate(module.parameters()):
            parameter.requires_grad_(number in chosen)

    def gradients(
        self, module: nn.Module, energies: Tensor, out: Tensor, batched: bool = False
    ) -> None:
        """Derivatives of energies by the chosen weights, one vjp an energy.

        Args:
            module: the module, whose graph the energies hold; the graph is kept.
            energies: shape (k,).
            out: receives them, shape (k, P), float64.
            batched: all k backward passes at once by ``is_grads_batched``.
        """
        every = list(module.parameters())
        parameters = [every[number] for number, _, _ in self._pieces]
        if batched and len(energies) > 1:
            seeds = torch.eye(len(energies), dtype=energies.dtype, device=energies.device)
            found = torch.autograd.grad(
                energies, parameters, seeds, retain_graph=True, allow_unused=True,
                is_grads_batched=True,
            )  # fmt: skip
            self._fill(out, found)
            return
        for k, energy in enumerate(energies):
            found = torch.autograd.grad(energy, parameters, retain_graph=True, allow_unused=True)
            self._fill(out[k : k + 1], [None if g is None else g[None] for g in found])

    def _fill(self, out: Tensor, found: Sequence[Tensor | None]) -> None:
        """Write derivatives with a leading dimension into their parts of the rows."""
        for gradient, (_, chosen, place) in zip(found, self._pieces, strict=True):
            if gradient is None:  # these energies do not depend on it
                out[:, place] = 0.0
            else:
                flat = gradient.flatten(1)
                out[:, place] = flat if chosen is None else flat[:, chosen]


def _overlap(spans: Sequence[tuple[int, int]], start: int, stop: int) -> list[tuple[int, int]]:
    """Parts of ascending spans that lie between two positions."""
    return [(max(a, start), min(b, stop)) for a, b in spans if a < stop and b > start]
