"""Scaling of feature columns, fitted once on training structures and kept with the descriptor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from torchlpr.errors import InputError

__all__ = ["FeatureScaling", "ScalingKind"]

ScalingKind = Literal["range", "standard"]
#: a column that varies by less carries nothing; stretching it would show rounding errors
_FLAT = 1e-8


@dataclass(frozen=True)
class FeatureScaling:
    r"""Columns shifted and stretched, :math:`x \mapsto (x - \mathrm{shift}) / \mathrm{width}`.

    Attributes:
        kind: "range" brings the fitted environments to [-1, 1], "standard" to zero mean and unit
            variance.
        shift: in units of the features, one for each column.
        width: in units of the features, positive; 1 where a column varies by less than 1e-8.
    """

    kind: ScalingKind
    shift: tuple[float, ...]
    width: tuple[float, ...]

    def __post_init__(self) -> None:
        _check_kind(self.kind)
        if len(self.shift) != len(self.width):
            raise InputError(
                f"a scaling has as many shifts as widths, not {len(self.shift)} and "
                f"{len(self.width)}"
            )
        if not all(width > 0 for width in self.width):
            raise InputError(f"the widths of a scaling are positive, not {min(self.width)}")

    @classmethod
    def fit(cls, features: Tensor, kind: ScalingKind) -> FeatureScaling:
        """Scaling of the columns of some environments.

        Args:
            features: shape (atoms, features), at least one atom.
            kind: "range" or "standard".

        Returns:
            The scaling.

        Raises:
            InputError: if the kind is unknown, or there are no atoms.
        """
        _check_kind(kind)
        if not len(features):
            raise InputError("a scaling needs at least one environment to be fitted to")
        x = features.detach().to("cpu", torch.float64)
        low, high = x.amin(dim=0), x.amax(dim=0)
        shift, width = (low + high) / 2, (high - low) / 2
        if kind == "standard":
            shift, width = x.mean(dim=0), x.std(dim=0, correction=0)
        width = torch.where(high - low < _FLAT, torch.ones_like(width), width)
        return cls(kind, tuple(shift.tolist()), tuple(width.tolist()))

    def __call__(self, features: Tensor) -> Tensor:
        """Scaled features, differentiable, shape (atoms, features)."""
        if features.shape[1] != len(self.shift):
            raise InputError(
                f"the scaling is for {len(self.shift)} features, not {features.shape[1]}"
            )
        return (features - features.new_tensor(self.shift)) / features.new_tensor(self.width)

    def as_dict(self) -> dict[str, Any]:
        """Plain settings, as documents hold them."""
        return {"kind": self.kind, "shift": list(self.shift), "width": list(self.width)}

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> FeatureScaling:
        """Rebuild from :meth:`as_dict`."""
        kind, shift, width = settings["kind"], settings["shift"], settings["width"]
        return cls(kind, tuple(map(float, shift)), tuple(map(float, width)))


def _check_kind(kind: str) -> None:
    if kind not in get_args(ScalingKind):
        raise InputError(f"scaling {kind!r} is unknown; use one of {get_args(ScalingKind)}")
