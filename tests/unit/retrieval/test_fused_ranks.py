from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.retrieval.indexes.fusion import capped, filled, filled_by_both, fused
from services.retrieval.indexes.port import Ranked


def ranked(*chunks: int, share: int = 1) -> list[Ranked]:
    return [Ranked(chunk, chunk // share, 0.0) for chunk in chunks]


def test_first_in_both_scores_one():
    found = fused([ranked(1, 2), ranked(1, 3)])
    assert [item.chunk for item in found] == [1, 2, 3]
    assert found[0].value == 1
    assert found[1].value == found[2].value == pytest.approx((1 / 62) / (2 / 61))


def test_two_middling_places_beat_one_good_one():
    found = fused([ranked(1, 2, 3), ranked(4, 3, 2)])
    assert [item.chunk for item in found] == [2, 3, 1, 4]


@settings(deadline=None)
@given(st.permutations(range(12)), st.permutations(range(12)))
def test_scores_fall_and_stay_in_range(one, two):
    found = fused([ranked(*one[:8]), ranked(*two[:8])])
    values = [item.value for item in found]
    assert values == sorted(values, reverse=True)
    assert all(0 < value <= 1 for value in values)
    assert {item.chunk for item in found} == {*one[:8], *two[:8]}


def test_a_share_keeps_the_best():
    assert [item.chunk for item in capped(ranked(0, 1, 9, 2, 3, share=4), 2)] == [0, 1, 9]
    assert len(capped(ranked(0, 1, 2), None)) == 3


@settings(deadline=None)
@given(st.integers(1, 20), st.integers(1, 3), st.integers(0, 300))
async def test_it_looks_as_deep_as_it_must(top_k, most, count):
    everything = ranked(*range(count), share=50)

    async def find(limit: int) -> list[Ranked]:
        return everything[:limit]

    wanted = capped(everything, most)[:top_k]
    assert await filled(find, top_k, most) == wanted
    both = await filled_by_both(find, find, top_k, most)
    assert [item.chunk for item in both] == [item.chunk for item in wanted]
