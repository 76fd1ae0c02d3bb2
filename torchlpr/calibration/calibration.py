"""Calibrated uncertainties: one alpha, or one for each group of structures or atoms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import ase
import torch
from torch import Tensor

from torchlpr.calibration.alpha import Alpha, Method, fit_alpha
from torchlpr.errors import InputError

__all__ = ["Calibration", "atom_groups", "calibrate", "structure_groups"]

VERSION = 1
MINIMUM = 5  # errors; alpha from fewer is uncertain by more than a third


@dataclass(frozen=True)
class Calibration:
    """Scale of the uncertainties of a run.

    Attributes:
        alpha: of all errors.
        method: how it was found.
        on: "structures", errors of energies per atom; or "invariant", of structures whose
            atoms all have one environment, which is a local calibration.
        group_key: name of the info entry or array that tells groups apart.
        groups: alpha by group; others take ``alpha``.
    """

    alpha: Alpha
    method: Method
    on: str = "structures"
    group_key: str | None = None
    groups: dict[str, Alpha] = field(default_factory=dict)

    def alphas(self, labels: Sequence[str | None]) -> Tensor:
        """Alpha for each label, shape (labels,); that of all where a group has none."""
        values = [self.groups.get(name, self.alpha) if name else self.alpha for name in labels]
        return torch.tensor([alpha.value for alpha in values], dtype=torch.float64)

    def as_dict(self) -> dict[str, Any]:
        """Plain data, with the version of its form."""
        groups = {name: list(alpha) for name, alpha in self.groups.items()}
        plain = {"alpha": list(self.alpha), "groups": groups}
        return {"version": VERSION, **asdict(self), **plain}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Calibration:
        """Rebuild from :meth:`as_dict`.

        Args:
            content: as stored.

        Returns:
            The calibration.

        Raises:
            InputError: if a newer torchlpr wrote it.
        """
        values = dict(content)
        version = values.pop("version")
        if version > VERSION:
            raise InputError(
                f"the calibration has version {version}, newer than the {VERSION} this torchlpr "
                "reads; update torchlpr or calibrate again"
            )
        groups = {name: Alpha(*alpha) for name, alpha in values.pop("groups").items()}
        return cls(alpha=Alpha(*values.pop("alpha")), groups=groups, **values)


def calibrate(
    errors: Tensor,
    rigidity: Tensor,
    method: Method = "likelihood",
    *,
    labels: Sequence[str | None] | None = None,
    group_key: str | None = None,
    on: str = "structures",
) -> Calibration:
    r"""Fit alpha in :math:`\sigma_A = \alpha / \sqrt{\mathrm{PR}_A}`.

    Uncertainties of atoms take the alpha of totals; that this is right is an assumption that
    only structures of a single environment can test.

    Args:
        errors: of energies per atom of structures that were not trained on, shape (N,), eV.
        rigidity: of the same energies, shape (N,), 1/eV^2.
        method: see :func:`torchlpr.calibration.fit_alpha`.
        labels: group of each structure, None for those that belong to none; groups of fewer
            than five structures take the alpha of all.
        group_key: where the labels come from, kept for predictions.
        on: what the errors are of, for the record.

    Returns:
        The calibration.

    Raises:
        InputError: if there are fewer than five errors, or they cannot be used.
    """
    if len(errors) < MINIMUM:
        raise InputError(
            f"{len(errors)} structures are too few to calibrate on; give at least {MINIMUM}, "
            "better 100"
        )
    groups = {}
    for name in sorted({label for label in labels or () if label}):
        chosen = torch.tensor([label == name for label in labels or ()])
        if int(chosen.sum()) >= MINIMUM:
            groups[name] = fit_alpha(errors[chosen], rigidity[chosen], method)
    return Calibration(fit_alpha(errors, rigidity, method), method, on, group_key, groups)


def atom_groups(structures: Sequence[ase.Atoms], key: str | None) -> list[str | None]:
    """Group of every atom: the array's entry, else its structure's info entry, else None."""
    labels: list[str | None] = []
    for atoms in structures:
        if key is not None and key in atoms.arrays and atoms.arrays[key].ndim == 1:
            labels += [str(entry) for entry in atoms.arrays[key].tolist()]
        else:
            label = None if key is None or key not in atoms.info else str(atoms.info[key])
            labels += [label] * len(atoms)
    return labels


def structure_groups(structures: Sequence[ase.Atoms], key: str | None) -> list[str | None]:
    """Group of every structure: the one that all of its atoms share, else None."""
    shared = [set(atom_groups([atoms], key)) for atoms in structures]
    return [names.pop() if len(names) == 1 else None for names in shared]
