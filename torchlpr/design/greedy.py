"""Greedy choice of the structures to label next."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from torchlpr.bars import bar
from torchlpr.curvature import Factor
from torchlpr.design.criteria import Criterion, check_criterion, gains, value
from torchlpr.design.outlook import Outlook
from torchlpr.errors import InputError

__all__ = ["Design", "greedy_design"]


@dataclass(frozen=True)
class Design:
    """Candidates in the order in which they were chosen, and what they do to the targets.

    Attributes:
        criterion: what was maximised.
        picks: indices of the candidates.
        gains: predicted gain of each pick by the criterion, on top of those before it.
        lpr: LPR of the targets after no pick, one pick, ..., shape (picks + 1, K), 1/eV^2.
        first_gains: gain of every candidate if it were the first, shape (candidates,).
    """

    criterion: Criterion
    picks: list[int]
    gains: list[float]
    lpr: Tensor
    first_gains: Tensor


def greedy_design(
    factor: Factor,
    rows: Tensor,
    targets: Tensor,
    n: int,
    criterion: Criterion = "mean-log",
    progress: bool | None = False,
) -> Design:
    r"""Choose candidates one by one, each the best on top of those chosen before.

    No labels are needed. With b the rows of a candidate and u = b H^-1 g,

    .. math:: \frac{1}{\mathrm{LPR}'} =
              \frac{1}{\mathrm{LPR}} - u^\top (I + b H^{-1} b^\top)^{-1} u

    which is exact where gradients do not depend on the weights: for linear and kernel heads
    with fixed mu and fixed reference environments. For a network it holds at fixed weights, and
    re-training moves the gradients. No gain is negative: data never lower a rigidity. "D" is
    submodular, so that greedy picks reach 1 - 1/e of the best possible; the others promise no
    such bound.

    Source: rigidity as a guide to new data: Chong et al., Faraday Discussions (2024),
    doi:10.1039/D4FD00101J; the criteria: Pukelsheim, Optimal Design of Experiments (1993).

    Args:
        factor: H of the present training set.
        rows: what each candidate adds to R, shape (candidates, P) or (candidates, k, P) with
            rows of zeros where a candidate has fewer than k.
        targets: gradients g of the predictions that matter, shape (K, P).
        n: number of picks; no candidate is picked twice.
        criterion: "mean-log" raises the mean ln LPR of the targets, "min" the smallest LPR,
            "A" lowers the mean 1/LPR, "D" raises ln det H whatever the targets.
        progress: show a progress bar; None shows one on terminals, after two seconds.

    Returns:
        The picks and their predicted gains; ties go to the lowest index.

    Raises:
        InputError: if n is not in 1..candidates or the criterion is unknown.
    """
    check_criterion(criterion)
    if not 1 <= n <= len(rows):
        raise InputError(f"cannot choose {n} of {len(rows)} candidates; give 1 to {len(rows)}")
    outlook = Outlook(factor, rows, targets)
    left = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
    first = scores = gains(criterion, outlook)
    picks, reached, inverse = list[int](), list[float](), [outlook.inverse]
    with bar(n, "design", "pick", progress) as steps:
        while len(picks) < n:
            if picks:
                scores = gains(criterion, outlook)
            candidates = scores.masked_fill(~left, -torch.inf)
            pick = int((candidates == candidates.max()).nonzero()[0])
            outlook.take(pick)
            left[pick] = False
            picks.append(pick)
            inverse.append(outlook.inverse)
            if criterion == "D":
                reached.append(float(scores[pick]))
            else:  # from the accurate LPR rather than from the scores
                before, after = value(criterion, torch.stack(inverse[-2:])).tolist()
                reached.append(after - before)
            steps.update()
    return Design(criterion, picks, reached, 1 / torch.stack(inverse), first)
