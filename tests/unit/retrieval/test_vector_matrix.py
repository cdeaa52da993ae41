"""The matrix of vectors in memory, beside a plain dictionary."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.retrieval.indexes.cache import MatrixCache
from services.retrieval.indexes.matrix import Matrix, row_bytes
from services.retrieval.indexes.metrics import precise
from services.retrieval.indexes.port import Moved, Space, Span
from services.retrieval.records import Metric


@settings(deadline=None)
@given(
    st.lists(st.one_of(st.integers(1, 300), st.tuples(st.integers(0, 99), st.integers(1, 200)))),
    st.sampled_from(Metric),
    st.integers(1, 40),
    st.integers(0, 2**32),
)
def test_it_holds_what_was_added_and_not_removed(steps, metric, limit, seed):
    random = np.random.default_rng(seed)
    matrix, kept, last = Matrix(3), {}, 0
    for step in steps:
        if isinstance(step, int):
            ids = list(range(last + 1, last + 1 + step))
            last += step
            # Few different ones, so that many are level.
            vectors = random.integers(-2, 3, (step, 3)).astype(np.float32)
            before = matrix.view()
            alive = before.alive.copy()
            matrix.add(ids, ids, list(vectors))
            assert np.array_equal(before.alive, alive)
            kept |= dict(zip(ids, vectors, strict=True))
        else:
            first = step[0] * max(last, 1) // 100
            before = matrix.view()
            alive = before.alive.copy()
            matrix.remove([Span(first, step[1])])
            assert np.array_equal(before.alive, alive)
            kept = {id: v for id, v in kept.items() if not first <= id < first + step[1]}
    query = random.normal(size=3).astype(np.float32)
    view = matrix.view()
    rows, distances = view.nearest(metric, query, limit)
    if not kept:
        assert len(rows) == 0
        return
    wanted = dict(zip(kept, precise(metric, np.stack(list(kept.values())), query), strict=True))
    last_wanted = sorted(wanted.values())[:limit][-1]
    assert set(view.ids[rows].tolist()) == {id for id, d in wanted.items() if d <= last_wanted}
    assert distances.tolist() == sorted(wanted[id] for id in view.ids[rows].tolist())
    some = [id for id in kept if id % 3 == 0]
    asked = view.rows_of(np.array(some, np.int64), np.ones(len(some), np.int64))
    rows, _ = view.nearest(metric, query, len(some) or 1, asked)
    assert sorted(view.ids[rows].tolist()) == some


def space(key: int, sequence: int = 1, count: int = 300) -> Space:
    return Space(key, 4, Metric.L2, sequence, count, 0)


def filled(count: int = 300) -> Matrix:
    matrix = Matrix(4, count)
    matrix.add(range(1, count + 1), [1] * count, [np.zeros(4, np.float32)] * count)
    return matrix


async def test_the_cache_keeps_what_was_used_last():
    brought: list[int] = []
    cache = MatrixCache(2 * 300 * row_bytes(4))

    async def view(key: int, sequence: int = 1) -> None:
        async def bring(old: Matrix | None) -> Matrix:
            brought.append(key)
            await asyncio.sleep(0)
            return old or filled()

        await cache.view(space(key, sequence), bring)

    for key in (1, 2, 1, 3, 1, 2):
        await view(key)
    assert brought == [1, 2, 3, 2]
    await view(1, sequence=2)
    assert brought == [1, 2, 3, 2, 1]
    with pytest.raises(Moved):
        await view(1, sequence=1)
    cache.forget(1)
    await asyncio.gather(*(view(1, sequence=2) for _ in range(5)))
    assert brought == [1, 2, 3, 2, 1, 1]
    assert cache.fits(space(1, count=600))
    assert not cache.fits(space(1, count=601))
