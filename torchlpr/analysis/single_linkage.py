"""Single-linkage clustering of environments, and the gap between the two last big clusters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from torchlpr.analysis.arrays import Floats, Values, as_floats
from torchlpr.analysis.spanning_tree import Indices, minimum_spanning_tree
from torchlpr.errors import InputError

__all__ = ["ClusterGap", "SingleLinkage", "single_linkage"]


class ClusterGap(NamedTuple):
    """The last merge of two big clusters.

    Attributes:
        distance: r_g, distance of the two clusters, in units of the features.
        within: largest distance of a merge inside them; always below r_g, and far below it where
            the clusters stand apart. One connected cloud has an r_g too, hardly above.
        sizes: points of the larger and of the smaller cluster.
        labels: 0 for points of the larger, 1 for those of the smaller cluster, -1 for points of
            tiny clusters that join later, shape (points,).
    """

    distance: float
    within: float
    sizes: tuple[int, int]
    labels: Indices


@dataclass(frozen=True)
class SingleLinkage:
    """The merges of a single-linkage clustering.

    Attributes:
        merges: one row a merge, by increasing distance: the two clusters, their distance, the
            points of the new cluster; the format of ``scipy.cluster.hierarchy``, shape
            (points - 1, 4). Numbers below the number of points are points, higher ones clusters
            of earlier rows.
    """

    merges: Floats

    def __len__(self) -> int:
        """Number of points."""
        return len(self.merges) + 1

    def cut(self, distance: float) -> Indices:
        """Clusters whose points are connected by steps of less than a distance.

        Args:
            distance: in units of the features.

        Returns:
            Cluster of each point, 0 for the largest, shape (points,).
        """
        kept = int(np.searchsorted(self.merges[:, 2], distance, side="left"))
        top = np.arange(len(self) + kept)
        for row in range(kept - 1, -1, -1):  # from the last merge down: to whom each belongs
            children = self.merges[row, :2].astype(int)
            top[children] = top[len(self) + row]
        _, labels, sizes = np.unique(top[: len(self)], return_inverse=True, return_counts=True)
        rank = np.argsort(np.argsort(-sizes, kind="stable"))
        return rank[labels].astype(np.int64)

    def gap(self, min_share: float = 0.05) -> ClusterGap | None:
        """The last merge of two big clusters, whose distance is r_g.

        Source: Yoo et al., Phys. Rev. Mater. 3, 093802 (2019), Fig. S5. The paper does not define
        big; 5 % of the points is this package's choice.

        Args:
            min_share: share of the points from which on a cluster is big, in (0, 0.5].

        Returns:
            The merge, or None where no two big clusters merge.

        Raises:
            InputError: if the share is out of range.
        """
        if not 0 < min_share <= 0.5:
            raise InputError(f"min_share must lie in (0, 0.5], not {min_share}")
        sizes = np.concatenate([np.ones(len(self)), self.merges[:, 3]])
        pair = sizes[self.merges[:, :2].astype(int)]
        big = np.flatnonzero(pair.min(axis=1) >= max(2.0, min_share * len(self)))
        if not len(big):
            return None
        row = int(big[-1])
        order = np.argsort(-pair[row], kind="stable")
        labels = np.full(len(self), -1, dtype=np.int64)
        for label, cluster in enumerate(self.merges[row, :2].astype(int)[order]):
            labels[self._points(int(cluster))] = label
        larger, smaller = pair[row][order].astype(int).tolist()
        inside = [self.merges[int(c) - len(self), 2] for c in self.merges[row, :2]]
        return ClusterGap(float(self.merges[row, 2]), max(inside), (larger, smaller), labels)

    def _points(self, cluster: int) -> list[int]:
        """Points of a cluster."""
        found, stack = [], [cluster]
        while stack:
            if (k := stack.pop()) < len(self):
                found.append(k)
            else:
                stack += self.merges[k - len(self), :2].astype(int).tolist()
        return found


def single_linkage(features: Values) -> SingleLinkage:
    """Cluster environments by merging the two nearest clusters, again and again.

    The distance of two clusters is the smallest of two of their points. Computed from the
    Euclidean minimum spanning tree, with memory linear in the number of points. Up to 24
    features (or principal axes that are not idle) a k-d tree finds neighbours; beyond that time
    is quadratic in the number of points: minutes for 1e5 of them. Scale features first where
    some columns would drown the others.

    Args:
        features: shape (points, features), at least two points.

    Returns:
        All merges.

    Raises:
        InputError: if there are fewer than two points, or a feature is not finite.
        MissingExtraError: if scipy is not installed (extra ``sklearn``) and a k-d tree is needed.
    """
    points = as_floats(features, "features", ndim=2)
    if len(points) < 2:
        raise InputError(f"clustering needs at least two points, not {len(points)}")
    ends, lengths = minimum_spanning_tree(points)
    n = len(points)
    parent, merges = list(range(2 * n - 1)), np.empty((n - 1, 4))
    sizes = [1] * n + [0] * (n - 1)
    for row, (one, two) in enumerate(ends.tolist()):
        a, b = _root(parent, one), _root(parent, two)
        new = n + row
        parent[a] = parent[b] = new
        sizes[new] = sizes[a] + sizes[b]
        merges[row] = min(a, b), max(a, b), lengths[row], sizes[new]
    return SingleLinkage(merges)


def _root(parent: list[int], k: int) -> int:
    root = k
    while parent[root] != root:
        root = parent[root]
    while parent[k] != root:
        parent[k], k = root, parent[k]
    return root
