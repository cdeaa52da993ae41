"""The service config that ships with the protos, under real channels."""

from __future__ import annotations

import contextlib
import importlib
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from importlib import resources
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool, empty_pb2
from grpc import StatusCode

from services.rpc.channels import channel
from services.rpc.service_config import service_config

SHIPPED = resources.files("penstock").joinpath("service_config.json").read_text()
READ = "/penstock.model.v1.ModelService/GetStatus"
WRITE = "/penstock.model.v1.ModelService/DeployModel"
GENERATION = "/penstock.inference.v1.InferenceService/Chat"


def entries() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for entry in json.loads(SHIPPED)["methodConfig"]:
        for name in entry["name"]:
            yield name["service"], name["method"], entry


def test_it_names_methods_that_there_are_once_and_repeats_reads_alone() -> None:
    for service in {service for service, _, _ in entries()}:
        area = service.split(".")[1]
        noun = re.sub(r"(?<!^)([A-Z])", r"_\1", service.rpartition(".")[2]).lower()
        importlib.import_module(f"penstock.{area}.v1.{noun}_pb2")
    pool = descriptor_pool.Default()
    named = Counter((service, method) for service, method, _ in entries())
    assert max(named.values()) == 1
    for service, method, entry in entries():
        found = pool.FindServiceByName(service).methods_by_name[method]
        assert not found.client_streaming, method
        assert not found.server_streaming, method
        looks_like_a_read = method.startswith(("Get", "List", "Sum", "BatchGet", "Read")) or (
            method in {"Tokenize", "Detokenize", "ApplyTemplate"}
        )
        assert ("retryPolicy" in entry) is looks_like_a_read, method


class Flaky:
    """Serves any method; the first attempts of each fail."""

    def __init__(self, failures: int = 0, code: StatusCode = StatusCode.UNAVAILABLE) -> None:
        self.attempts = Counter[str]()
        self._failures = failures
        self._code = code

    def service(self, call: grpc.HandlerCallDetails) -> Any:
        async def answer(_: bytes, context: Any) -> bytes:
            self.attempts[call.method] += 1
            if self.attempts[call.method] <= self._failures:
                await context.abort(self._code, "not now")
            return empty_pb2.Empty().SerializeToString()

        return grpc.unary_unary_rpc_method_handler(answer)


@contextlib.asynccontextmanager
async def serving(flaky: Flaky) -> AsyncIterator[str]:
    server = grpc.aio.server(handlers=(flaky,))  # pyright: ignore[reportArgumentType]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


async def outcome(opened: grpc.aio.Channel, method: str) -> StatusCode:
    try:
        await opened.unary_unary(method)(b"", timeout=30)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return StatusCode.OK


@pytest.mark.parametrize(
    ("method", "code", "attempts"),
    [
        (READ, StatusCode.UNAVAILABLE, 3),
        (READ, StatusCode.RESOURCE_EXHAUSTED, 1),
        (READ, StatusCode.INTERNAL, 1),
        (WRITE, StatusCode.UNAVAILABLE, 1),
        (GENERATION, StatusCode.UNAVAILABLE, 1),
    ],
)
async def test_a_real_channel_repeats_what_may_be_repeated(
    method: str, code: StatusCode, attempts: int
) -> None:
    flaky = Flaky(2, code)
    async with serving(flaky) as address:
        options = [("grpc.service_config", SHIPPED)]
        async with grpc.aio.insecure_channel(address, options=options) as plain:
            assert await outcome(plain, method) is (StatusCode.OK if attempts == 3 else code)
    assert flaky.attempts[method] == attempts


async def test_calls_are_spread_over_all_addresses() -> None:
    flaky = [Flaky(), Flaky()]
    async with (
        serving(flaky[0]) as first,
        serving(flaky[1]) as second,
        channel(f"ipv4:{first},{second}") as ours,
    ):
        while not all(one.attempts for one in flaky):
            assert await outcome(ours, READ) is StatusCode.OK


async def test_more_methods_may_be_named() -> None:
    whole = "penstock.embedding.v1.EmbeddingService"
    named = service_config([WRITE[1:], whole, READ[1:]])
    found = {
        (name["service"], name.get("method")): entry
        for entry in json.loads(named)["methodConfig"]
        for name in entry["name"]
    }
    assert found[whole, None] == {
        "name": [{"service": whole}],
        "retryPolicy": found["penstock.model.v1.ModelService", "GetStatus"]["retryPolicy"],
    }
    deploy = found["penstock.model.v1.ModelService", "DeployModel"]
    assert {"timeout", "retryPolicy"} <= deploy.keys()
    flaky = Flaky(2)
    async with serving(flaky) as address, channel(address, idempotent=[WRITE[1:], whole]) as ours:
        for method in (WRITE, f"/{whole}/Embed", READ):
            assert await outcome(ours, method) is StatusCode.OK
        assert await outcome(ours, GENERATION) is StatusCode.UNAVAILABLE
