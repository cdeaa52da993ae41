"""Queue, slots, cancellation, pause, deadlines and the end."""

import asyncio

import pytest

from services.errors import (
    DeadlineExceeded,
    InvalidArgument,
    QueueFull,
    Unavailable,
)
from services.inference.engine import EndReason, Engine, EngineStatus, LoadedModel, Priority
from tests.conformance.conftest import Make
from tests.conformance.recorder import Recorder, computed, sequence, submit, until

PROMPT = [ord(character) - 30 for character in "a-long-story"]
"""Tokens of the tiny models' vocabulary that are a text: some backends are given that."""


def endless(engine: Engine, count: int = 1, **more: object) -> Recorder:
    """Runs until it is stopped (or the context ends, seconds later)."""
    return submit(
        engine, *[sequence(PROMPT, 100_000, i, ignore_eos=True) for i in range(count)], **more
    )


def counts(engine: Engine) -> tuple[int, int]:
    status: EngineStatus = engine.status()
    return status.running, status.waiting


async def test_cancel_frees_within_a_step(loaded: LoadedModel) -> None:
    engine = loaded.engine
    recorder, clock = endless(engine, 3), endless(engine)
    await recorder.until(lambda: len(recorder.events) > 9)
    await clock.until(lambda: clock.admitted)
    assert counts(engine) == (4, 0)
    assert recorder.handle is not None
    recorder.handle.cancel()
    heard, ticked, before = len(recorder.events), len(clock.tokens()), computed(engine)
    await clock.steps()
    assert counts(engine) == (1, 0)
    recorder.handle.cancel()
    recorder.handle.finish(0)
    recorder.handle.pause()
    recorder.handle.resume()
    assert clock.handle is not None
    clock.handle.cancel()
    other = await submit(engine, sequence(PROMPT, 20, ignore_eos=True)).until_over()
    assert counts(engine) == (0, 0)
    assert len(recorder.events) == heard, "an event came after cancel"
    if before is not None:
        others = len(other.tokens()) + len(clock.tokens()) - ticked
        assert (computed(engine) or 0) - before <= others + 3, "more than one step of it"


async def test_cancel_in_the_queue(make: Make) -> None:
    engine = (await make(slots=1)).engine
    running, waiting = endless(engine), endless(engine)
    await until(lambda: counts(engine) == (1, 1))
    assert waiting.handle is not None
    waiting.handle.cancel()
    await running.steps()
    assert counts(engine) == (1, 0)
    assert running.handle is not None
    running.handle.cancel()
    await submit(engine, sequence(PROMPT, 4, ignore_eos=True)).until_over()
    assert counts(engine) == (0, 0)
    assert waiting.events == []


async def test_finish_ends_one_sequence(loaded: LoadedModel) -> None:
    engine = loaded.engine
    completed = engine.status().completed_24h
    clock = endless(engine)
    recorder = submit(
        engine,
        sequence(PROMPT, 100_000, ignore_eos=True),
        sequence(PROMPT, 50, ignore_eos=True),
        sequence(PROMPT, 100_000, ignore_eos=True),
    )
    await recorder.until(lambda: 1 in recorder.ends)
    recorder.finish(0)
    recorder.finish(0)
    await clock.steps()
    assert counts(engine) == (2, 0)
    before = len(recorder.tokens(2))
    await recorder.until(lambda: len(recorder.tokens(2)) > before + 2)
    recorder.finish(2)
    await clock.steps()
    assert counts(engine) == (1, 0)
    assert recorder.ends == {1}
    assert clock.handle is not None
    clock.handle.cancel()
    assert engine.status().completed_24h == completed + 1


async def test_pause_keeps_the_slot_and_resume_goes_on(loaded: LoadedModel) -> None:
    engine = loaded.engine
    free = submit(engine, sequence(PROMPT, 200, 5, ignore_eos=True))
    await free.until_over()
    recorder = submit(engine, sequence(PROMPT, 200, 5, ignore_eos=True))
    other = endless(engine)
    assert recorder.handle is not None
    await recorder.until(lambda: len(recorder.tokens()) > 5)
    recorder.handle.pause()
    await asyncio.sleep(0.05)
    heard, mates = len(recorder.events), len(other.events)
    await other.until(lambda: len(other.events) > mates + 5)
    assert len(recorder.events) == heard, "a paused group was stepped"
    assert counts(engine) == (2, 0)
    recorder.handle.resume()
    await recorder.until_over()
    assert recorder.tokens() == free.tokens()
    assert other.handle is not None
    other.handle.cancel()


async def test_a_group_that_is_paused_at_once_comes_to_its_end(make: Make) -> None:
    """Also where it has more sequences than can run together."""
    engine = (await make(slots=2)).engine
    recorder = submit(engine, *[sequence(PROMPT, 5, ignore_eos=True) for _ in range(5)])
    assert recorder.handle is not None
    recorder.handle.pause()
    await asyncio.sleep(0.02)
    recorder.handle.resume()
    await recorder.until_over()


async def test_pause_of_all_and_cancel(loaded: LoadedModel) -> None:
    recorder = endless(loaded.engine)
    assert recorder.handle is not None
    await recorder.until(lambda: recorder.admitted)
    recorder.handle.pause()
    await asyncio.sleep(0.02)
    recorder.handle.cancel()
    await submit(loaded.engine, sequence(PROMPT, 4, ignore_eos=True)).until_over()
    assert counts(loaded.engine) == (0, 0)


async def test_deadline_while_running(loaded: LoadedModel) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + 0.15
    recorder = endless(loaded.engine, 2, deadline=deadline)
    await recorder.until_over()
    assert loop.time() >= deadline, "it was not over yet"
    assert recorder.admitted
    assert isinstance(recorder.failure, DeadlineExceeded)
    await submit(loaded.engine, sequence(PROMPT, 4, ignore_eos=True)).until_over()
    assert counts(loaded.engine) == (0, 0)


async def test_deadline_in_the_queue(make: Make) -> None:
    engine = (await make(slots=1)).engine
    loop = asyncio.get_running_loop()
    running = endless(engine)
    waiting = endless(engine, deadline=loop.time() + 0.1)
    await waiting.until_over()
    assert not waiting.admitted
    assert isinstance(waiting.failure, DeadlineExceeded)
    assert counts(engine) == (1, 0)
    assert running.handle is not None
    running.handle.cancel()


async def test_deadline_passes_while_everything_is_paused(loaded: LoadedModel) -> None:
    loop = asyncio.get_running_loop()
    recorder = endless(loaded.engine, deadline=loop.time() + 0.1)
    assert recorder.handle is not None
    recorder.handle.pause()
    await recorder.until_over()
    assert isinstance(recorder.failure, DeadlineExceeded)


async def test_a_deadline_in_the_past(loaded: LoadedModel) -> None:
    loop = asyncio.get_running_loop()
    recorder = endless(loaded.engine, deadline=loop.time() - 1)
    await recorder.until_over()
    assert isinstance(recorder.failure, DeadlineExceeded)
    assert recorder.events == recorder.events[-1:]


async def test_a_full_queue_refuses_with_a_time(make: Make) -> None:
    engine = (await make(slots=1, queue_limit=2)).engine
    recorders = [endless(engine) for _ in range(3)]
    with pytest.raises(QueueFull) as refusal:
        endless(engine)
    assert refusal.value.retry_after_s
    assert 0 < refusal.value.retry_after_s <= 60
    await until(lambda: counts(engine) == (1, 2))
    assert recorders[0].handle is not None
    recorders[0].handle.cancel()
    recorders.append(endless(engine))
    for recorder in recorders:
        assert recorder.handle is not None
        recorder.handle.cancel()


async def test_what_could_never_run_is_an_argument_error(make: Make) -> None:
    engine = (await make(slots=2, queue_limit=2)).engine
    with pytest.raises(InvalidArgument):
        endless(engine, 5)


async def test_groups_are_admitted_whole(make: Make) -> None:
    engine = (await make(slots=3)).engine
    first = endless(engine, 2)
    await first.until(lambda: first.admitted)
    second = submit(engine, *[sequence(PROMPT, 4, i, ignore_eos=True) for i in range(2)])
    third = submit(engine, sequence(PROMPT, 4, ignore_eos=True))
    await asyncio.sleep(0.05)
    assert counts(engine) == (2, 3), "half a group runs, or a later one overtook"
    assert first.handle is not None
    first.finish(0)
    await second.until_over()
    await third.until_over()
    first.handle.cancel()


async def test_a_group_larger_than_the_slots_still_works(make: Make) -> None:
    engine = (await make(slots=2, queue_limit=16)).engine
    small = submit(engine, sequence(PROMPT, 20, ignore_eos=True))
    large = submit(engine, *[sequence(PROMPT, 6, i, ignore_eos=True) for i in range(7)])
    after = submit(engine, sequence(PROMPT, 3, ignore_eos=True))
    for recorder in (small, large, after):
        await recorder.until_over()
    assert [len(large.tokens(index)) for index in range(7)] == [6] * 7
    assert counts(engine) == (0, 0)


async def test_principals_take_turns(make: Make) -> None:
    engine = (await make(slots=1, queue_limit=20)).engine
    order: list[str] = []
    blocker = endless(engine)
    waiting = [
        submit(engine, sequence(PROMPT, 2, ignore_eos=True), principal=who)
        for who in ("greedy", "greedy", "greedy", "greedy", "modest", "third")
    ]
    urgent = submit(
        engine, sequence(PROMPT, 2, ignore_eos=True), principal="late", priority=Priority.HIGH
    )

    async def note(name: str, recorder: Recorder) -> None:
        await recorder.until_over()
        order.append(name)

    names = ("greedy", "greedy", "greedy", "greedy", "modest", "third")
    async with asyncio.TaskGroup() as tasks:
        for name, recorder in zip(names, waiting, strict=True):
            tasks.create_task(note(name, recorder))
        tasks.create_task(note("urgent", urgent))
        await blocker.until(lambda: blocker.admitted)
        assert blocker.handle is not None
        blocker.handle.cancel()
    assert order[0] == "urgent"
    assert order.index("modest") <= 3
    assert order.index("third") <= 3


async def test_status_counts(make: Make) -> None:
    engine = (await make(slots=2)).engine
    assert counts(engine) == (0, 0)
    assert engine.status().completed_24h == 0
    first, second, third = endless(engine), endless(engine), endless(engine)
    await until(lambda: counts(engine) == (2, 1))
    for recorder in (first, second, third):
        assert recorder.handle is not None
        recorder.handle.cancel()
    await submit(engine, sequence(PROMPT, 2)).until_over()
    assert counts(engine) == (0, 0)
    assert engine.status().completed_24h == 1


async def test_probe_answers_also_under_load(loaded: LoadedModel) -> None:
    await loaded.engine.probe()
    recorder = endless(loaded.engine)
    await recorder.until(lambda: recorder.admitted)
    await asyncio.wait_for(loaded.engine.probe(), 60)
    assert recorder.handle is not None
    recorder.handle.cancel()


async def test_close_fails_what_runs_and_waits(make: Make) -> None:
    engine = (await make(slots=1)).engine
    running, waiting = endless(engine), endless(engine)
    await running.until(lambda: running.admitted)
    await engine.close()
    for recorder in (running, waiting):
        assert isinstance(recorder.failure, Unavailable)
    assert counts(engine) == (0, 0)
    with pytest.raises(Unavailable):
        endless(engine)
    with pytest.raises(Unavailable):
        await engine.probe()
    await engine.close()


async def test_a_sink_that_raises_loses_its_group_only(
    loaded: LoadedModel, caplog: pytest.LogCaptureFixture
) -> None:
    from services.inference.engine import GroupRequest

    def broken(events: object) -> None:
        raise RuntimeError("broken sink")

    loaded.engine.submit(GroupRequest([sequence(PROMPT, 1000, ignore_eos=True)]), broken)
    other = await submit(loaded.engine, sequence(PROMPT, 20, ignore_eos=True)).until_over()
    assert other.end().reason is EndReason.LENGTH
    assert counts(loaded.engine) == (0, 0)
    assert "broken sink" in caplog.text


async def test_the_loop_stays_free(loaded: LoadedModel) -> None:
    """While sequences run, the event loop turns: nothing in the engine blocks it."""
    recorder = endless(loaded.engine, 4)
    loop = asyncio.get_running_loop()
    gaps: list[float] = []
    for _ in range(50):
        start = loop.time()
        await asyncio.sleep(0)
        gaps.append(loop.time() - start)
        await asyncio.sleep(0.002)
    assert recorder.handle is not None
    recorder.handle.cancel()
    assert sorted(gaps)[len(gaps) // 2] < 0.05
