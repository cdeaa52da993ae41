"""Distances of vectors, and the scores they give."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.retrieval.records import Metric

_UNIT = 2.0**-24
"""Largest relative error of one operation on float32."""


def score_of_distance(metric: Metric, distance: float) -> float:
    """Returns the score of a distance, in [0, 1]; see `Store.search`."""
    match metric:
        case Metric.COSINE:
            return min(max(1 - distance / 2, 0.0), 1.0)
        case Metric.INNER_PRODUCT:
            small = math.exp(-abs(distance))
            return 1 / (1 + small) if distance <= 0 else small / (1 + small)
        case Metric.L2:
            return 1 / (1 + distance)


def score_of_words(value: float) -> float:
    """Returns the score of a rank by words, in [0, 1)."""
    return value / (1 + value)


def norms(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns the lengths of vectors, [n, d] → [n]."""
    return np.linalg.norm(vectors.astype(np.float64), axis=1).astype(np.float32)


def rough(
    metric: Metric,
    vectors: NDArray[np.float32],  # [n, d]
    lengths: NDArray[np.float32],  # [n]
    query: NDArray[np.float32],  # [d]
) -> tuple[NDArray[np.floating[Any]], float]:
    """Returns, for each vector, a number that orders as the distance does, and how far from the
    true one it may be."""
    with np.errstate(all="ignore"):
        products = vectors @ query  # [n]
        length = float(np.linalg.norm(query.astype(np.float64)))
        error = (len(query) + 4) * _UNIT * length
        longest = float(lengths.max(initial=0))
        match metric:
            case Metric.COSINE:
                # A vector without direction is at right angles to all.
                safe = np.where(lengths > 0, lengths, np.float32(np.inf))
                return -products / safe, error
            case Metric.INNER_PRODUCT:
                return -products, error * longest
            case Metric.L2:
                squares = lengths * lengths - 2 * products
                return squares, 2 * error * longest + 4 * _UNIT * longest**2


def precise(
    metric: Metric,
    vectors: NDArray[np.float32],  # [n, d]
    query: NDArray[np.float32],  # [d]
) -> NDArray[np.float64]:
    """Returns distances; vectors that are the same have the same one, wherever they stand."""
    wide, asked = vectors.astype(np.float64), query.astype(np.float64)
    if metric is Metric.L2:
        return np.sqrt(np.square(wide - asked).sum(axis=1))
    products = (wide * asked).sum(axis=1)
    if metric is Metric.INNER_PRODUCT:
        return -products
    scale = np.sqrt(np.square(wide).sum(axis=1)) * np.sqrt(np.square(asked).sum())
    cosines = np.divide(products, scale, out=np.zeros_like(products), where=scale > 0)
    return 1 - np.clip(cosines, -1, 1)
