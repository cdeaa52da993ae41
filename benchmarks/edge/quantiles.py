"""Quantiles of few samples."""

from collections.abc import Sequence
from math import ceil


def quantile(samples: Sequence[float], share: float) -> float:
    """The smallest sample that at least this share of samples does not exceed; nan of none."""
    if not samples:
        return float("nan")
    return sorted(samples)[max(0, ceil(share * len(samples)) - 1)]
