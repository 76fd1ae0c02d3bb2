"""Dataset design: which structures to label next, from geometries alone."""

from torchlpr.design.criteria import Criterion
from torchlpr.design.greedy import Design, greedy_design
from torchlpr.design.outlook import Outlook
from torchlpr.design.structures import candidate_rows, target_gradients

__all__ = ["Criterion", "Design", "Outlook", "candidate_rows", "greedy_design", "target_gradients"]
