"""Rows that come, go, move and grow keep what sequences wrote."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from services.inference.engines.slot_cache import SlotCache

HEADS, DIM = 2, 3
KEYS = st.integers(0, 6)
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.lists(KEYS, min_size=1, max_size=5, unique=True)),
        st.tuples(st.just("drop"), st.lists(KEYS, max_size=3)),
    ),
    max_size=25,
)


def states(keys: list[int], positions: Tensor, sign: int) -> Tensor:
    """`[batch, heads, queries, dim]`, telling key and position."""
    values = torch.tensor(keys)[:, None] * 1000.0 + positions
    return sign * values[:, None, :, None].expand(-1, HEADS, -1, DIM).contiguous()


@given(actions=ACTIONS, growth=st.integers(1, 90))
@settings(max_examples=80, deadline=None)
def test_every_sequence_reads_what_it_wrote(actions: list, growth: int) -> None:
    cache = SlotCache(2, max_rows=7, max_length=4096)
    lengths: dict[int, int] = {}
    for action, keys in actions:
        if action == "drop":
            for key in keys:
                lengths.pop(key, None)
            cache.retain(lengths.keys())
            assert set(cache.resident) == set(lengths)
            continue
        longest = max(lengths.get(key, 0) for key in keys)
        keys = cache.compact(keys, longest)
        # Unequal counts, padded in front.
        counts = [growth + key for key in keys]
        width = max(counts)
        positions = torch.zeros(len(keys), width, dtype=torch.long)
        pad = torch.arange(width) < width - torch.tensor(counts)[:, None]
        for place, (key, count) in enumerate(zip(keys, counts, strict=True)):
            start = lengths.get(key, 0)
            positions[place, width - count :] = torch.arange(start, start + count)
            lengths[key] = start + count
        length = max(lengths[key] for key in keys)
        cache.place(keys, positions, pad, length)
        for layer in range(2):
            sign = 1 - 2 * layer
            read, values = cache.update(
                states(keys, positions, sign), states(keys, positions, -sign), layer
            )
            assert read.shape == (len(keys), HEADS, length, DIM)
            for place, key in enumerate(keys):
                expected = states([key], torch.arange(lengths[key])[None], sign)[0]
                assert torch.equal(read[place, :, : lengths[key]], expected)
                assert torch.equal(values[place, :, : lengths[key]], -expected)


def test_sequences_that_run_together_are_read_without_copying() -> None:
    cache = SlotCache(1, max_rows=4, max_length=64)
    one = torch.zeros(3, 1, dtype=torch.long)
    cache.place([1, 2, 3], one, one > 0, 8)
    cache.update(states([1, 2, 3], one, 1), states([1, 2, 3], one, 1), 0)
    cache.retain([1, 3])
    assert cache.compact([3, 1], 1) == [1, 3]
    cache.place([1, 3], one[:2] + 1, one[:2] > 0, 8)
    assert cache.placement.span == slice(0, 2)
    read, _ = cache.update(states([1, 3], one[:2] + 1, 1), states([1, 3], one[:2], 1), 0)
    assert read[1, 0, :2, 0].tolist() == [3000.0, 3001.0]


def test_memory_that_has_grown_is_given_back() -> None:
    cache = SlotCache(1, max_rows=16, max_length=4096)
    places = torch.full((1, 1), 999)
    cache.place([1], places, places < 0, 1000)
    cache.update(states([1], places, 1), states([1], places, 1), 0)
    assert cache.shape == (4, 1001)
    cache.retain([])
    assert cache.shape == (0, 1)
