"""Who loses memory when there is too little, and that nothing is lost but time."""

import pytest

from services.errors import ContextLengthExceeded
from services.inference.engine import Admitted, Priority, PromptScored
from services.inference.engines.sequences import GroupState, Stage
from tests.unit.inference.engines.scheduler_bench import Bench, request
from tests.unit.inference.engines.symbolic_memory import continuation


def tight(slots: int = 4, kv_tokens: int = 2 * 257) -> Bench:
    """Memory for two whole contexts."""
    return Bench(slots, 40, 64, context=256, kv_tokens=kv_tokens)


def watch(bench: Bench, groups: dict[str, GroupState]) -> list[str]:
    """Steps to the end; names of groups whose sequences lost their rows, in order."""
    lost: list[str] = []
    had: set[str] = set()
    while bench.scheduler.due(bench.now):
        bench.step()
        running = {n for n, g in groups.items() if g.sequences[0].stage is Stage.RUNNING}
        waiting = {n for n, g in groups.items() if g.sequences[0].stage is Stage.WAITING}
        lost += sorted(had & waiting)
        had = running
    return lost


def check_outputs(bench: Bench) -> None:
    for group in bench.heard:
        assert sum(isinstance(event, Admitted) for event in bench.heard[group]) == 1
        for index, sequence in enumerate(group.sequences):
            expected = continuation(sequence.request.prompt, sequence.limit)
            assert bench.tokens(group, index) == expected


def test_growth_takes_the_row_that_came_last() -> None:
    bench = tight()
    groups = {name: bench.submit(request((4, 250))) for name in ("first", "second")}
    bench.step()
    groups["third"] = bench.submit(request((4, 250)))
    assert watch(bench, groups) == ["third"]
    check_outputs(bench)


def test_growth_takes_lower_priorities_then_paused_ones_first() -> None:
    for name, paused in (("low", False), ("paused", True)):
        bench = tight()
        low = Priority.LOW if name == "low" else Priority.NORMAL
        groups = {
            name: bench.submit(request((4, 250), priority=low)),
            "one": bench.submit(request((4, 250))),
            "two": bench.submit(request((4, 250))),
        }
        bench.step()
        bench.step()
        if paused:
            bench.scheduler.pause(groups[name])
        assert watch(bench, groups)[:1] == [name]
        bench.scheduler.resume(groups[name])
        bench.run()
        check_outputs(bench)


def test_a_higher_priority_takes_a_row_and_the_loser_goes_on_from_what_is_kept() -> None:
    bench = Bench(slots=2, queue_limit=9, step_tokens=64, context=1024)
    lows = [bench.submit(request((30, 20), priority=Priority.LOW)) for _ in range(2)]
    for _ in range(3):
        bench.step()
    high = bench.submit(request((10, 5), priority=Priority.HIGH))
    before = bench.prefilled
    bench.step()
    assert len(bench.tokens(high)) == 1
    assert [low.sequences[0].stage for low in lows] == [Stage.RUNNING, Stage.WAITING]
    waiting = bench.submit(request((10, 5), priority=Priority.LOW))
    while not lows[1].over:
        bench.step()
        assert waiting.sequences[0].stage is Stage.WAITING or lows[0].over or lows[1].over
    bench.run()
    assert bench.prefilled - before == 10 + 10
    check_outputs(bench)


def test_equals_do_not_take_from_each_other() -> None:
    bench = Bench(slots=1, queue_limit=9)
    first = bench.submit(request((4, 30)))
    bench.step()
    bench.submit(request((4, 3)))
    bench.step()
    assert first.sequences[0].stage is Stage.RUNNING


def test_higher_priorities_that_keep_coming_let_every_loser_gain_a_token() -> None:
    bench = Bench(slots=1, queue_limit=99, step_tokens=64)
    low = bench.submit(request((20, 12), priority=Priority.LOW))
    bench.step()
    for _ in range(60):
        if low.over:
            break
        high = bench.submit(request((3, 1), priority=Priority.HIGH))
        gained = len(bench.tokens(low))
        while not high.over:
            bench.step()
        while len(bench.tokens(low)) == gained:  # nobody is there: it gets its row again
            bench.step()
    assert low.over
    check_outputs(bench)


def test_a_scored_prompt_that_loses_its_row_is_reported_once() -> None:
    bench = Bench(slots=1, queue_limit=9, step_tokens=16, context=128)
    low = bench.submit(request((100, 4), scored=True, priority=Priority.LOW))
    for _ in range(9):
        bench.step()
    assert len(bench.tokens(low)) > 0
    bench.submit(request((3, 1), priority=Priority.HIGH))
    bench.run()
    scored = [event for event in bench.heard[low] if isinstance(event, PromptScored)]
    assert len(scored) == 1
    assert len(scored[0].scores) == 99
    check_outputs(bench)


def test_a_scored_prompt_that_is_paused_and_loses_its_row_is_scored_anew() -> None:
    bench = Bench(slots=1, queue_limit=9, step_tokens=16, context=128)
    low = bench.submit(request((100, 4), scored=True, priority=Priority.LOW))
    for _ in range(3):
        bench.step()
    bench.scheduler.pause(low)
    bench.submit(request((3, 1), priority=Priority.HIGH))
    bench.run()
    bench.scheduler.resume(low)
    bench.run()
    [scored] = [event for event in bench.heard[low] if isinstance(event, PromptScored)]
    assert [score.token_id for score in scored.scores] == low.sequences[0].tokens[1:100]
    check_outputs(bench)


def test_a_group_too_large_for_the_memory_runs_part_by_part() -> None:
    bench = tight(slots=8)
    group = bench.submit(request(*[(100, 30)] * 8))
    small = bench.submit(request((4, 4)))
    bench.step()
    assert small.sequences[0].stage is Stage.WAITING
    assert 1 < bench.counts()[0] < 8
    bench.run()
    assert group.over
    check_outputs(bench)


def test_what_could_never_fit_is_refused_with_the_arithmetic() -> None:
    bench = tight(kv_tokens=40)
    with pytest.raises(ContextLengthExceeded, match=r"20 tokens and 30 may follow.* 65 .* 40"):
        bench.submit(request((20, 30)))
    assert bench.submit(request((20, 12)))
    bench.run()
    check_outputs(bench)


def test_memory_that_was_lost_fails_what_runs_and_nothing_else() -> None:
    bench = Bench(slots=1, queue_limit=9)
    running, waiting = bench.submit(request((20, 9))), bench.submit(request((20, 9)))
    bench.step()
    bench.step()
    bench.scheduler.memory_lost(MemoryError())
    bench.run()
    assert running.over
    assert len(bench.tokens(running)) < 9
    assert bench.tokens(waiting) == continuation(waiting.sequences[0].request.prompt, 9)
