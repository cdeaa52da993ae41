"""ResponseService as a process of InferenceService: who may what, and what is left after a kill."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from penstock.inference.v1 import response_pb2
from penstock.inference.v1 import response_service_pb2 as pb
from penstock.inference.v1.response_service_pb2_grpc import ResponseServiceStub

from services.inference.identifiers import unique
from tests.integration.serving_processes import ADMIN, Processes

ME = (("authorization", "Bearer user-token"),)
CONFIG = '[services.inference]\nengine = "echo"\n'


@asynccontextmanager
async def service(
    folder: Path, monkeypatch: pytest.MonkeyPatch, config: str = CONFIG
) -> AsyncIterator[tuple[Processes, ResponseServiceStub]]:
    monkeypatch.setenv("API_TOKENS", "user-token")
    processes = Processes(folder, "inference", config)
    await processes.start("inference")
    try:
        async with grpc.aio.insecure_channel(processes.address("inference")) as channel:
            yield processes, ResponseServiceStub(channel)
    finally:
        for name in list(processes.running):
            await processes.kill(name)


def response(**facts: Any) -> response_pb2.Response:
    item = response_pb2.ResponseItem(item_id="msg_1", item_json='{"a":1}')
    given: dict[str, Any] = {
        "name": f"responses/{unique('resp_')}",
        "input_items": [item],
        "output_items": [item],
        "response_json": "{}",
    }
    return response_pb2.Response(**given | facts)


async def stored(
    stub: ResponseServiceStub, one: response_pb2.Response, who: Any = ME
) -> response_pb2.Response:
    return await stub.StoreResponse(
        pb.StoreResponseRequest(response=one), metadata=who, wait_for_ready=True, timeout=60
    )


async def code_of(call: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code()


async def test_who_may_what(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with service(tmp_path, monkeypatch) as (_, stub):
        kept = await stored(stub, response())
        get = pb.GetResponseRequest(name=kept.name)
        assert (await stub.GetResponse(get, metadata=ME)).response_json == "{}"
        assert await code_of(stub.GetResponse(get)) == grpc.StatusCode.UNAUTHENTICATED
        # Conversations are their owner's alone, whoever else may manage the platform.
        assert await code_of(stub.GetResponse(get, metadata=ADMIN)) == grpc.StatusCode.NOT_FOUND
        again = pb.StoreResponseRequest(response=response(name=kept.name))
        taken = grpc.StatusCode.ALREADY_EXISTS
        assert await code_of(stub.StoreResponse(again, metadata=ADMIN)) == taken
        lasts = kept.expire_time.ToDatetime() - kept.create_time.ToDatetime()
        assert lasts.days == 30


WRONG: list[dict[str, Any]] = [
    {"name": "responses/x"},
    {"name": ""},
    {"response_json": ""},
    {"response_json": "[]"},
    {"previous_response": "x"},
    {"input_items": [response_pb2.ResponseItem(item_id="ü", item_json="{}")]},
    {"input_items": [response_pb2.ResponseItem(item_id="", item_json="{}")]},
    {"output_items": [response_pb2.ResponseItem(item_id="a", item_json="nonsense")]},
]


async def test_what_is_wrong_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with service(tmp_path, monkeypatch) as (_, stub):
        await stored(stub, response())
        for facts in WRONG:
            request = pb.StoreResponseRequest(response=response(**facts))
            call = stub.StoreResponse(request, metadata=ME)
            assert await code_of(call) == grpc.StatusCode.INVALID_ARGUMENT, facts
        gone = pb.StoreResponseRequest(response=response(previous_response="responses/x"))
        assert await code_of(stub.StoreResponse(gone, metadata=ME)) == grpc.StatusCode.NOT_FOUND


async def test_what_was_acknowledged_survives_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    acknowledged: list[str] = []
    enough = asyncio.Event()

    async def keep_storing(stub: ResponseServiceStub) -> None:
        try:
            while True:
                acknowledged.append((await stored(stub, response())).name)
                if len(acknowledged) >= 30:
                    enough.set()
        except grpc.aio.AioRpcError:
            return

    async with service(tmp_path, monkeypatch) as (processes, stub):
        storing = [asyncio.create_task(keep_storing(stub)) for _ in range(3)]
        await enough.wait()
        await processes.kill("inference")
        for task in storing:
            task.cancel()
        await asyncio.gather(*storing, return_exceptions=True)
        await processes.start("inference")
        for name in acknowledged:
            found = await stub.GetResponse(
                pb.GetResponseRequest(name=name), metadata=ME, wait_for_ready=True, timeout=60
            )
            assert [item.item_id for item in found.output_items] == ["msg_1"]


async def test_generation_needs_no_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = CONFIG + 'database_url = "postgresql://nobody@127.0.0.1:1/nothing"\n'
    async with service(tmp_path, monkeypatch, away) as (_, stub):
        request = pb.StoreResponseRequest(response=response())
        call = stub.StoreResponse(request, metadata=ME, wait_for_ready=True)
        assert await code_of(call) == grpc.StatusCode.UNAVAILABLE


async def test_a_database_that_can_not_be_used_stops_the_start(tmp_path: Path) -> None:
    processes = Processes(tmp_path, "inference", CONFIG + 'database_url = "mysql://x/y"\n')
    with pytest.raises(ValueError, match="Expecting value"):  # it says nothing on stdout
        await processes.start("inference")
    assert await processes.kill("inference") == 1
