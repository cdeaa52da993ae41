"""What the edge tells of requests, over real sockets."""

from __future__ import annotations

import asyncio

import pytest

from telemetry.registry import REGISTRY
from tests.integration.gateway.conftest import Edge
from tests.integration.gateway.test_edge_streams import CHAT, chat, raw_request, read_head


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def errors(reason: str) -> float:
    return value("penstock_http_errors_total", dialect="openai", reason=reason)


def requests(status: str) -> float:
    return value(
        "http_server_request_duration_seconds_count",
        http_request_method="POST",
        http_route=CHAT,
        http_response_status_code=status,
    )


@pytest.mark.parametrize(("model", "status"), [("waiting", "499"), ("flood", "200")])
async def test_a_client_that_leaves_is_counted(edge: Edge, model: str, status: str) -> None:
    gone, ended = errors("CLIENT_GONE"), requests(status)
    reader, writer = await asyncio.open_connection(edge.host, edge.port)
    writer.write(raw_request(chat(model)))
    await edge.backend.until(lambda: edge.backend.live)
    if model != "waiting":
        await read_head(reader)
    assert value("http_server_active_requests") == 1
    writer.close()
    await edge.backend.until(lambda: errors("CLIENT_GONE") == gone + 1)
    assert requests(status) == ended + 1
    assert value("http_server_active_requests") == 0


async def test_a_break_of_the_step_stream_is_counted(edge: Edge) -> None:
    cut = value("penstock_http_stream_errors_total", reason="UNAVAILABLE")
    broken = value("penstock_step_stream_breaks_total")
    reader, writer = await asyncio.open_connection(edge.host, edge.port)
    writer.write(raw_request(chat("silent")))
    await read_head(reader)
    await edge.backend.stop()
    name = "penstock_http_stream_errors_total"
    await edge.backend.until(lambda: value(name, reason="UNAVAILABLE") == cut + 1)
    await edge.backend.until(lambda: value("penstock_step_stream_breaks_total") == broken + 1)
    writer.close()


async def test_a_trace_that_nobody_began_begins_here(edge: Edge) -> None:
    for _ in range(2):
        assert (await edge.http.post(CHAT, json=chat("words"))).status_code == 200
    parents = [told["traceparent"] for told in edge.backend.metadata]
    assert len({parent.split("-")[1] for parent in parents}) == 2
