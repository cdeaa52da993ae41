"""Lines of batches, and the books of who has a result."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.training.batch_bits import has_bit, no_bits, with_bits
from services.training.batch_lines import LONGEST_LINE, MOST_ERRORS, Check, Piece, split_lines
from services.training.batch_names import new_batch_id, request_id_of
from services.training.batch_records import BATCH_ENDED, BatchState
from services.training.batch_states import batch_may_follow

CONTENT = st.lists(st.sampled_from([b"a", b"bc", b" ", b"\n", b"\r\n", b"{}"]), max_size=30).map(
    b"".join
)


async def split(content: bytes, cuts: Sequence[int], offset: int = 0) -> list[Piece]:
    async def pieces() -> AsyncIterator[bytes]:
        places = sorted({0, len(content), *(cut % (len(content) + 1) for cut in cuts)})
        for start, end in itertools.pairwise(places):
            yield content[start:end]

    return [line async for some in split_lines(pieces(), offset=offset) for line in some]


@given(content=CONTENT, cuts=st.lists(st.integers(0, 60), max_size=8))
async def test_lines_do_not_depend_on_the_pieces(content: bytes, cuts: list[int]) -> None:
    found = await split(content, cuts)
    expected = content.split(b"\n")
    if not expected[-1]:
        expected.pop()
    assert [line.content for line in found] == [line.rstrip(b"\r") for line in expected]
    assert [line.number for line in found] == list(range(1, len(expected) + 1))
    assert not found or found[-1].end == len(content)
    for line in found:  # reading may go on after each
        rest = await split(content[line.end :], cuts, line.end)
        assert [(one.content, one.end) for one in rest] == [
            (one.content, one.end) for one in found[line.number :]
        ]


async def test_a_long_line_takes_no_more_memory_than_it_may() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"x" * (1024 * 1024)
        yield b"\nshort"

    found = [line async for some in split_lines(pieces()) for line in some]
    assert [line.number for line in found] == [1, 2]
    assert LONGEST_LINE < len(found[0].content) < LONGEST_LINE + 2 * 1024 * 1024
    assert found[0].end == 40 * 1024 * 1024 + 1
    assert found[1].content == b"short"


def test_so_many_errors_are_told_and_no_more() -> None:
    check = Check("/v1/x", 1000)
    for number in range(1, 1001):
        if check.hopeless:
            break
        check.feed(b"{", number)
    assert len(check.errors) == MOST_ERRORS


@given(count=st.integers(1, 200), data=st.data())
def test_bits(count: int, data: st.DataObject) -> None:
    numbers = data.draw(st.sets(st.integers(0, count - 1)))
    more = data.draw(st.sets(st.integers(0, count - 1)))
    bits = with_bits(with_bits(no_bits(count), numbers), more)
    assert {number for number in range(count) if has_bit(bits, number)} == numbers | more


def test_ids_of_requests_stay() -> None:
    batch = new_batch_id()
    ids = [request_id_of(batch, number) for number in range(1000)]
    assert len(set(ids)) == 1000
    assert ids == [request_id_of(batch, number) for number in range(1000)]
    assert all(one.startswith("batch_req_") and len(one) == 34 for one in ids)
    assert request_id_of(new_batch_id(), 0) != ids[0]


@pytest.mark.parametrize("state", BatchState)
def test_nothing_follows_an_end(state: BatchState) -> None:
    followers = {after for after in BatchState if batch_may_follow(state, after)}
    assert (followers == {state}) == (state in BATCH_ENDED)
