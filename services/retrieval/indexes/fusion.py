"""Merges what was found in several ways, and holds documents to their share."""

from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence

from services.retrieval.indexes.port import Ranked

_K = 60
"""Of reciprocal rank fusion: how slowly ranks lose weight."""
_FEWEST = 100
"""Ranks of each list that are merged, at least."""


def fused(lists: Sequence[Sequence[Ranked]]) -> list[Ranked]:
    """Merges lists by reciprocal rank. Scores are scaled so that first in all of them is 1.

    Where several are level, those go first that are better placed in an earlier list.
    """
    scores: dict[int, float] = defaultdict(float)
    places: dict[int, list[int]] = {}
    found: dict[int, Ranked] = {}
    for number, ranked in enumerate(lists):
        for rank, item in enumerate(ranked, 1):
            scores[item.chunk] += 1 / (_K + rank)
            places.setdefault(item.chunk, [len(ranked) + 1 for ranked in lists])[number] = rank
            found[item.chunk] = item
    best = len(lists) / (_K + 1)
    order = sorted(found, key=lambda chunk: (-scores[chunk], places[chunk]))
    return [found[chunk]._replace(value=min(scores[chunk] / best, 1.0)) for chunk in order]


def capped(ranked: Sequence[Ranked], most: int | None) -> Sequence[Ranked]:
    """Leaves out what is more than so many of one document."""
    if most is None:
        return ranked
    seen: Counter[int] = Counter()
    kept: list[Ranked] = []
    for item in ranked:
        seen[item.document] += 1
        if seen[item.document] <= most:
            kept.append(item)
    return kept


async def filled(
    find: Callable[[int], Awaitable[Sequence[Ranked]]], top_k: int, most: int | None
) -> Sequence[Ranked]:
    """Looks deeper until there are `top_k`, at most so many of one document, or no more."""
    limit = top_k if most is None else top_k * 4
    while True:
        ranked = await find(limit)
        kept = capped(ranked, most)
        if len(kept) >= top_k or len(ranked) < limit:
            return kept[:top_k]
        limit *= 4


async def filled_by_both(
    nearest: Callable[[int], Awaitable[Sequence[Ranked]]],
    matching: Callable[[int], Awaitable[Sequence[Ranked]]],
    top_k: int,
    most: int | None,
) -> Sequence[Ranked]:
    """Looks in both ways, merges, and goes deeper as `filled` does."""
    limit = max(_FEWEST, 4 * top_k)
    while True:
        lists = [await nearest(limit), await matching(limit)]
        kept = capped(fused(lists), most)
        if len(kept) >= top_k or all(len(ranked) < limit for ranked in lists):
            return kept[:top_k]
        limit *= 4
