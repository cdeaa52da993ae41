"""Places in a trace: read, kept, passed on; recorded only where somebody wants it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator

import pytest

from telemetry import tracing
from telemetry.otlp import OtlpRecorder
from tests.e2e.trace_collector import Collector, collecting

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = {"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "vendor=1"}


def test_what_came_is_passed_on() -> None:
    trace, span = tracing.begin("call", SAMPLED, {})
    assert not span.recorded
    assert (trace.trace_id, trace.parent_id) == (TRACE, SPAN)
    assert tracing.headers(trace) == {
        "traceparent": f"00-{TRACE}-{trace.span_id}-01",
        "tracestate": "vendor=1",
    }


@pytest.mark.parametrize("state", ["x" * 513, "schön=1", "a\nb", b"bytes", 7, None, ""])
def test_a_state_that_is_no_header_is_left_out(state: object) -> None:
    trace, _ = tracing.begin("call", SAMPLED | {"tracestate": state}, {})
    assert list(tracing.headers(trace)) == ["traceparent"]


async def test_each_task_has_a_place_of_its_own() -> None:
    async def work(trace_id: str) -> str:
        trace, _ = tracing.begin("call", {"traceparent": f"00-{trace_id}-{SPAN}-01"}, {})
        tracing.enter(trace)
        await asyncio.sleep(0)
        return tracing.headers()["traceparent"].split("-")[1]

    ids = [f"{number:032x}" for number in range(1, 4)]
    assert await asyncio.gather(*map(work, ids)) == ids
    assert tracing.headers() == {}


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as started:
        yield started


@pytest.fixture
def recorder(collector: Collector) -> Iterator[OtlpRecorder]:
    recorder = OtlpRecorder("tested", "1", f"http://127.0.0.1:{collector.port}")
    tracing.record_with(recorder)
    yield recorder
    tracing.record_with(None)
    recorder.close()


def test_spans_are_recorded_below_the_callers(recorder: OtlpRecorder, collector: Collector) -> None:
    trace, span = tracing.begin("call", SAMPLED, {"rpc.method": "x/Y"})
    inner, child = span.child("work", {})
    assert inner.parent_id == trace.span_id
    assert inner.state == "vendor=1"
    child.note({"gen_ai.usage.input_tokens": 3})
    child.end("failed")
    span.end(name="call of Y")
    recorder.close()
    found = {seen.name: seen for seen in collector.spans if seen.trace_id == TRACE}
    assert found["call of Y"].parent_id == SPAN
    assert found["call of Y"].attributes == {"rpc.method": "x/Y"}
    assert not found["call of Y"].failed
    assert found["work"].parent_id == trace.span_id
    assert found["work"].attributes == {"gen_ai.usage.input_tokens": 3, "error.type": "failed"}
    assert found["work"].failed


def test_what_the_caller_did_not_sample_is_not_recorded(
    recorder: OtlpRecorder, collector: Collector
) -> None:
    trace, span = tracing.begin("call", {"traceparent": f"00-{'2' * 32}-{SPAN}-00"}, {})
    assert not span.recorded
    assert trace.flags == "00"
    assert trace.trace_id == "2" * 32
    span.end()
    recorder.close()
    assert not [seen for seen in collector.spans if seen.trace_id == "2" * 32]


def test_a_collector_that_is_away_holds_nothing_up() -> None:
    with collecting() as gone:
        port = gone.port
    recorder = OtlpRecorder("tested", "1", f"http://127.0.0.1:{port}")
    _, span = recorder.begin("call", None, {})
    span.end()
    recorder.close()  # the SDK alone would try for minutes


def test_without_traces_nothing_of_the_sdk_is_imported() -> None:
    code = (
        "import sys, gateway.app, services.rpc.process\n"
        "sys.exit(any(name.startswith('opentelemetry.sdk') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=100).returncode == 0
