"""Cuts improbable tokens off distributions."""

from collections.abc import Sequence

import torch
from torch import Tensor

from services.inference.engine import SamplingParams


def filter_rows(probabilities: Tensor, params: Sequence[SamplingParams]) -> tuple[Tensor, Tensor]:
    """Applies top-k, typical-p, top-p and min-p, in this order.

    Each sees what the former left, as a whole distribution. The best token of each row stays,
    whatever is asked for.

    Args:
        probabilities: `[rows, vocabulary]`.
        params: one per row.

    Returns:
        The remaining probabilities from high to low, not normalised, and their tokens; both
        `[rows, vocabulary]`.
    """
    vocabulary = probabilities.shape[-1]

    def column(values: Sequence[float]) -> Tensor:
        return torch.tensor(values, device=probabilities.device)[:, None]

    ordered, tokens = probabilities.sort(dim=-1, descending=True, stable=True)
    top_k = column([float(p.top_k or vocabulary) for p in params])
    ranks = torch.arange(vocabulary, device=probabilities.device)
    ordered = ordered.masked_fill(ranks >= top_k, 0)

    typical = [index for index, p in enumerate(params) if p.typical_p < 1]
    if typical:
        mass = column([params[index].typical_p for index in typical])
        ordered[typical] = _typical(ordered[typical], mass)

    shares = ordered / ordered.sum(dim=-1, keepdim=True)
    before = shares.cumsum(dim=-1) - shares
    top_p = column([p.top_p for p in params])
    # With 1 nothing is cut, whatever the sum's rounding says.
    ordered = ordered.masked_fill((before >= top_p) & (top_p < 1), 0)

    min_p = column([p.min_p for p in params])
    best = ordered.amax(dim=-1, keepdim=True)
    return ordered.masked_fill(ordered < min_p * best, 0), tokens


def _typical(ordered: Tensor, mass: Tensor) -> Tensor:
    """Keeps tokens of a row until they have this mass, those of typical information first.

    Typical is what is nearest to the distribution's entropy.
    """
    shares = ordered / ordered.sum(dim=-1, keepdim=True)
    information = -shares.log()
    entropy = torch.where(shares > 0, shares * information, 0).sum(dim=-1, keepdim=True)
    distance = (information - entropy).abs()  # infinite for what is cut already
    by_distance = distance.argsort(dim=-1, stable=True)
    nearest = shares.gather(-1, by_distance)
    dropped = nearest.cumsum(dim=-1) - nearest >= mass
    return ordered.masked_fill(torch.zeros_like(dropped).scatter(-1, by_distance, dropped), 0)
