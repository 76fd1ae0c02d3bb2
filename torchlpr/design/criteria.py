"""What a candidate is worth, from its effect on the targets."""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor

from torchlpr.design.outlook import Outlook
from torchlpr.errors import InputError

__all__ = ["Criterion", "check_criterion", "gains", "value"]

Criterion = Literal["mean-log", "min", "A", "D"]


def check_criterion(name: str) -> None:
    """Refuse a criterion that there is not.

    Args:
        name: what the user gave.

    Raises:
        InputError: if it is unknown.
    """
    if name not in get_args(Criterion):
        known = ", ".join(get_args(Criterion))
        raise InputError(f"criterion {name!r} is unknown; use one of {known}")


def gains(criterion: Criterion, outlook: Outlook) -> Tensor:
    """Increase of the criterion by each candidate alone.

    Args:
        criterion: see :func:`value`; "D" is the increase of ln det H, whatever the targets.
        outlook: candidates and targets.

    Returns:
        Shape (candidates,), none negative but by rounding.
    """
    if criterion == "D":
        return outlook.log_determinants()
    return value(criterion, outlook.inverse_after()) - value(criterion, outlook.inverse)


def value(criterion: Criterion, inverse: Tensor) -> Tensor:
    """The criterion of some targets: the larger, the better.

    Args:
        criterion: "mean-log" is the mean of ln LPR, "min" the smallest LPR in 1/eV^2, "A" the
            mean of 1/LPR in eV^2, negative.
        inverse: 1/LPR of the targets, shape (..., K).

    Returns:
        Shape (...).
    """
    if criterion == "mean-log":
        return -inverse.log().mean(-1)
    if criterion == "min":
        return 1 / inverse.amax(-1)
    return -inverse.mean(-1)
