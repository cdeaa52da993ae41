"""A stand-in engine process behind real grpc.aio, which costs little beside gRPC itself.

    python -m benchmarks.edge.engine

Serves chats per request and over the step stream. Prints its address as one line of JSON, then
answers each line on stdin: what runs, and when which cancellation was seen.
"""
# ruff: noqa: N802 - methods bear the names of their RPCs

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from itertools import cycle
from typing import Any

import grpc
import uvloop
from google.protobuf import empty_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from penstock.inference.internal.v1 import step_service_pb2_grpc
from penstock.inference.v1 import event_pb2, inference_service_pb2_grpc
from penstock.inference.v1 import inference_service_pb2 as inference_pb2
from penstock.model.v1 import model_pb2, model_service_pb2, model_service_pb2_grpc

from benchmarks.edge import events
from benchmarks.edge.pacing import WORDS, Ledger, Pace, Pacer, task_of
from benchmarks.edge.step_session import StepServicer
from benchmarks.processes import raise_file_limit

OPTIONS: list[tuple[str, str | int]] = [
    ("grpc.so_reuseport", 0),
    ("grpc.max_concurrent_streams", 4096),
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 64 * 1024),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
]


class InferenceServicer(inference_service_pb2_grpc.InferenceServiceServicer):
    """Serves chats, one call each."""

    def __init__(self, pacer: Pacer, ledger: Ledger) -> None:
        self._pacer = pacer
        self._ledger = ledger

    async def Chat(
        self, request: inference_pb2.ChatRequest, context: object
    ) -> inference_pb2.ChatResponse:
        return events.answer()

    async def StreamChat(
        self, request: inference_pb2.ChatRequest, context: object
    ) -> AsyncIterator[event_pb2.ChatEvent]:
        task = task_of(request)
        self._ledger.begin()
        ended = False
        words = cycle(WORDS)
        try:
            if task.pace is Pace.SILENT:
                await asyncio.get_running_loop().create_future()
            yield events.started()
            for _ in range(task.token_count):
                if task.pace is Pace.PACED:
                    await self._pacer.step()
                yield events.delta(next(words))
            ended = True
            yield events.finished()
            yield events.done(task.token_count)
        finally:
            self._ledger.end(task, cancelled=not ended)


class ModelServicer(model_service_pb2_grpc.ModelServiceServicer):
    """Knows one model, which is ready."""

    _model = model_pb2.Model(name=f"models/{events.MODEL}", state=model_pb2.Model.STATE_READY)

    async def ListModels(self, request: object, context: object) -> Any:
        return model_service_pb2.ListModelsResponse(models=[self._model])

    async def GetModel(self, request: object, context: object) -> model_pb2.Model:
        return self._model

    async def GetStatus(self, request: object, context: object) -> Any:
        return model_service_pb2.GetStatusResponse()

    async def DeleteModel(self, request: object, context: object) -> empty_pb2.Empty:
        return empty_pb2.Empty()


class HealthServicer(health_pb2_grpc.HealthServicer):
    """Is always well."""

    async def Check(self, request: object, context: object) -> health_pb2.HealthCheckResponse:
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)


async def main() -> None:
    """Serves until stdin ends."""
    raise_file_limit()
    pacer, ledger = Pacer(), Ledger()
    server = grpc.aio.server(options=OPTIONS)
    inference = InferenceServicer(pacer, ledger)
    inference_service_pb2_grpc.add_InferenceServiceServicer_to_server(inference, server)
    step_service_pb2_grpc.add_StepServiceServicer_to_server(StepServicer(pacer, ledger), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelServicer(), server)
    health_pb2_grpc.add_HealthServicer_to_server(HealthServicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    pacing = asyncio.create_task(pacer.run())
    print(json.dumps({"address": f"127.0.0.1:{port}"}), flush=True)
    await _answer(ledger)
    pacing.cancel()
    await server.stop(0)


async def _answer(ledger: Ledger) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while await reader.readline():
        print(json.dumps({"running": ledger.running, "cancels": ledger.cancels}), flush=True)


if __name__ == "__main__":
    uvloop.run(main())
