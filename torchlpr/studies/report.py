"""What a study found: its claims with their numbers, and tables beside the figures."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from torchlpr.files import write_table
from torchlpr.pipeline.fit import write_json

__all__ = ["Claim", "StudyReport", "write_table"]


@dataclass(frozen=True)
class Claim:
    """One thing that a study has to show.

    Attributes:
        text: what is claimed, with the limit.
        value: the number found.
        holds: whether it is within the limit.
    """

    text: str
    value: float
    holds: bool


@dataclass(frozen=True)
class StudyReport:
    """The outcome of a study.

    Attributes:
        name: of the study.
        data: which data it ran on.
        claims: what it had to show.
        folder: where its figures and tables are.
    """

    name: str
    data: str
    claims: tuple[Claim, ...]
    folder: Path

    @property
    def holds(self) -> bool:
        """Whether every claim does."""
        return all(claim.holds for claim in self.claims)

    def save(self) -> None:
        """Write the claims to summary.json in the study's folder."""
        write_json(self.folder / "summary.json", self.as_dict())

    def as_dict(self) -> dict[str, object]:
        """The claims as plain data."""
        claims = [asdict(claim) for claim in self.claims]
        return {"study": self.name, "data": self.data, "holds": self.holds, "claims": claims}

    def __str__(self) -> str:
        """One line a claim."""
        lines = [f"{self.name}, on {self.data}"]
        for claim in self.claims:
            verdict = "holds" if claim.holds else "FAILS"
            lines.append(f"  {verdict}  {claim.text}: {claim.value:.4g}")
        return "\n".join([*lines, f"figures, tables and summary.json are in {self.folder}"])
