"""Where metrics are told, and how they are asked for."""

from __future__ import annotations

import asyncio
import logging

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from telemetry.endpoint import EndpointError, otlp_endpoint
from telemetry.process import Telling, TellingError, metrics_place, telling


@pytest.mark.parametrize(
    ("address", "given", "place"),
    [
        ("127.0.0.1:50052", "", ("127.0.0.1", 51052)),
        ("0.0.0.0:8080", "", ("127.0.0.1", 9080)),
        ("127.0.0.1:0", "", ("127.0.0.1", 0)),
        ("127.0.0.1:65000", "", ("127.0.0.1", 0)),
        ("unix:/run/penstock", "", ("127.0.0.1", 0)),
        ("127.0.0.1:50052", "0.0.0.0:9464", ("0.0.0.0", 9464)),
        ("127.0.0.1:50052", ":9464", ("0.0.0.0", 9464)),
        ("127.0.0.1:50052", "[::1]:9464", ("::1", 9464)),
    ],
)
def test_metrics_have_a_place(address: str, given: str, place: tuple[str, int]) -> None:
    assert metrics_place(address, given) == place


@pytest.mark.parametrize("given", ["here", "127.0.0.1", "127.0.0.1:70000", "127.0.0.1:x"])
def test_an_address_that_is_none_is_refused(given: str) -> None:
    with pytest.raises(TellingError, match="metrics_address"):
        metrics_place("127.0.0.1:50052", given)


async def test_metrics_are_asked_for_over_http() -> None:
    async with telling(Telling("model", "127.0.0.1:0")) as told, httpx.AsyncClient() as http:
        url = f"http://{told.address}/metrics"
        answer = await http.get(url)
        assert answer.status_code == 200
        families = {family.name: family for family in text_string_to_metric_families(answer.text)}
        told_of = [sample.labels["service"] for sample in families["penstock_build_info"].samples]
        assert "model" in told_of
        assert "process_cpu_seconds" in families
        open_metrics = await http.get(url, headers={"accept": "application/openmetrics-text"})
        assert open_metrics.text.endswith("# EOF\n")
        odd = await http.get(url, headers={"accept": b"text/\xff"})
        assert (odd.status_code, odd.headers["content-type"][:10]) == (200, "text/plain")
        head = await http.head(url)
        assert (head.status_code, head.content) == (200, b"")
        assert (await http.post(url)).status_code == 405
        assert (await http.get(f"http://{told.address}/")).status_code == 404


@pytest.mark.parametrize("sent", [b"", b"\r\n\r\n", b"\xff" * 40_000, b"GET /metrics"])
async def test_what_is_no_request_ends_its_own_connection_only(sent: bytes) -> None:
    async with telling(Telling("model", "127.0.0.1:0")) as told:
        host, _, port = told.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(sent)
        writer.write_eof()
        try:
            answer = await reader.read()
        except ConnectionError:
            answer = b""
        assert answer == b"" or answer.startswith(b"HTTP/1.1 404 ")
        writer.close()
        async with httpx.AsyncClient() as http:
            assert (await http.get(f"http://{told.address}/metrics")).status_code == 200


async def test_a_taken_address_is_an_error_only_where_somebody_chose_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with telling(Telling("gateway", "127.0.0.1:0")) as first:
        port = int(first.address.rpartition(":")[2])
        with pytest.raises(TellingError, match="metrics_address"):
            async with telling(Telling("gateway", "127.0.0.1:0", first.address)):
                pass
        with caplog.at_level(logging.WARNING):
            async with telling(Telling("gateway", f"127.0.0.1:{port - 1000}")) as second:
                assert second.address not in ("", first.address)
        assert "elsewhere" in caplog.text


async def test_metrics_can_be_off() -> None:
    async with telling(Telling("model", "127.0.0.1:0", "off")) as told:
        assert told.address == ""


@pytest.mark.parametrize(
    ("given", "env", "endpoint"),
    [
        ("", {}, ""),
        ("http://a:4317", {}, "http://a:4317"),
        ("", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://b:4317"}, "http://b:4317"),
        ("http://a:4317", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://b:4317"}, "http://a:4317"),
        (
            "",
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://b:4317",
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4317",
            },
            "http://c:4317",
        ),
        ("http://a:4317", {"OTEL_SDK_DISABLED": "true"}, ""),
        ("http://a:4317", {"OTEL_TRACES_EXPORTER": "none"}, ""),
        ("", {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, ""),
    ],
)
def test_traces_go_where_settings_and_variables_say(
    given: str, env: dict[str, str], endpoint: str
) -> None:
    assert otlp_endpoint(given, env) == endpoint


def test_a_protocol_that_is_not_spoken_is_refused() -> None:
    with pytest.raises(EndpointError, match="4317"):
        otlp_endpoint("http://a:4318", {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"})


async def test_an_address_that_traces_cannot_go_to_is_refused() -> None:
    with pytest.raises(TellingError, match="otlp_endpoint"):
        async with telling(Telling("model", "127.0.0.1:0", "off", "collector:4317")):
            pass
