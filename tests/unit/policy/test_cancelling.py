"""Loops end when they are cancelled in the moment in which their gRPC call does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from gateway.steps import StepClient
from policy.cancelling import heed_cancellation
from policy.fed_keys import FedKeys
from policy.following import FollowSettings, following
from services.serving.control import ControlLoop, ControlSettings
from services.settings import TritonSettings
from services.tritonserver.endpoints import Triton
from services.tritonserver.hosted import HostedModel
from services.tritonserver.protocol import pb
from services.usage.delivery import Delivery
from services.usage.journal import Journal
from services.usage.records import Record

PATIENCE_S = 20.0


class Swallowing:
    """Calls as gRPC's are: a cancellation goes to a task of their own, which keeps it to itself;
    then they fail, since the server had just gone."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()

    async def fail(self, *_: Any) -> Any:
        async def invocation() -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return

        task = asyncio.create_task(invocation())
        await asyncio.sleep(0)
        self.begun.set()
        await task
        raise grpc.aio.AioRpcError(
            grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata()
        )

    async def watch(self, *_: Any) -> AsyncGenerator[Any, None]:
        yield await self.fail()


async def ended(task: asyncio.Task[Any], calls: Swallowing) -> None:
    await asyncio.wait_for(calls.begun.wait(), PATIENCE_S)
    task.cancel()
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises((asyncio.CancelledError, ExceptionGroup)):
            await task


async def test_who_follows_keys() -> None:
    calls = Swallowing()

    async def work() -> None:
        async with following(calls.watch, FedKeys(), FollowSettings(first_s=0.0)):
            await calls.begun.wait()

    await asyncio.wait_for(work(), PATIENCE_S)


class Channel:
    """Of a server that is away."""

    def __init__(self, calls: Swallowing) -> None:
        self.calls = calls

    def stream_stream(self, *_: Any, **__: Any) -> Any:
        return lambda **_: Stream(self.calls)


class Stream:
    """A call of it."""

    def __init__(self, calls: Swallowing) -> None:
        self._calls = calls

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._calls.watch()

    async def write(self, _: bytes) -> None:
        await asyncio.Event().wait()

    def cancel(self) -> bool:
        return True


async def test_the_step_stream() -> None:
    calls = Swallowing()
    client = StepClient(Channel(calls), {}, "nowhere")  # type: ignore[arg-type]
    client.start()
    await calls.begun.wait()
    await asyncio.wait_for(client.close(), PATIENCE_S)


async def test_delivery_of_usage(tmp_path: Path) -> None:
    calls = Swallowing()
    journal = Journal(tmp_path, "test", most_bytes=0)
    journal.append(RECORD)

    async def deliver(_: Sequence[Record]) -> None:
        await calls.fail()

    task = asyncio.create_task(Delivery(journal, deliver).run())
    await ended(task, calls)


class Catalogue:
    """One that is away."""

    def __init__(self, calls: Swallowing) -> None:
        self.watch = calls.watch
        self.report = calls.fail


class Deployments:
    """Nothing is deployed."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()

    def observations(self) -> list[Any]:
        return []

    async def close(self) -> None:
        pass


@pytest.mark.parametrize("report_interval_s", [0.0, 60.0])
async def test_the_control_loop(report_interval_s: float) -> None:
    calls = Swallowing()
    settings = ControlSettings(report_interval_s=report_interval_s)
    loop: Any = ControlLoop(Catalogue(calls), Deployments(), settings)  # type: ignore[arg-type]
    await ended(asyncio.create_task(loop.run()), calls)


async def test_the_watch_of_a_model_on_triton() -> None:
    calls = Swallowing()

    async def ready(*_: object, **__: object) -> Any:
        return pb.ModelReadyResponse(ready=True)

    async def configured(*_: object, **__: object) -> Any:
        return pb.ModelConfigResponse()

    triton = Triton(TritonSettings(manage_models=False, health_interval_s=0.05))
    [endpoint] = triton.endpoints
    endpoint.stub = SimpleNamespace(
        ModelReady=ready, ModelConfig=configured, ServerReady=lambda *_, **__: calls.fail()
    )
    hosted = await HostedModel.open(triton, "m")
    await asyncio.wait_for(calls.begun.wait(), PATIENCE_S)
    await asyncio.wait_for(hosted.close(), PATIENCE_S)
    await triton.close()


async def test_who_is_not_cancelled_goes_on() -> None:
    heed_cancellation()
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.sleep(0)
        heed_cancellation()


RECORD = Record(
    id="a" * 32,
    principal="p",
    request_id="r",
    model="m",
    method="x/Y",
    dialect="grpc",
    outcome="ok",
    start_us=1,
)
