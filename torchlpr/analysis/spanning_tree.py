"""Euclidean minimum spanning tree of many points, with memory linear in their number.

Borůvka's algorithm: every component but the largest joins the one nearest to it, until one is left.
Nearest neighbours of each point, found once, answer nearly all rounds; only components that are
larger than those lists and stand apart are searched again. Few dimensions are searched by scipy's
k-d tree, many by blocks of matrix products.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from torchlpr.analysis.arrays import Floats
from torchlpr.extras import require

__all__ = ["minimum_spanning_tree"]

Indices = npt.NDArray[np.int64]

_NEIGHBOURS = 16
#: components up to this size are searched by longer lists of neighbours, larger ones as a whole
_SMALL = 256
#: dimensions beyond which a k-d tree looks at nearly every point
_TREE_DIMENSIONS = 24
_GROUP = 32
#: distances held at a time by the search by matrix products: 8 MiB, which caches hold
_BLOCK = 2**20


def minimum_spanning_tree(points: Floats) -> tuple[Indices, Floats]:
    """Edges of the shortest tree that connects all points.

    Args:
        points: shape (points, dimensions), float64.

    Returns:
        Ends of the edges, shape (points - 1, 2), and their lengths by differences of coordinates,
        shape (points - 1,), by increasing length.
    """
    forest, turned = _Forest(len(points)), _principal_axes(points)
    few = turned.shape[1] <= _TREE_DIMENSIONS
    search = _TreeSearch(turned) if few else _ProductSearch(turned)
    near, distance = search.neighbours(np.arange(len(points)), _NEIGHBOURS)
    while forest.components > 1:
        for one, two, _ in _joins(search, forest.labels(), near, distance):
            forest.join(one, two)
    ends = np.array(forest.edges, dtype=np.int64).reshape(-1, 2)
    lengths = np.linalg.norm(points[ends[:, 0]] - points[ends[:, 1]], axis=1)
    order = np.argsort(lengths, kind="stable")
    return ends[order], lengths[order]


def _joins(
    search: _TreeSearch | _ProductSearch, labels: Indices, near: Indices, distance: Floats
) -> list[tuple[int, int, float]]:
    """Shortest edge out of every component but the largest, sorted by length."""
    sizes = np.bincount(labels)
    outside = labels[near] != labels[:, None]
    column = outside.argmax(axis=1)  # the first, which is the nearest
    rows = np.arange(len(labels))
    known = outside[rows, column]
    to, length = near[rows, column], np.where(known, distance[rows, column], np.inf)
    best = np.full(len(sizes), np.inf)
    np.minimum.at(best, labels, length)
    # a point whose list ends before anything outside, and before the best edge, may have a better
    open_ = ~known & (distance[:, -1] < best[labels]) & (labels != sizes.argmax())
    for size in (64, _SMALL):
        if len(points := np.flatnonzero(open_ & (sizes[labels] <= size))):
            found, r = search.neighbours(points, min(size, len(labels) - 1))
            first = (labels[found] != labels[points, None]).argmax(axis=1)
            to[points] = found[np.arange(len(points)), first]
            length[points] = r[np.arange(len(points)), first]
            open_[points] = False
    for label in np.unique(labels[open_]):
        points = np.flatnonzero(open_ & (labels == label))
        rest = np.flatnonzero(labels != label)
        one, two, nearest = search.closest(points, rest, float(best[label]))
        if nearest < best[label]:
            to[one], length[one] = two, nearest
    # the shortest edge of each component: the first in the order of (component, length)
    order = np.lexsort((length, labels))
    shortest = order[np.r_[True, labels[order][1:] != labels[order][:-1]]]
    shortest = shortest[labels[shortest] != sizes.argmax()]
    shortest = shortest[np.argsort(length[shortest], kind="stable")]
    return [(int(k), int(to[k]), float(length[k])) for k in shortest]


class _TreeSearch:
    """Neighbours by scipy's k-d tree."""

    def __init__(self, points: Floats) -> None:
        self._tree = require("scipy.spatial", "sklearn").cKDTree
        self.points, self._all = points, self._tree(points)

    def neighbours(self, chosen: Indices, k: int) -> tuple[Indices, Floats]:
        """The k nearest of some points, themselves left out, by increasing distance."""
        k = min(k, len(self.points) - 1)
        near, distance = np.empty((len(chosen), k), np.int64), np.empty((len(chosen), k))
        for start in range(0, len(chosen), block := max(1, _BLOCK // (4 * k))):
            part = slice(start, start + block)
            r, found = self._all.query(self.points[chosen[part]], k + 1, workers=_threads())
            near[part], distance[part] = _without_self(chosen[part], found, r)
        return near, distance

    def closest(self, chosen: Indices, rest: Indices, bound: float) -> tuple[int, int, float]:
        """The shortest edge between two sets, or infinity if none is shorter than the bound."""
        tree, result = self._tree(self.points[rest]), (-1, -1, np.inf)
        for start in range(0, len(chosen), 512):
            part = chosen[start : start + 512]
            # a bound that shrinks spares most of the tree
            r, found = tree.query(
                self.points[part], 1, distance_upper_bound=bound, workers=_threads()
            )
            if np.isfinite(r).any() and r.min() < result[2]:
                k = int(r.argmin())
                result = int(part[k]), int(rest[found[k]]), float(r[k])
                bound = result[2]
        return result


class _ProductSearch:
    """Neighbours by blocks of matrix products; lengths are taken anew from differences."""

    def __init__(self, points: Floats) -> None:
        self.points = points
        self._x = torch.from_numpy(points)

    def neighbours(self, chosen: Indices, k: int) -> tuple[Indices, Floats]:
        """The k nearest of some points, themselves left out, by increasing distance."""
        k = min(k, len(self.points) - 1)
        near, distance = np.empty((len(chosen), k), np.int64), np.empty((len(chosen), k))
        for start in range(0, len(chosen), block := max(1, _BLOCK // len(self.points))):
            part = slice(start, start + block)
            squares = self._squares(self._x[chosen[part]], self._x)
            found = _smallest(squares, k + 1).numpy()
            r = np.linalg.norm(self.points[chosen[part], None] - self.points[found], axis=2)
            order = np.argsort(r, axis=1, kind="stable")
            found, r = np.take_along_axis(found, order, 1), np.take_along_axis(r, order, 1)
            near[part], distance[part] = _without_self(chosen[part], found, r)
        return near, distance

    def closest(self, chosen: Indices, rest: Indices, bound: float) -> tuple[int, int, float]:
        """The shortest edge between two sets, or infinity if none is shorter than the bound."""
        among, result = self._x[rest], (-1, -1, np.inf)
        for start in range(0, len(chosen), block := max(1, _BLOCK // len(rest))):
            part = chosen[start : start + block]
            two = rest[self._squares(self._x[part], among).argmin(dim=1).numpy()]
            r = np.linalg.norm(self.points[part] - self.points[two], axis=1)
            if r.min() < min(bound, result[2]):
                k = int(r.argmin())
                result = int(part[k]), int(two[k]), float(r[k])
        return result

    @staticmethod
    def _squares(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Squared distances up to what is common to a row, shape (len(a), len(b))."""
        return torch.addmm(b.square().sum(dim=1)[None], a, b.T, alpha=-2)


class _Forest:
    """Which points are connected."""

    def __init__(self, n: int) -> None:
        self._parent = list(range(n))
        self.components, self.edges = n, list[tuple[int, int]]()

    def join(self, one: int, two: int) -> None:
        """Add an edge, unless it would close a circle, as edges of equal length may."""
        a, b = self._root(one), self._root(two)
        if a != b:
            self._parent[a] = b
            self.components -= 1
            self.edges.append((one, two))

    def labels(self) -> Indices:
        """Number of each point's component."""
        roots = np.array([self._root(k) for k in range(len(self._parent))], dtype=np.int64)
        return np.unique(roots, return_inverse=True)[1].astype(np.int64)

    def _root(self, k: int) -> int:
        parent = self._parent
        while parent[k] != k:
            parent[k] = parent[parent[k]]
            k = parent[k]
        return k


def _smallest(rows: torch.Tensor, k: int) -> torch.Tensor:
    """Positions of the k smallest numbers of each row, in no order, shape (rows, k)."""
    # they lie in the k groups of columns with the smallest minima: the minima take one fast pass,
    # and the slow selection sees few numbers
    groups = rows.shape[1] // _GROUP
    if groups <= k:
        return rows.topk(k, largest=False, sorted=False).indices
    # group g holds the columns g, g + groups, ...; what is left over is always looked at
    minima = rows[:, : groups * _GROUP].unflatten(1, (_GROUP, groups)).amin(dim=1)
    best = minima.topk(k, largest=False, sorted=False).indices
    inside = best[:, None, :] + groups * torch.arange(_GROUP)[None, :, None]
    rest = torch.arange(groups * _GROUP, rows.shape[1]).expand(len(rows), -1)
    columns = torch.cat([inside.flatten(1), rest], dim=1)
    chosen = rows.gather(1, columns).topk(k, largest=False, sorted=False).indices
    return columns.gather(1, chosen)


def _without_self(chosen: Indices, found: Indices, r: Floats) -> tuple[Indices, Floats]:
    """Drop each point from its own neighbours; where copies crowd it out, the last."""
    self_ = found == chosen[:, None]
    self_[~self_.any(axis=1), -1] = True
    shape = len(chosen), found.shape[1] - 1
    return found[~self_].reshape(shape), r[~self_].reshape(shape)


def _threads() -> int:
    """As many as torch may use."""
    return torch.get_num_threads()


def _principal_axes(points: Floats) -> Floats:
    """The points in their principal axes; of many, those are left out that no point leaves."""
    # neighbours are found sooner where few coordinates hold most of the distance
    centred = points - points.mean(axis=0)
    if points.shape[1] <= 3:
        return np.ascontiguousarray(centred)
    values, axes = np.linalg.eigh(centred.T @ centred)
    if points.shape[1] > _TREE_DIMENSIONS:
        axes = axes[:, values >= 1e-15 * values[-1]]  # of the size of rounding errors
    return np.ascontiguousarray(centred @ axes[:, ::-1])
