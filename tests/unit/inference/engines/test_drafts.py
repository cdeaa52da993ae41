"""What is drafted from a sequence's own tokens, and when nothing is."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inference.engine import GroupRequest, SamplingParams, SequenceRequest
from services.inference.engines.drafts import (
    LONGEST,
    LONGEST_REST,
    PIECE,
    SHORTEST,
    WALK,
    WIDEST,
    Drafts,
    Lookup,
    Pace,
)
from services.inference.engines.sequences import GroupState, SequenceState
from services.inference.engines.steps import Phase
from tests.unit.inference.engines.scheduler_bench import EOS, Bench, prompt_of, request
from tests.unit.inference.engines.symbolic_memory import continuation

SOME = [1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3]
"""What follows: 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, …"""


def sequence(tokens: list[int], key: int = 0, limit: int = 99, **params: Any) -> SequenceState:
    sampling = SamplingParams(**{"max_tokens": limit, "seed": 1, **params})
    wanted = SequenceRequest(tuple(tokens), sampling)
    group = GroupState(GroupRequest([wanted]), lambda events: None, None)
    return SequenceState(key, group, 0, wanted, limit, list(tokens))


def drafts(most: int = 8) -> Drafts:
    return Drafts(most, frozenset({EOS}))


def propose(
    proposer: Drafts, *sequences: SequenceState, room: int = 99, columns: int = 99
) -> dict[int, list[int]]:
    found = proposer.propose(sequences, room=room, columns=columns)
    return {key: list(draft) for key, draft in found.items()}


def reference(tokens: list[int], most: int) -> list[int]:
    """The latest of the longest occurrences among the latest that end with the same pair."""
    ends = [
        end
        for end in range(len(tokens) - 1, SHORTEST - 1, -1)
        if tokens[end - SHORTEST : end] == tokens[len(tokens) - SHORTEST :]
    ]
    for length in range(LONGEST, SHORTEST - 1, -1):
        for end in ends[:WALK]:
            if end >= length and tokens[end - length : end] == tokens[len(tokens) - length :]:
                followed = list(tokens)
                for place in range(end, end + most):
                    followed.append(followed[place])
                return followed[len(tokens) :]
    return []


@given(
    begin=st.lists(st.integers(0, 2), max_size=12),
    more=st.lists(st.integers(0, 2), max_size=60),
    most=st.integers(1, 9),
)
def test_a_guess_is_what_followed_the_longest_match(
    begin: list[int], more: list[int], most: int
) -> None:
    tokens = list(begin)
    lookup = Lookup(tokens)
    for token in more:
        assert lookup.guess(most) == reference(tokens, most)
        tokens.append(token)


def test_a_long_prompt_is_taken_in_piece_by_piece() -> None:
    tokens = [place % 40_000 for place in range(3 * PIECE)] + [PIECE + 5, PIECE + 6]
    lookup = Lookup(tokens)
    assert lookup.guess(2) == []
    assert lookup.guess(2) == [PIECE + 7, PIECE + 8]


def test_what_repeats_goes_on_repeating() -> None:
    assert Lookup([7, 7, 7]).guess(5) == [7] * 5
    assert Lookup([1, 2, 3, 1, 2, 3, 1, 2]).guess(7) == [3, 1, 2, 3, 1, 2, 3]


@pytest.mark.parametrize(
    ("drafted_and_matched", "then"),
    [
        ([], [8, 8]),
        ([(8, 8)], [8]),
        ([(8, 3)], [4]),
        ([(8, 3), (4, 4)], [8]),
        ([(8, 3), (4, 1)], [2]),
        ([(8, 0)], [0, 1]),
        ([(8, 0), (1, 0)], [0, 0, 1]),
        ([(8, 0), (1, 0), (1, 1)], [2]),
        ([(8, 0), (1, 1), (2, 2), (4, 4)], [8]),
        ([(2, 2)], [8]),  # the guess was short, not wrong
    ],
)
def test_pace_follows_what_was_right(
    drafted_and_matched: list[tuple[int, int]], then: list[int]
) -> None:
    pace = Pace(8)
    for drafted, matched in drafted_and_matched:
        while not pace.allow():
            pass
        pace.note(drafted, matched)
    assert [pace.allow() for _ in then] == then


def test_drafts_that_are_never_right_become_rare() -> None:
    pace = Pace(8)
    tried = 0
    for _ in range(LONGEST_REST * 20):
        if pace.allow():
            tried += 1
            pace.note(1, 0)
    assert 20 <= tried <= 30


@pytest.mark.parametrize(
    ("draft", "most", "more"),
    [
        ([4, 5, 6, 7], 4, {}),
        ([4, 5, 6, 7, 8, 9, 1, 2], 8, {}),
        ([], 0, {}),
        ([4, 5], 8, {"limit": 3}),  # the step gives one more
        ([], 8, {"limit": 1}),
        ([], 8, {"limit": 0}),
        ([4, 5, 6], 8, {"stop_token_ids": frozenset({7})}),
        ([], 8, {"stop_token_ids": frozenset({4})}),
    ],
)
def test_how_much_is_drafted(draft: list[int], most: int, more: dict[str, Any]) -> None:
    assert propose(drafts(most), sequence(SOME, **more)) == ({0: draft} if draft else {})


@pytest.mark.parametrize(("ignore_eos", "draft"), [(False, [3]), (True, [3, EOS, 4])])
def test_no_draft_goes_past_an_end(ignore_eos: bool, draft: list[int]) -> None:
    one = sequence([1, 2, 3, EOS, 4, 1, 2], ignore_eos=ignore_eos)
    assert propose(drafts(3), one) == {0: draft}


@pytest.mark.parametrize(
    ("room", "columns", "count"),
    [(99, 99, 8), (5, 99, 4), (1, 99, 0), (0, 99, 0), (-9, 99, 0), (99, 15, 3), (99, 12, 0)],
)
def test_drafts_take_what_is_left(room: int, columns: int, count: int) -> None:
    found = propose(drafts(), sequence(SOME), room=room, columns=columns)
    assert [len(draft) for draft in found.values()] == ([count] if count else [])


@pytest.mark.parametrize("count", [1, 4, 8, 15, 16, 17, 40])
def test_wide_batches_draft_less(count: int) -> None:
    found = propose(drafts(), *[sequence(SOME, key) for key in range(count)])
    each = min(8, WIDEST // count - 1)
    assert [len(draft) for draft in found.values()] == [each] * count * (each > 0)


def test_padding_stays_worth_it() -> None:
    nothing = [sequence([10, 11, 12], key) for key in range(1, 6)]
    assert propose(drafts(), sequence(SOME), *nothing[:3]) == {0: [4, 5, 6, 7, 8, 9, 1]}
    assert propose(drafts(), sequence(SOME), *nothing) == {}
    short = sequence(SOME, 7, limit=2)
    both = propose(drafts(), sequence(SOME), short, *nothing[:4])
    assert {key: len(draft) for key, draft in both.items()} == {0: 2, 7: 1}


def test_sequences_that_are_gone_are_forgotten() -> None:
    proposer = drafts()
    propose(proposer, sequence(SOME, 1), sequence(SOME, 2))
    proposer.retain({2})
    assert list(proposer._known) == [2]
    proposer.note(1, 3, 0)
    assert len(propose(proposer, sequence(SOME, 1))[1]) == 8


# Through the scheduler.


def test_drafts_that_are_right_save_steps_and_change_nothing() -> None:
    steps: dict[int, int] = {}
    for most in (0, 4):
        bench = Bench(slots=1, step_tokens=64, context=512, speculative_tokens=most)
        group = bench.submit(request((120, 200), kind=1))
        steps[most] = bench.run()
        assert bench.tokens(group) == continuation(prompt_of(1, 120), 200)
    assert bench.drafted > bench.matched > 50
    assert steps[0] - steps[4] == bench.matched


def test_prompts_go_before_drafts() -> None:
    bench = Bench(slots=2, step_tokens=20, context=512, speculative_tokens=4)
    bench.submit(request((120, 50), kind=1))
    while bench.drafted == 0:
        bench.step()
    bench.submit(request((57, 1), kind=2))
    for _ in range(3):
        assert bench.step() == [(Phase.PREFILL, [19]), (Phase.DECODE, [1])]
    before = bench.drafted
    bench.run()
    assert bench.drafted > before


def test_attention_memory_does_not_grow_for_drafts() -> None:
    bench = Bench(slots=1, step_tokens=300, context=512, speculative_tokens=8)
    bench.submit(request((100, 412), kind=1))
    while bench.counts() != (0, 0) or bench.scheduler.due(bench.now):
        columns = bench.memory.columns
        before = {len(s.tokens) for g in bench.heard for s in g.sequences if not g.over}
        bench.step()
        assert bench.memory.columns == columns or not before or max(before) > columns
    assert bench.matched > 0


def test_a_draft_that_was_wrong_is_not_shared() -> None:
    """Whoever takes a row over finds none of what was drafted wrongly."""
    dice = random.Random(5)
    bench = Bench(slots=2, queue_limit=20, step_tokens=64, context=512, speculative_tokens=8)
    talk = prompt_of(1, 100)
    for _ in range(12):
        params = SamplingParams(max_tokens=dice.randrange(1, 20), seed=0)
        group = bench.submit(GroupRequest([SequenceRequest(list(talk), params)]))
        bench.run()
        output = bench.tokens(group)
        assert output == continuation(talk, len(output))
        talk += [*output, dice.randrange(1, 49)]
    assert bench.drafted - bench.matched > 10
