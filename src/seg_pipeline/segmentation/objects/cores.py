"""The core of an object: what the network learns beside its class, so that touching objects can be told apart."""

from __future__ import annotations

import cv2
import numpy as np

DEPTH = 0.5
"""A core holds the pixels at least this deep inside, as a share of the deepest pixel of its object."""


def cores(labels: np.ndarray, *, depth: float = DEPTH) -> np.ndarray:
    """Pixels in the inner part of each object: bool (H, W); even the smallest object has one.

    The depth is a pixel's distance to the object's border, also that towards a touching object. Because it is relative
    to the object's own size, cores of small and large objects are equally easy to tell apart.

    Args:
        labels: label map, integers (H, W).
    """
    inner = (labels > 0) & ~_edges(labels)
    distance = cv2.distanceTransform(inner.view(np.uint8), cv2.DIST_L2, 5)
    distance[labels > 0] += 1  # an object that is all edge is its own core
    deepest = np.zeros(int(labels.max(initial=0)) + 1, dtype=np.float32)
    np.maximum.at(deepest, labels.ravel(), distance.ravel())
    return (labels > 0) & (distance >= np.maximum(depth * deepest[labels], 1))


def _edges(labels: np.ndarray) -> np.ndarray:
    """Pixels of an object with a neighbour of another value; the image's border is no edge."""
    edges = np.zeros(labels.shape, dtype=bool)
    for ahead, behind in ((np.s_[:, 1:], np.s_[:, :-1]), (np.s_[1:], np.s_[:-1])):
        differ = labels[ahead] != labels[behind]
        edges[ahead] |= differ
        edges[behind] |= differ
    return edges
