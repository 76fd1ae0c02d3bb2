"""Design as the definition says it: append rows, form H, solve, for every candidate anew."""

import numpy as np

from tests.oracles.dense import hessian

__all__ = ["greedy", "inverse_rigidities", "score"]


def inverse_rigidities(h: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return np.array([g @ np.linalg.solve(h, g) for g in targets])


def score(rows, added, targets, mu: float, criterion: str) -> float:
    """Gain by the criterion of appending rows to a training set."""
    before = hessian(rows, mu)
    after = hessian(np.concatenate([rows, added]), mu)
    old, new = inverse_rigidities(before, targets), inverse_rigidities(after, targets)
    if criterion == "mean-log":
        return float(np.mean(np.log(old / new)))
    if criterion == "min":
        return float(np.min(1 / new) - np.min(1 / old))
    if criterion == "A":
        return float(np.mean(old - new))
    return float(np.linalg.slogdet(after)[1] - np.linalg.slogdet(before)[1])


def greedy(rows, candidates, targets, mu: float, n: int, criterion: str) -> tuple[list, list]:
    """Picks and gains; candidates of shape (C, k, P)."""
    picks, gains, rows = [], [], np.asarray(rows)
    for _ in range(n):
        open_ones = [c for c in range(len(candidates)) if c not in picks]
        scores = [score(rows, candidates[c], targets, mu, criterion) for c in open_ones]
        picks.append(open_ones[int(np.argmax(scores))])
        gains.append(max(scores))
        rows = np.concatenate([rows, candidates[picks[-1]]])
    return picks, gains
