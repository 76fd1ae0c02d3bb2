"""Rules that choose among values of mu."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

from torch import Tensor

from torchlpr.errors import InputError
from torchlpr.structures.batch import AtomBatch
from torchlpr.training.evidence import MuCriteria

__all__ = ["VALIDATED", "Rule", "best_place", "check_rule"]

Rule = Literal["minimum", "one-standard-error", "leave-one-out", "evidence"]
VALIDATED: tuple[Rule, ...] = ("minimum", "one-standard-error")  # need a validation set


def check_rule(rule: Rule, train: AtomBatch, validation: AtomBatch | None) -> None:
    """Refuse a rule that there is not, or whose structures are missing.

    Args:
        rule: what the user gave.
        train: training structures.
        validation: validation structures, None where there are none.

    Raises:
        InputError: naming what is missing.
    """
    if rule not in get_args(Rule):
        raise InputError(f"rule {rule!r} is unknown; use one of {', '.join(get_args(Rule))}")
    if rule in VALIDATED and validation is None:
        raise InputError(
            f"rule {rule!r} compares validation errors, but validation is None; give validation "
            "structures, or take rule='leave-one-out' or rule='evidence'"
        )
    if validation is not None and not len(validation.labels()):
        raise InputError("the validation set is empty; give validation structures or a fixed mu")
    if rule == "leave-one-out" and train.n_structures < 2:
        raise InputError(
            f"rule 'leave-one-out' needs two training structures at least, not "
            f"{train.n_structures}; give more, or a fixed mu"
        )


def best_place(errors: Sequence[Tensor], criteria: MuCriteria, rule: Rule) -> int:
    """Position of the chosen mu; of equal ones the first.

    Args:
        errors: of the validation structures, shape (structures,), at each mu of a descending
            grid; none where there is no validation set.
        criteria: of the training set at each mu.
        rule: how to choose.

    Returns:
        The position.

    Raises:
        InputError: if the evidence has no maximum.
    """
    if rule == "evidence":
        values = criteria.log_evidence.tolist()
        if not all(map(math.isfinite, values)):
            raise InputError(
                "all training labels are reproduced exactly or zero, so that the evidence has no "
                "maximum; choose mu by another rule, or give a fixed one"
            )
        return max(range(len(values)), key=lambda k: (values[k], -k))
    squares = [e.square() for e in errors]
    if rule == "leave-one-out":
        squares = list(criteria.left_out.squares)
    means = [float(s.mean()) for s in squares]
    lowest = min(range(len(means)), key=lambda k: (means[k], k))
    if rule != "one-standard-error":
        return lowest
    limit = means[lowest] + float(squares[lowest].std(correction=0)) / len(squares[lowest]) ** 0.5
    return next(k for k, mean in enumerate(means) if mean <= limit)
