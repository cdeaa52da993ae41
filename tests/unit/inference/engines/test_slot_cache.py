"""The memory of tensors does to every column what the symbolic one does to tokens."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from services.inference.engines.kv_pool import PoolLimits
from services.inference.engines.memory_ops import (
    CopyRow,
    Kept,
    MemoryOperation,
    Resize,
    SwapRows,
)
from services.inference.engines.slot_cache import SlotCache
from tests.unit.inference.engines.symbolic_memory import SymbolicMemory

HEADS, DIM, LAYERS = 2, 3, 2
LIMITS = PoolLimits(tokens=10**6, rows=100, columns=64)


def states(tokens: Tensor, sign: int) -> Tensor:
    """`[batch, heads, queries, dim]`, telling the token."""
    return sign * tokens.float()[:, None, :, None].expand(-1, HEADS, -1, DIM).contiguous()


def write(cache: SlotCache, places: list[int], start: int, tokens: Tensor) -> list[Tensor]:
    """Writes tokens `[batch, queries]` at `start`; returns what each layer reads."""
    positions = torch.arange(start, start + tokens.shape[1]).expand(tokens.shape)
    cache.place(places, positions, start + tokens.shape[1])
    read: list[Tensor] = []
    for layer in range(LAYERS):
        sign = 1 - 2 * layer
        keys, values = cache.update(states(tokens, sign), states(tokens, -sign), layer)
        assert torch.equal(keys, -values)
        assert keys.shape == (len(places), HEADS, start + tokens.shape[1], DIM)
        read.append(sign * keys[:, 0, :, 0])
    return read


@st.composite
def operations(draw: st.DrawFn) -> list[MemoryOperation | list[int]]:
    """Operations that fit each other, with writes (rows, in any order) between them."""
    rows, columns = 0, 0
    done: list[MemoryOperation | list[int]] = []
    for _ in range(draw(st.integers(1, 15))):
        kind = draw(st.sampled_from(["resize", "copy", "swap", "write"]))
        if kind == "resize" or rows < 2:
            sizes = st.tuples(st.integers(2, 6), st.sampled_from([8, 16, 24]))
            new_rows, new_columns = draw(sizes)
            kept = draw(st.permutations(range(rows)))[: draw(st.integers(0, min(rows, new_rows)))]
            targets = draw(st.permutations(range(new_rows)))
            lengths = st.integers(1, max(1, min(columns, new_columns)))
            done.append(
                Resize(
                    new_rows,
                    new_columns,
                    tuple(Kept(s, t, draw(lengths)) for s, t in zip(kept, targets, strict=False)),
                )
            )
            rows, columns = new_rows, new_columns
            continue
        one, two = draw(st.permutations(range(rows)))[:2]
        if kind == "copy":
            done.append(CopyRow(one, two, draw(st.integers(1, columns))))
        elif kind == "swap":
            first, second = draw(st.tuples(st.integers(1, columns), st.integers(1, columns)))
            done.append(SwapRows(one, first, two, second))
        else:
            done.append(draw(st.lists(st.integers(0, rows - 1), min_size=1, unique=True)))
    return done


@given(plan=operations())
@settings(max_examples=60, deadline=None)
def test_tensors_go_where_the_books_say(plan: list[MemoryOperation | list[int]]) -> None:
    cache, symbolic = SlotCache(LAYERS), SymbolicMemory(LIMITS)
    written = 1
    for step in plan:
        if not isinstance(step, list):
            cache.carry_out([step])
            symbolic.carry_out([step])
            assert cache.shape == (len(symbolic.rows), symbolic.columns)
            continue
        width = symbolic.columns // 2
        tokens = torch.arange(written, written + len(step) * width).reshape(len(step), width)
        written += len(step) * width
        for row, values in zip(step, tokens.tolist(), strict=True):
            symbolic.rows[row][width : 2 * width] = values
        for read in write(cache, step, width, tokens):
            for row, columns in zip(step, read.tolist(), strict=True):
                for column, (own, expected) in enumerate(zip(columns, symbolic.rows[row])):  # noqa: B905
                    assert expected is None or own == expected, (row, column)


def test_neighbours_are_read_without_copying() -> None:
    cache = SlotCache(LAYERS)
    cache.carry_out([Resize(4, 8)])
    write(cache, [1, 2], 0, torch.ones(2, 3))
    assert cache.placement.span == slice(1, 3)
    write(cache, [2, 1], 3, torch.ones(2, 3))
    assert cache.placement.span is None


def test_padding_is_written_where_nobody_reads() -> None:
    cache = SlotCache(1)
    cache.carry_out([Resize(1, 8)])
    positions = torch.tensor([[8, 8, 0, 1]])
    cache.place([0], positions, 8)
    read, _ = cache.update(
        states(torch.tensor([[70, 80, 1, 2]]), 1), states(torch.tensor([[70, 80, 1, 2]]), 1), 0
    )
    assert read[0, 0, :, 0].tolist() == [1, 2, 0, 0, 0, 0, 0, 0]


def test_bytes_are_measured_and_memory_is_given_back() -> None:
    cache = SlotCache(LAYERS)
    assert cache.bytes_per_token == 0
    cache.carry_out([Resize(2, 8)])
    write(cache, [0], 0, torch.ones(1, 3))
    assert cache.bytes_per_token == LAYERS * 2 * HEADS * DIM * 4
    cache.carry_out([Resize(0, 0)])
    assert all(layer.keys is None and layer.values is None for layer in cache.layers)
