"""An engine that records its decode steps says what one that does not says, whoever comes when."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from services.inference.engine import LoadedModel, ModelSpec, Priority
from services.inference.engines import static_decode, torch_loader
from services.inference.engines.torch_loader import TorchLoader
from services.inference.engines.torch_settings import TorchSettings
from tests.conformance.recorder import Recorder, sequence, submit
from tests.unit.inference.engines.plain_recorder import PlainRecorder

CONTEXT = 128
BYTES_PER_TOKEN = 2 * 2 * 2 * 8 * 4  # layers, keys and values, heads, head size, float32
PLAIN = TorchSettings(
    max_batch_size=5,
    max_context=CONTEXT,
    device="cpu",
    dtype="float32",
    step_tokens=32,
    kv_cache_bytes=3 * (CONTEXT + 1) * BYTES_PER_TOKEN,  # too little: rows are taken away
)

ARRIVALS = st.lists(
    st.tuples(
        st.integers(1, 60),
        st.integers(1, 40),
        st.integers(1, 2),
        st.sampled_from(Priority),
        st.integers(0, 6),
        st.booleans(),
    ),
    min_size=1,
    max_size=9,
)

_ALONE: dict[tuple[int, int], list[int]] = {}


async def load(folder: Path, options: TorchSettings) -> LoadedModel:
    return await TorchLoader(options).load(ModelSpec("tiny", "1", folder), lambda share: None)


Running = tuple[asyncio.Runner, LoadedModel, dict[str, LoadedModel], list[PlainRecorder]]


@pytest.fixture
def running(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    """An engine that records nothing, and two that do: one of them guesses tokens as well."""
    recorders: list[PlainRecorder] = []

    def record(*args: Any, **options: Any) -> PlainRecorder:
        recorders.append(PlainRecorder(warm_ups=1))
        return recorders[-1]

    monkeypatch.setattr(static_decode, "LEAST_LENGTH", 1)
    monkeypatch.setattr(static_decode, "EAGER_USES", 1)
    with asyncio.Runner() as runner:
        plain = runner.run(load(tiny_llama, PLAIN))
        monkeypatch.setattr(torch_loader, "choose_recorder", record)
        recording = {
            "recording": runner.run(load(tiny_llama, PLAIN)),
            "guessing": runner.run(load(tiny_llama, replace(PLAIN, speculative_tokens=3))),
        }
        yield runner, plain, recording, recorders
        for loaded in (plain, *recording.values()):
            runner.run(loaded.engine.close())


@settings(
    max_examples=5,
    deadline=None,
    phases=set(Phase) - {Phase.shrink},  # threads: a smaller example may run otherwise
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(arrivals=ARRIVALS)
def test_outputs_are_those_of_single_requests_without_it(
    arrivals: list[tuple], running: Running
) -> None:
    runner, plain, recording, recorders = running
    arrivals = [(40, 40, 1, Priority.NORMAL, 0, False), *arrivals]
    runs = recorders[0].runs
    for loaded in recording.values():
        runner.run(play(arrivals, plain, loaded))
    assert recorders[0].runs > runs


async def play(arrivals: list[tuple], plain: LoadedModel, recording: LoadedModel) -> None:
    recorders: list[tuple[Recorder, int, int, int]] = []
    for length, most, width, priority, wait, cancelled in arrivals:
        group = [request(length, most)] * width
        recorder = submit(recording.engine, *group, priority=priority)
        await asyncio.sleep(wait / 1000)
        if cancelled:
            assert recorder.handle is not None
            recorder.handle.cancel()
        else:
            recorders.append((recorder, length, most, width))
    for recorder, length, most, width in recorders:
        await recorder.until_over()
        assert recorder.failure is None
        expected = await alone(plain, length, most)
        assert [recorder.tokens(index) for index in range(width)] == [expected] * width


async def alone(plain: LoadedModel, length: int, most: int) -> list[int]:
    """What a prompt gives when nothing else runs, nothing is shared and nothing recorded."""
    if (length, most) not in _ALONE:
        recorder = submit(plain.engine, request(length, most), reuse=False)
        _ALONE[length, most] = (await recorder.until_over()).tokens()
    return _ALONE[length, most]


def request(length: int, most: int) -> Any:
    prompt = [(7 * length + 13 * place) % 250 + 3 for place in range(length)]
    return sequence(prompt, most, temperature=0, ignore_eos=True)


def test_seeds_and_scores_are_the_same(running: Running) -> None:
    runner, plain, recording, recorders = running
    options = {"temperature": 1.0, "frequency_penalty": 0.5, "seed": 5, "ignore_eos": True}
    one = sequence(list(range(3, 30)), 40, logprobs=2, **options)

    async def answered(loaded: LoadedModel) -> Recorder:
        return await submit(loaded.engine, one).until_over()

    expected = runner.run(answered(plain))
    actual = runner.run(answered(recording["recording"]))
    assert recorders[0].runs > 20
    assert actual.tokens() == expected.tokens()
    for mine, theirs in zip(actual.scores(), expected.scores(), strict=True):
        assert mine.logprob == pytest.approx(theirs.logprob, abs=1e-4)
