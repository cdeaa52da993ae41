"""The torch engine with too little memory: prefixes shared, rows taken away, outputs unchanged."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from services.inference.engine import LoadedModel, ModelSpec, Priority
from services.inference.engines.torch_loader import TorchLoader
from services.inference.engines.torch_settings import TorchSettings
from tests.conformance.recorder import Recorder, sequence, submit, until

CONTEXT = 128
BYTES_PER_TOKEN = 2 * 2 * 2 * 8 * 4  # layers, keys and values, heads, head size, float32

SUBMIT = st.tuples(
    st.just("submit"),
    # Prompts of one kind begin alike; up to where, says their own tail.
    st.tuples(st.integers(0, 1), st.integers(1, 60), st.integers(0, 20)),
    st.tuples(st.integers(1, 40), st.integers(1, 3), st.sampled_from(Priority)),
)
TOUCH = st.tuples(
    st.sampled_from(["cancel", "pause", "resume"]), st.integers(0, 9), st.integers(0, 2)
)
WAIT = st.tuples(st.just("wait"), st.integers(0, 20), st.just(0))

_ALONE: dict[tuple[int, ...], list[int]] = {}


def prompt_of(kind: int, shared: int, own: int) -> list[int]:
    begin = [(7 * kind + 13 * place) % 250 + 3 for place in range(shared)]
    return begin + [(11 * shared + 5 * place) % 250 + 3 for place in range(own)]


async def load(folder: Path, contexts: int) -> LoadedModel:
    loader = TorchLoader(
        TorchSettings(
            max_batch_size=4,
            max_context=CONTEXT,
            device="cpu",
            dtype="float32",
            step_tokens=32,
            kv_cache_bytes=contexts * (CONTEXT + 1) * BYTES_PER_TOKEN,
        )
    )
    return await loader.load(ModelSpec("tiny", "1", folder), lambda share: None)


@pytest.fixture
def running(tiny_llama: Path) -> Iterator[tuple[asyncio.Runner, list[LoadedModel]]]:
    """Engines with memory for one, two and three contexts; they live through all examples."""
    with asyncio.Runner() as runner:
        engines = [runner.run(load(tiny_llama, contexts)) for contexts in (1, 2, 3)]
        yield runner, engines
        for loaded in engines:
            runner.run(loaded.engine.close())


@settings(
    max_examples=10,
    deadline=None,
    phases=set(Phase) - {Phase.shrink},  # threads: a smaller example may run otherwise
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    actions=st.lists(st.one_of(SUBMIT, SUBMIT, TOUCH, WAIT), min_size=4, max_size=30),
    size=st.integers(0, 2),
)
def test_outputs_are_those_of_single_requests(
    actions: list[tuple], size: int, running: tuple[asyncio.Runner, list[LoadedModel]]
) -> None:
    runner, engines = running
    runner.run(play(actions, engines[size]))


async def play(actions: list[tuple], loaded: LoadedModel) -> None:
    recorders: list[tuple[Recorder, list[int], int, int]] = []
    try:
        await act(actions, loaded, recorders)
    finally:  # whatever failed, the next example finds an engine with nothing to do
        for recorder, *_ in recorders:
            assert recorder.handle is not None
            recorder.handle.cancel()


async def act(
    actions: list[tuple],
    loaded: LoadedModel,
    recorders: list[tuple[Recorder, list[int], int, int]],
) -> None:
    for action, first, second in actions:
        if action == "submit":
            prompt, (most, width, priority) = prompt_of(*first), second
            group = [sequence(prompt, most, temperature=0, ignore_eos=True)] * width
            recorders.append(
                (submit(loaded.engine, *group, priority=priority), prompt, most, width)
            )
        elif action == "wait":
            await asyncio.sleep(first / 1000)
        elif recorders:
            handle = recorders[first % len(recorders)][0].handle
            assert handle is not None
            getattr(handle, action)()
            if action == "cancel":
                recorders.pop(first % len(recorders))
    for recorder, *_ in recorders:  # all first: one may wait for the row of another that is paused
        assert recorder.handle is not None
        recorder.handle.resume()
    for recorder, *_ in recorders:
        await recorder.until_over()
    pool = loaded.engine._scheduler._residents.pool  # type: ignore[attr-defined]
    await until(lambda: pool.owned == 0)
    for recorder, prompt, most, width in recorders:
        assert recorder.failure is None
        expected = await alone(loaded, prompt, most)
        for index in range(width):
            assert recorder.tokens(index) == expected


async def alone(loaded: LoadedModel, prompt: list[int], most: int) -> list[int]:
    """What a prompt gives when nothing else runs and nothing is shared."""
    known = _ALONE.get((most, *prompt))
    if known is None:
        request = sequence(prompt, most, temperature=0, ignore_eos=True)
        recorder = await submit(loaded.engine, request, reuse=False).until_over()
        assert recorder.end().cached_tokens == 0
        known = _ALONE[most, *prompt] = recorder.tokens()
    return known


async def test_rows_are_taken_away_and_sampling_goes_on_where_it_was(tiny_llama: Path) -> None:
    """With seeds and penalties too: what sampling remembers is made anew."""
    loaded = await load(tiny_llama, contexts=1)
    options = {"temperature": 1.0, "frequency_penalty": 0.5, "ignore_eos": True}
    try:
        low = sequence(prompt_of(0, 30, 0), 60, seed=5, **options)
        expected = await submit(loaded.engine, low).until_over()
        recorder = submit(loaded.engine, low, priority=Priority.LOW)
        await recorder.until(lambda: len(recorder.tokens()) >= 20)
        high = sequence(prompt_of(1, 60, 0), 60, temperature=0, ignore_eos=True)
        await submit(loaded.engine, high, priority=Priority.HIGH).until_over()
        assert len(recorder.tokens()) < 60
        await recorder.until_over()
        assert recorder.tokens() == expected.tokens()
    finally:
        await loaded.engine.close()


async def test_a_stream_that_nobody_reads_gives_its_row_to_who_waits(tiny_llama: Path) -> None:
    """And goes on, when it is read again, where it was."""
    loaded = await load(tiny_llama, contexts=1)
    options = {"temperature": 1.0, "frequency_penalty": 0.5, "ignore_eos": True}
    try:
        slow = sequence(prompt_of(0, 30, 0), 90, seed=5, **options)
        expected = await submit(loaded.engine, slow).until_over()
        recorder = submit(loaded.engine, slow)
        await recorder.until(lambda: len(recorder.tokens()) >= 10)
        assert recorder.handle is not None
        recorder.handle.pause()
        quick = sequence(prompt_of(1, 60, 0), 60, temperature=0, ignore_eos=True)
        await submit(loaded.engine, quick).until_over()
        recorder.handle.resume()
        await recorder.until_over()
        assert recorder.tokens() == expected.tokens()
    finally:
        await loaded.engine.close()
