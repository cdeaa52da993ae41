"""Counting: tallies, labels, and what a request that ended tells."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inference.engine import GroupRequest, SamplingParams, SequenceRequest
from services.inference.engines.echo_engine import EchoEngine, EchoSettings
from services.metering import Outcome, Used
from telemetry import work
from telemetry.registry import OTHER, REGISTRY, Known
from telemetry.tally import Tally

BOUNDS = (0.5, 1.0, 4.0)


@given(st.lists(st.floats(0, 10)))
def test_a_tally_counts_like_a_histogram(values: list[float]) -> None:
    tally = Tally(BOUNDS)
    for value in values:
        tally.add(value)
    expected = [(str(bound), sum(v <= bound for v in values)) for bound in BOUNDS]
    assert tally.buckets() == [*expected, ("+Inf", len(values))]
    assert tally.count == len(values)
    assert tally.total == pytest.approx(sum(values))


def test_a_label_takes_so_many_values() -> None:
    known = Known(2)
    assert [known(each) for each in "abcab"] == ["a", "b", OTHER, "a", "b"]


@pytest.mark.parametrize(
    ("method", "operation"),
    [
        ("penstock.inference.v1.InferenceService/Chat", "chat"),
        ("penstock.inference.v1.InferenceService/StreamChat", "chat"),
        ("penstock.inference.v1.InferenceService/StreamComplete", "text_completion"),
        ("penstock.inference.v1.InferenceService/Infer", "infer"),
        ("penstock.embedding.v1.EmbeddingService/Embed", "embeddings"),
        ("penstock.embedding.v1.EmbeddingService/Rerank", "rerank"),
        ("penstock.image.v1.ImageService/StreamGenerateImage", "generate_image"),
    ],
)
def test_work_is_called_what_the_conventions_call_it(method: str, operation: str) -> None:
    assert work.operation_of(method) == operation


@pytest.mark.parametrize("error", ["", "failed"])
def test_times_of_tokens_are_those_of_requests_that_succeeded(error: str) -> None:
    model = f"timed-{error}"
    labels = {
        "gen_ai_operation_name": "chat",
        "gen_ai_provider_name": "penstock",
        "gen_ai_request_model": model,
    }
    used = Used(Outcome.OK, 7, 5, 3, 0, 0.5, 2.0, 1.0, 0.25)
    work.tell("x/Chat", model, error, used)

    def value(name: str, **more: str) -> float | None:
        return REGISTRY.get_sample_value(name, more)

    count = 0 if error else 1
    first, following = "time_to_first_token", "time_per_output_token"
    assert value(f"gen_ai_server_{first}_seconds_count", **labels) == count
    assert value(f"gen_ai_server_{following}_seconds_sum", **labels) == 0.25 * count
    duration = "gen_ai_server_request_duration_seconds_sum"
    assert value(duration, **labels, error_type=error) == 2.5
    kinds = ("prompt", "cached", "completion")
    assert [value("penstock_tokens_total", model=model, type=kind) for kind in kinds] == [7, 3, 5]


async def test_engines_tell_their_batches_and_how_soon_a_cancellation_holds() -> None:
    engine = EchoEngine(EchoSettings())
    admitted = asyncio.Event()
    params = SamplingParams(max_tokens=4000, seed=1, ignore_eos=True)
    group = GroupRequest([SequenceRequest([65], params) for _ in range(3)])
    handle = engine.submit(group, lambda _: admitted.set())
    await admitted.wait()
    held = engine.status().kv_usage
    handle.cancel()
    handle.cancel()
    figures = engine.status().figures
    assert figures is not None
    async with asyncio.timeout(20):
        while not figures.cancel_s.count:  # noqa: ASYNC110 - engines have no event for it
            await asyncio.sleep(0)
    assert held is not None
    assert 0 < held <= 1
    assert engine.status().kv_usage == 0
    assert figures.cancel_s.count == 1
    assert figures.batch.total == 3 * figures.batch.count > 0
    assert 0 <= figures.batch.count - figures.step_s.count <= 1
    await engine.close()
