"""Cuts improbable tokens off distributions: top-k, typical-p, top-p and min-p, in this order.

Each sees what the former left, as a whole distribution. The best token of each row stays, whatever
is asked for.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from services.inference.engine import SamplingParams

CANDIDATES = 512
"""Tokens among which those that stay are looked for first: to sort a whole vocabulary of 50,000
takes 15 times as long."""


def filter_rows(probabilities: Tensor, params: Sequence[SamplingParams]) -> tuple[Tensor, Tensor]:
    """Applies filters to distributions `[rows, vocabulary]`, with the parameters of each row.

    Returns:
        The remaining probabilities from high to low, not normalised, and their tokens; both
        `[rows, vocabulary]`.
    """
    ordered, tokens = probabilities.sort(dim=-1, descending=True, stable=True)
    return _cut(ordered, params, ordered.sum(dim=-1, keepdim=True)), tokens


def filter_likeliest(
    probabilities: Tensor, params: Sequence[SamplingParams]
) -> tuple[Tensor, Tensor, list[bool]]:
    """The same, among the likeliest tokens only.

    Returns:
        Remaining probabilities and tokens, `[rows, candidates]`, and for which rows no other token
        would remain: for the others the result means nothing.
    """
    ordered, tokens = probabilities.topk(min(CANDIDATES, probabilities.shape[-1]), dim=-1)
    total = probabilities.sum(dim=-1, keepdim=True)
    width = ordered.shape[-1]
    if width == probabilities.shape[-1]:
        return _cut(ordered, params, total), tokens, [True] * len(params)
    most = _numbers(ordered.sum(dim=-1) / total[:, 0])
    least = _numbers(ordered[:, -1] / ordered[:, 0])
    whole = [
        0 < p.top_k <= width
        or (p.top_k == 0 and p.typical_p == 1 and (held > p.top_p or last < p.min_p))
        for p, held, last in zip(params, most, least, strict=True)
    ]
    return _cut(ordered, params, total), tokens, whole


def _numbers(tensor: Any) -> list[float]:
    """`[rows]` as a list; torch leaves its type open."""
    return tensor.tolist()


def _cut(ordered: Tensor, params: Sequence[SamplingParams], total: Tensor) -> Tensor:
    """Filters probabilities that are in order; `total` is that of all tokens, `[rows, 1]`."""
    width = ordered.shape[-1]

    def column(values: Sequence[float]) -> Tensor:
        return torch.tensor(values, device=ordered.device)[:, None]

    top_k = column([float(p.top_k or width) for p in params])
    ordered = ordered.masked_fill(torch.arange(width, device=ordered.device) >= top_k, 0)

    typical = [index for index, p in enumerate(params) if p.typical_p < 1]
    if typical:
        mass = column([params[index].typical_p for index in typical])
        ordered[typical] = _typical(ordered[typical], mass)

    fewer = column([float(p.top_k > 0 or p.typical_p < 1) for p in params]) > 0
    shares = ordered / torch.where(fewer, ordered.sum(dim=-1, keepdim=True), total)
    before = shares.cumsum(dim=-1) - shares
    top_p = column([p.top_p for p in params])
    # With 1 nothing is cut, whatever the sum's rounding says.
    ordered = ordered.masked_fill((before >= top_p) & (top_p < 1), 0)

    min_p = column([p.min_p for p in params])
    best = ordered.amax(dim=-1, keepdim=True)
    return ordered.masked_fill(ordered < min_p * best, 0)


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
