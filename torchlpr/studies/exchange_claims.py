"""What the studies that replace structures have to show, checked for each head."""

from __future__ import annotations

from torchlpr.studies.exchange_results import HeadResult
from torchlpr.studies.report import Claim

__all__ = ["changes_little", "error_claim", "median_claim", "variance_claims"]


def median_claim(result: HeadResult, variant: str, group: str, classes: set[str]) -> Claim:
    """The median LPR of some classes rises at least threefold.

    Args:
        result: of one head.
        variant: training set after.
        group: what these atoms are called.
        classes: theirs.

    Returns:
        The claim.
    """
    ratio = result.ratio(variant, classes)
    text = f"{result.head}, {variant}: median LPR of {group} rises over 3 times"
    return Claim(text, ratio, ratio > 3)


def changes_little(result: HeadResult, variant: str, group: str, classes: set[str]) -> Claim:
    """The median LPR of some classes changes by less than a factor of two.

    Args:
        result: of one head.
        variant: training set after.
        group: what these atoms are called.
        classes: theirs.

    Returns:
        The claim.
    """
    ratio = result.ratio(variant, classes)
    text = f"{result.head}, {variant}: that of {group} changes by less than a factor of 2"
    return Claim(text, ratio, 0.5 < ratio < 2)


def error_claim(result: HeadResult, variant: str, test: str, limit: float = 0.003) -> Claim:
    """The error on a held-out set like the base changes little.

    Args:
        result: of one head.
        variant: training set after.
        test: name of the set.
        limit: of the change, eV.

    Returns:
        The claim.
    """
    change = result.change(variant, test)
    text = f"{result.head}, {variant}: RMSE of {test} changes by under {1000 * limit:g} meV/atom"
    return Claim(text, 1000 * change, abs(change) < limit)


def variance_claims(result: HeadResult, variant: str) -> list[Claim]:
    """Committee variances follow the inverse rigidity.

    Args:
        result: of one head.
        variant: training set after.

    Returns:
        Slope and rank correlation for committees by sample-then-optimise.
    """
    slope, rank = result.agreement(variant, "drawn")
    name = f"{result.head}, {variant}: variance ratio against LPR ratio"
    return [
        Claim(f"{name}, slope in -1.3..-0.7", slope, -1.3 < slope < -0.7),
        Claim(f"{name}, Spearman under -0.7", rank, rank < -0.7),
    ]
