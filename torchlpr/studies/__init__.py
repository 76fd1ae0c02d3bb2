"""Studies of the papers, each a function that writes figures, tables and its verdict."""

from torchlpr.studies.registry import STUDIES, run_study
from torchlpr.studies.report import Claim, StudyReport

__all__ = ["STUDIES", "Claim", "StudyReport", "run_study"]
