"""Whatever callers do: nothing leaks, nothing is lost, and every answer is its own."""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.errors import QueueFull
from services.inference.engine import Engine, SequenceRequest
from tests.conformance.conftest import ENGINES
from tests.conformance.recorder import Recorder, sequence, submit, until

SUBMIT = st.tuples(
    st.just("submit"),
    st.lists(st.tuples(st.integers(1, 70), st.integers(0, 12)), min_size=1, max_size=5),
    st.sampled_from(["", "a", "b"]),
)
TOUCH = st.tuples(
    st.sampled_from(["cancel", "pause", "resume", "finish"]), st.integers(0, 9), st.integers(0, 4)
)
WAIT = st.tuples(st.just("wait"), st.integers(0, 3), st.just(0))


@pytest.fixture(params=ENGINES)
def running(
    request: pytest.FixtureRequest, tiny_llama: Path
) -> Iterator[tuple[asyncio.Runner, Engine]]:
    """An engine that lives through all examples, with what they left in its memory."""
    with asyncio.Runner() as runner:
        loaded = runner.run(ENGINES[request.param](tiny_llama, 3, 6, 128))
        yield runner, loaded.engine
        runner.run(loaded.engine.close())


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(actions=st.lists(st.one_of(SUBMIT, TOUCH, WAIT), max_size=25))
def test_nothing_leaks(actions: list[tuple], running: tuple[asyncio.Runner, Engine]) -> None:
    runner, engine = running
    runner.run(play(actions, engine))


async def play(actions: list[tuple], engine: Engine) -> None:
    recorders: list[tuple[Recorder, list[tuple[int, int]]]] = []
    cancelled: set[int] = set()
    for action, first, second in actions:
        if action == "submit":
            group = [one(length, most) for length, most in first]
            with contextlib.suppress(QueueFull):
                recorders.append((submit(engine, *group, principal=second), first))
        elif action == "wait":
            await asyncio.sleep(first / 1000)
        elif recorders:
            place = first % len(recorders)
            recorder = recorders[place][0]
            assert recorder.handle is not None
            if action == "cancel":
                recorder.handle.cancel()
                cancelled.add(place)
            elif action == "finish" and second < len(recorders[place][1]):
                recorder.finish(second)
            elif action == "pause":
                recorder.handle.pause()
            elif action == "resume":
                recorder.handle.resume()
        running, waiting = engine.status().running, engine.status().waiting
        assert 0 <= running <= 3
        assert 0 <= waiting <= 9
    for place, (recorder, _) in enumerate(recorders):
        assert recorder.handle is not None
        recorder.handle.resume()
        if place not in cancelled:
            await recorder.until_over()
    await until(lambda: (engine.status().running, engine.status().waiting) == (0, 0))
    for place, (recorder, group) in enumerate(recorders):
        if place not in cancelled:
            assert recorder.failure is None
            for index in recorder.ends:
                assert recorder.tokens(index) == await alone(engine, *group[index])


async def alone(engine: Engine, length: int, most: int) -> list[int]:
    """What a sequence gives when nothing else runs."""
    known = _ALONE.get((engine.info.name, length, most))
    if known is None:
        recorder = await submit(engine, one(length, most)).until_over()
        known = _ALONE[engine.info.name, length, most] = recorder.tokens()
        assert len(known) == most
    return known


_ALONE: dict[tuple[str, int, int], list[int]] = {}


def one(length: int, most: int) -> SequenceRequest:
    prompt = [(7 * length + 13 * place) % 250 + 3 for place in range(length)]
    return sequence(prompt, most, temperature=0, ignore_eos=True)
