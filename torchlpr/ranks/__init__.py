"""Processes that share one piece of work, on one machine or many; one process alone is the rule.

Everything here also works alone, so that the code that uses it has one path.
"""

from torchlpr.ranks.group import ALONE, Ranks
from torchlpr.ranks.processes import current_ranks, launched, processes
from torchlpr.ranks.shares import even_shares, shares

__all__ = [
    "ALONE",
    "Ranks",
    "current_ranks",
    "even_shares",
    "launched",
    "processes",
    "shares",
]
