"""Servers of Triton's protocol that do as tests say: for what a real one can't be brought to do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc

from services.tritonserver.protocol import pb

_METHODS = (
    *("ServerReady", "ModelReady", "ModelConfig"),
    *("RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload"),
)


class ScriptedTriton:
    """One server. Every model that is loaded is there; nothing can be computed with it."""

    def __init__(self, *loaded: str) -> None:
        self.loaded = set(loaded)
        self.failing: set[str] = set()
        """Models that can't be loaded now; what was loaded before stays."""
        self.unload_s = 0.0
        """How long it takes until a model is unloaded."""
        self.loads: list[str] = []
        """What was to be loaded, in order."""
        self.streams: list[str] = []
        """Models that were asked for streams of answers: they never give one."""
        self.address = ""

    async def answer(self, method: str, request: Any, context: Any) -> Any:
        """Answers a call."""
        match method:
            case "ServerReady":
                return pb.ServerReadyResponse(ready=True)
            case "ModelReady":
                return pb.ModelReadyResponse(ready=request.name in self.loaded)
            case "ModelConfig":
                answer = pb.ModelConfigResponse()
                answer.config.name = request.name
                return answer
            case "RepositoryIndex":
                answer = pb.RepositoryIndexResponse()
                for name in self.loaded:
                    answer.models.add(name=name, version="1", state="READY")
                return answer
            case "RepositoryModelLoad":
                self.loads.append(request.model_name)
                if request.model_name in self.failing:
                    await context.abort(grpc.StatusCode.INTERNAL, "load failed: no memory")
                self.loaded.add(request.model_name)
                return pb.RepositoryModelLoadResponse()
            case _:
                await asyncio.sleep(self.unload_s)
                self.loaded.discard(request.model_name)
                return pb.RepositoryModelUnloadResponse()

    def _handler(self, method: str) -> Any:
        async def handle(request: Any, context: Any) -> Any:
            return await self.answer(method, request, context)

        return grpc.unary_unary_rpc_method_handler(
            handle,
            request_deserializer=getattr(pb, f"{method}Request").FromString,
            response_serializer=getattr(pb, f"{method}Response").SerializeToString,
        )

    def _silent(self) -> Any:
        async def wait(requests: Any, context: Any) -> AsyncIterator[Any]:
            async for request in requests:
                self.streams.append(request.model_name)
                await asyncio.Event().wait()
                yield pb.ModelStreamInferResponse()

        return grpc.stream_stream_rpc_method_handler(
            wait,
            request_deserializer=pb.ModelInferRequest.FromString,
            response_serializer=pb.ModelStreamInferResponse.SerializeToString,
        )

    @asynccontextmanager
    async def running(
        self, address: str = "127.0.0.1:0", credentials: grpc.ServerCredentials | None = None
    ) -> AsyncGenerator[ScriptedTriton]:
        """Serves at an address while the block runs."""
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        handlers = {method: self._handler(method) for method in _METHODS}
        handlers["ModelStreamInfer"] = self._silent()
        service = "inference.GRPCInferenceService"
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        port = (
            server.add_insecure_port(address)
            if credentials is None
            else server.add_secure_port(address, credentials)
        )
        self.address = f"{address.rpartition(':')[0]}:{port}"
        await server.start()
        try:
            yield self
        finally:
            await server.stop(None)
