"""Committees: many members trained at once, and how far their variance can be trusted."""

from torchlpr.committee.committee import Committee, CommitteePrediction
from torchlpr.committee.statistics import MemberStatistics

__all__ = ["Committee", "CommitteePrediction", "MemberStatistics"]
