"""Seeded, disjoint splits of structures; structures of one group stay together."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from ase import Atoms

from torchlpr.errors import InputError

__all__ = ["split"]

ATTEMPTS = 50  # orders of the groups that are tried before exact sizes are given up


def split(
    structures: int | Sequence[object],
    sizes: Sequence[int] | Sequence[float],
    seed: int,
    groups: str | Sequence[Hashable] | None = None,
) -> list[list[int]]:
    """Draw disjoint parts of a set of structures.

    Args:
        structures: the structures, or how many there are.
        sizes: one entry a part: integers are numbers of structures and are met exactly, floats
            are fractions of the set and are met to within half a group. What they leave over
            belongs to no part.
        seed: the same seed gives the same parts.
        groups: label of each structure (the trajectory it comes from), or the name of the
            ``atoms.info`` entry that holds it; structures of one label are never torn apart.

    Returns:
        Structure indices of each part, ascending.

    Raises:
        InputError: if the sizes do not fit, a part would be empty, a label is missing, or whole
            groups cannot add up to the integers asked for.
    """
    n = structures if isinstance(structures, int) else len(structures)
    exact = _check_sizes(sizes, n, seed)
    members = _members(structures, n, groups)
    rng = np.random.default_rng(seed)
    if not exact:
        parts = _by_fraction(members, rng.permutation(len(members)), np.asarray(sizes, float))
    else:
        parts = _by_size(members, rng, [int(size) for size in sizes])
    for part, size in zip(parts, sizes, strict=True):
        if not part:
            raise InputError(
                f"a part of size {size} of {n} structures in {len(members)} groups is empty; "
                "ask for a larger part or give more structures"
            )
    return [sorted(part) for part in parts]


def _check_sizes(sizes: Sequence[int] | Sequence[float], n: int, seed: int) -> bool:
    """Refuse sizes that cannot be met; True if they are numbers of structures."""
    if seed < 0:
        raise InputError(f"the seed must not be negative, not {seed}")
    if len(sizes) == 0:
        raise InputError("give the size of at least one part to split into")
    if any(isinstance(size, bool) for size in sizes) or not all(
        isinstance(size, int | float | np.integer | np.floating) for size in sizes
    ):
        raise InputError(f"sizes of parts must be integers or fractions, not {list(sizes)}")
    exact = all(isinstance(size, int | np.integer) for size in sizes)
    if not exact and any(isinstance(size, int | np.integer) for size in sizes):
        raise InputError(
            f"sizes {list(sizes)} mix numbers of structures and fractions; use one kind"
        )
    # the negation refuses NaN as well
    if not all(size > 0 for size in sizes):
        raise InputError(f"sizes of parts must be positive, not {list(sizes)}")
    whole = n if exact else 1 + 1e-12
    if sum(sizes) > whole:
        raise InputError(
            f"sizes {list(sizes)} add up to {sum(sizes)}, more than the {n} structures there are"
            if exact
            else f"fractions {list(sizes)} add up to {sum(sizes)}, more than 1; lower one"
        )
    return exact


def _members(
    structures: int | Sequence[object], n: int, groups: str | Sequence[Hashable] | None
) -> list[list[int]]:
    """Structure indices of each group, groups in order of appearance."""
    if groups is None:
        return [[i] for i in range(n)]
    if isinstance(groups, str):
        labels = _labels(structures, groups)
    elif len(groups) == n:
        labels = list(groups)
    else:
        raise InputError(f"{len(groups)} group labels do not fit {n} structures; give one each")
    members: dict[Hashable, list[int]] = {}
    for i, label in enumerate(labels):
        members.setdefault(label, []).append(i)
    return list(members.values())


def _labels(structures: int | Sequence[object], key: str) -> list[Hashable]:
    """Group label of each structure from its info."""
    if isinstance(structures, int):
        raise InputError(f"groups={key!r} names an info entry; give the structures, not a number")
    labels: list[Hashable] = []
    for i, atoms in enumerate(structures):
        if not isinstance(atoms, Atoms) or key not in atoms.info:
            there = ", ".join(sorted(atoms.info)) if isinstance(atoms, Atoms) else "no info"
            raise InputError(f"structure {i} has no info entry {key!r} to group by, only: {there}")
        labels.append(atoms.info[key])
    return labels


def _by_fraction(
    members: list[list[int]], order: np.ndarray, fractions: np.ndarray
) -> list[list[int]]:
    """Cut the shuffled structures at the cumulated fractions; a group goes where its middle is."""
    counts = np.array([len(members[g]) for g in order])
    middles = np.cumsum(counts) - counts / 2
    # half-way rounding up: a tiny shift keeps middles off the cuts, whatever the rounding of sums
    cuts = np.cumsum(fractions) * counts.sum() + 1e-9
    parts: list[list[int]] = [[] for _ in fractions]
    for g, part in zip(order, np.searchsorted(cuts, middles), strict=True):
        if part < len(parts):
            parts[part] += members[g]
    return parts


def _by_size(
    members: list[list[int]], rng: np.random.Generator, sizes: list[int]
) -> list[list[int]]:
    """Fill each part with whole groups that add up to its size, first come first served."""
    for _ in range(ATTEMPTS):
        left = [int(g) for g in rng.permutation(len(members))]
        parts: list[list[int]] = []
        for size in sizes:
            chosen = _subset([len(members[g]) for g in left], size)
            if chosen is None:
                break
            parts.append([i for c in chosen for i in members[left[c]]])
            taken = set(chosen)
            left = [g for c, g in enumerate(left) if c not in taken]
        if len(parts) == len(sizes):
            return parts
    counts = sorted({len(group) for group in members})
    raise InputError(
        f"whole groups of {', '.join(map(str, counts))} structures could not be made to add up to "
        f"the sizes {sizes}; choose other sizes or give fractions"
    )


def _subset(counts: list[int], total: int) -> list[int] | None:
    """Positions whose counts add up to the total, early positions first; None if there are none."""
    mask = (1 << (total + 1)) - 1
    reachable = [1]  # bit s of entry k: the first k counts have a subset that adds up to s
    for count in counts:
        reachable.append((reachable[-1] | reachable[-1] << count) & mask)
    if not reachable[-1] >> total & 1:
        return None
    chosen: list[int] = []
    for k in range(len(counts), 0, -1):
        if not reachable[k - 1] >> total & 1:
            chosen.append(k - 1)
            total -= counts[k - 1]
    return chosen
