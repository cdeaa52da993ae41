"""What sequences take from each other's attention memory, and what they must not."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inference.engine import GroupRequest, Priority, SamplingParams, SequenceRequest
from services.inference.engines import prefix_index
from services.inference.engines.prefix_index import BLOCK, KvRow, PrefixIndex
from services.inference.engines.steps import Phase
from tests.unit.inference.engines.scheduler_bench import Bench, prompt_of, request
from tests.unit.inference.engines.symbolic_memory import continuation


def of(*prompts: list[int], most: int = 3, reuse: bool = True) -> GroupRequest:
    params = SamplingParams(max_tokens=most, seed=0)
    return GroupRequest([SequenceRequest(prompt, params) for prompt in prompts], reuse=reuse)


def large(slots: int = 4, **more: int) -> Bench:
    return Bench(**{"slots": slots, "queue_limit": 40, "step_tokens": 512, "context": 2048, **more})


def test_a_prompt_that_was_read_is_not_read_again() -> None:
    bench = large()
    first = bench.submit(of(prompt_of(1, 1000)))
    bench.run()
    assert bench.cached(first) == 0
    before = bench.prefilled
    second = bench.submit(of(prompt_of(1, 1000)))
    bench.step()
    assert bench.prefilled == before  # its last token goes with those that decode
    assert len(bench.tokens(second)) == 1
    bench.run()
    assert bench.cached(second) == 999
    assert bench.tokens(second) == bench.tokens(first)


def test_the_next_turn_of_a_conversation_goes_on_in_place() -> None:
    bench = large()
    talk = prompt_of(1, 300)
    for turn in range(5):
        group = bench.submit(of(talk, most=20))
        bench.run()
        assert bench.cached(group) == (0 if turn == 0 else len(talk) - 41)
        talk = [*talk, *bench.tokens(group), *prompt_of(50 + turn, 40)]
    assert bench.memory.copied == 0


def test_one_that_shares_less_leaves_the_other_its_own() -> None:
    bench = large()
    one, two = (prompt_of(1, 400) + prompt_of(kind, 300) for kind in (60, 70))
    bench.submit(of(one))
    bench.run()
    other = bench.submit(of(two))
    bench.run()
    again = bench.submit(of(one))
    bench.run()
    assert (bench.cached(other), bench.cached(again)) == (400, 699)


@pytest.mark.parametrize("running", [True, False])
def test_choices_of_one_prompt_read_it_once(running: bool) -> None:
    bench = large(slots=4 if running else 2)
    prompt = prompt_of(1, 500)
    group = bench.submit(of(*[prompt] * 4))
    bench.run()
    assert [bench.cached(group, index) for index in range(4)] == [0, 499, 499, 499]
    assert bench.prefilled == 500
    for index in range(4):
        assert bench.tokens(group, index) == continuation(prompt, 3)


def test_a_burst_with_one_beginning_reads_it_once() -> None:
    bench = large(slots=8)
    begin = prompt_of(1, 480)
    groups = [bench.submit(of(begin + prompt_of(60 + kind, 8))) for kind in range(8)]
    bench.run()
    assert [bench.cached(group) for group in groups] == [0] + [480] * 7
    assert bench.prefilled <= 480 + 8 * 8 + 64


def test_whoever_waits_for_a_prompt_goes_on_when_its_reader_leaves() -> None:
    for leave in ("cancel", "pause", "fail"):
        bench = large(step_tokens=64)
        prompt = prompt_of(1, 900)
        reader, waiter = bench.submit(of(prompt)), bench.submit(of(prompt))
        for _ in range(4):
            assert bench.step()[0] == (Phase.PREFILL, [64])
        if leave == "cancel":
            bench.scheduler.cancel(reader)
        elif leave == "pause":
            bench.scheduler.pause(reader)
        else:
            bench.scheduler.fail([reader], RuntimeError("forward pass"))
        bench.run()
        assert bench.tokens(waiter) == continuation(prompt, 3)
        assert bench.cached(waiter) == (0 if leave == "fail" else 256)


def test_nobody_waits_for_a_lower_priority() -> None:
    bench = large(step_tokens=64)
    prompt = prompt_of(1, 900)
    sizes = ((900, 3),)
    bench.submit(request(*sizes, kind=1, priority=Priority.LOW))
    bench.step()
    high = bench.submit(request(*sizes, kind=1, priority=Priority.HIGH))
    for _ in range(14):
        bench.step()
    assert bench.tokens(high) == continuation(prompt, 1)


def test_without_reuse_nothing_is_taken_and_nothing_left() -> None:
    bench = large()
    prompt = prompt_of(1, 500)
    private = bench.submit(of(prompt, prompt, reuse=False))
    bench.run()
    after = bench.submit(of(prompt))
    bench.run()
    alone = bench.submit(of(prompt, reuse=False))
    bench.run()
    assert bench.cached(private, 0) == bench.cached(private, 1) == 0
    assert bench.cached(after) == bench.cached(alone) == 0


def test_scored_prompts_are_read_whole() -> None:
    bench = large()
    for scored in (False, True, False):
        group = bench.submit(request((200, 1), kind=1, scored=scored))
        bench.run()
    assert bench.cached(group) == 199
    scored_group = bench.submit(request((200, 1), kind=1, scored=True))
    bench.run()
    assert bench.cached(scored_group) == 0


def test_the_one_not_used_for_longest_goes_first() -> None:
    bench = large(slots=1, kv_tokens=3 * 1025, context=1024)
    prompts = [prompt_of(kind, 900) for kind in (1, 2, 3)]
    for prompt in prompts:
        bench.submit(of(prompt))
        bench.run()
    bench.submit(of(prompts[0]))
    bench.run()
    bench.submit(of(prompt_of(4, 900)))  # takes the place of the second
    bench.run()
    found = [bench.pool.find(prompt) for prompt in prompts]
    assert [find is not None for find in found] == [True, False, True]


def test_rows_multiply_again_after_a_long_sequence() -> None:
    bench = Bench(slots=2, queue_limit=40, step_tokens=512, context=4096, kv_tokens=2 * 4097)
    bench.submit(of(prompt_of(1, 4000)))
    bench.run()
    assert bench.pool.shape[0] == 2
    assert bench.pool.shape[1] >= 4000
    for kind in range(2, 12):
        bench.submit(of(prompt_of(kind, 100)))
        bench.run()
    rows, columns = bench.pool.shape
    assert rows == bench.limits.pool.rows == 8
    assert columns < 1024


def test_keys_that_collide_share_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefix_index, "_key", lambda before, tokens, block: block + 1)
    bench = large()
    prompts = [prompt_of(kind, 200) for kind in (1, 2, 3, 1)]
    for prompt in prompts:
        group = bench.submit(of(prompt))
        bench.run()
        assert bench.tokens(group) == continuation(prompt, 3)
    assert bench.cached(group) == 199


TOKENS = st.lists(st.integers(0, 1), max_size=5 * BLOCK)


@given(rows=st.lists(st.tuples(TOKENS, st.integers(0, 99)), max_size=8), wanted=TOKENS)
def test_a_find_is_the_longest_common_prefix(rows: list[tuple], wanted: list[int]) -> None:
    index = PrefixIndex()
    made = []
    for place, (tokens, share) in enumerate(rows):
        row = KvRow(place, tokens, None, len(tokens) * share // 99)
        index.note(row, row.length)
        made.append(row)
    most = len(wanted) - 1
    found = index.find(wanted, most, lambda row: row.length)
    best = max(
        (common(row.tokens[: row.length], wanted[: max(0, most)]) for row in made), default=0
    )
    assert (0 if found is None else found.length) == (best if best >= BLOCK else 0)
    if found is not None:
        assert found.row.tokens[: found.length] == wanted[: found.length]
    for row in made:
        index.note(row, 0)
    assert len(index) == 0


def common(one: list[int], other: list[int]) -> int:
    length = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        length += 1
    return length


def test_blocks_hang_together() -> None:
    """The same block after another beginning is another block."""
    index = PrefixIndex()
    for first, second in pairwise([[1] * BLOCK, [2] * BLOCK, [3] * BLOCK]):
        row = KvRow(0, first + second, None, 2 * BLOCK)
        index.note(row, row.length)
    assert index.find([3] * BLOCK * 3, 3 * BLOCK, lambda row: row.length) is None
