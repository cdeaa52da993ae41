"""A peer process for the edge: the three services over real gRPC, with scripted generations.

What a model does is its name: `words` says the last message's words, `endless` never ends,
`silent` is admitted and says nothing, `waiting` isn't even admitted, `flood` says as much as its
credit allows, `breaks` fails after two words, `fails-REASON` fails at once, `pieces` says the words
in pieces when they are wanted whole, and `endless-pieces` never ends doing so.
"""
# ruff: noqa: N802 - methods bear the names of their RPCs

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf import any_pb2, duration_pb2, empty_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from penstock.access.v1 import key_service_pb2, key_service_pb2_grpc
from penstock.inference.internal.v1 import step_service_pb2 as step_pb2
from penstock.inference.internal.v1 import step_service_pb2_grpc
from penstock.inference.v1 import event_pb2, inference_service_pb2_grpc, message_pb2, usage_pb2
from penstock.inference.v1 import inference_service_pb2 as inference_pb2
from penstock.model.v1 import model_pb2, model_service_pb2, model_service_pb2_grpc

CREATED = 1702345678
USAGE = usage_pb2.Usage(prompt_tokens=20, completion_tokens=9, total_tokens=29)

CODES = {
    "MODEL_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "INVALID_ARGUMENT": grpc.StatusCode.INVALID_ARGUMENT,
    "CONFLICT": grpc.StatusCode.ABORTED,
    "UNSUPPORTED_PARAMETER": grpc.StatusCode.INVALID_ARGUMENT,
    "CONTEXT_LENGTH_EXCEEDED": grpc.StatusCode.OUT_OF_RANGE,
    "QUEUE_FULL": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "PERMISSION_DENIED": grpc.StatusCode.PERMISSION_DENIED,
    "FAILED_PRECONDITION": grpc.StatusCode.FAILED_PRECONDITION,
    "INTERNAL": grpc.StatusCode.INTERNAL,
}


def failure(reason: str, param: str | None = None) -> status_pb2.Status:
    status = status_pb2.Status(code=CODES[reason].value[0], message=f"it is {reason} in {param}")
    info = error_details_pb2.ErrorInfo(reason=reason, domain="penstock")
    if param:
        info.metadata["param"] = param
    details: list[Any] = [info]
    if reason == "QUEUE_FULL":
        wait = duration_pb2.Duration(seconds=90)
        details.append(error_details_pb2.RetryInfo(retry_delay=wait))
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def model(model_id: str, state: int = model_pb2.Model.STATE_READY) -> model_pb2.Model:
    result = model_pb2.Model(
        name=f"models/{model_id}",
        kind=model_pb2.MODEL_KIND_CHAT,
        state=state,  # type: ignore[arg-type]
        owned_by="penstock",
        capabilities=model_pb2.Capabilities(context_length=512),
    )
    result.create_time.seconds = CREATED
    return result


async def each_word(
    requests: AsyncIterator[step_pb2.StepStreamRequest],
) -> AsyncIterator[step_pb2.StepStreamRequest]:
    async for request in requests:
        if not request.words:
            yield request
        for word in request.words:
            yield step_pb2.StepStreamRequest.FromString(word)


@dataclass
class Stream:
    request: Any
    credit: int
    sent: int = 0
    granted: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class Backend(
    step_service_pb2_grpc.StepServiceServicer,
    inference_service_pb2_grpc.InferenceServiceServicer,
    model_service_pb2_grpc.ModelServiceServicer,
    key_service_pb2_grpc.KeyServiceServicer,
):
    def __init__(self) -> None:
        self.live: dict[int, Stream] = {}
        self.address = ""
        self._server: grpc.aio.Server | None = None
        self.renew()

    def renew(self) -> None:
        """Forgets everything, as if it had just been made; it goes on serving."""
        self.models = {m.name: m for m in (model("words"), model("org/words:v1"))}
        self.models["models/broken"] = model("broken", model_pb2.Model.STATE_FAILED)
        self.requests: list[Any] = []
        self.metadata: list[dict[str, str]] = []
        for stream in self.live.values():
            if stream.task is not None:
                stream.task.cancel()
        self.live.clear()
        self._waiting: set[object] = set()

    @property
    def unary_live(self) -> int:
        """Calls that wait for ever."""
        return len(self._waiting)

    async def start(self, port: int = 0) -> None:
        """Serves, unless it does so already."""
        if self._server is not None:
            return
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        step_service_pb2_grpc.add_StepServiceServicer_to_server(self, server)
        inference_service_pb2_grpc.add_InferenceServiceServicer_to_server(self, server)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(self, server)
        key_service_pb2_grpc.add_KeyServiceServicer_to_server(self, server)
        health = health_aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(health, server)
        await health.set("", health_pb2.HealthCheckResponse.SERVING)
        port = server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        self.address = f"127.0.0.1:{port}"
        self._server = server

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    async def until(self, condition: Any, timeout_s: float = 30.0) -> None:
        async with asyncio.timeout(timeout_s):
            while not condition():  # noqa: ASYNC110 - any condition will do
                await asyncio.sleep(0.002)

    # --- StepService

    async def StepStream(
        self, request_iterator: AsyncIterator[step_pb2.StepStreamRequest], context: Any
    ) -> AsyncIterator[step_pb2.StepStreamResponse]:
        outbox: asyncio.Queue[step_pb2.StepUpdate] = asyncio.Queue()
        streams: dict[int, Stream] = {}
        reader = asyncio.create_task(self._read(request_iterator, outbox, streams))
        try:
            while True:
                response = step_pb2.StepStreamResponse(updates=[await outbox.get()])
                while not outbox.empty():
                    response.updates.append(outbox.get_nowait())
                yield response
        finally:
            reader.cancel()
            for stream_id, stream in streams.items():
                if stream.task is not None:
                    stream.task.cancel()
                if self.live.get(stream_id) is stream:
                    del self.live[stream_id]

    async def _read(
        self,
        requests: AsyncIterator[step_pb2.StepStreamRequest],
        outbox: asyncio.Queue[step_pb2.StepUpdate],
        streams: dict[int, Stream],
    ) -> None:
        async for word in each_word(requests):
            action = word.WhichOneof("action")
            if action == "start":
                kind = word.start.WhichOneof("request") or ""
                request = getattr(word.start, kind)
                self.requests.append(request)
                self.metadata.append(dict(word.start.metadata))
                stream = Stream(request, word.start.credit)
                self.live[word.stream_id] = streams[word.stream_id] = stream
                run = self._run_whole if word.start.whole else self._run
                stream.task = asyncio.create_task(run(word.stream_id, kind, stream, outbox))
            elif word.stream_id in self.live:
                stream = self.live[word.stream_id]
                if action == "cancel":
                    assert stream.task is not None
                    stream.task.cancel()
                    del self.live[word.stream_id]
                else:
                    stream.credit += word.credit.update_count
                    stream.granted.set()

    async def _run(
        self, stream_id: int, kind: str, stream: Stream, outbox: asyncio.Queue[step_pb2.StepUpdate]
    ) -> None:
        async def put(**update: Any) -> None:
            while stream.credit <= 0:
                stream.granted.clear()
                await stream.granted.wait()
            stream.credit -= 1
            stream.sent += 1
            outbox.put_nowait(step_pb2.StepUpdate(stream_id=stream_id, **update))

        def event(**fields: Any) -> dict[str, Any]:
            kinds = {"chat": event_pb2.ChatEvent, "complete": event_pb2.CompleteEvent}
            return {kind: kinds[kind](**fields)}

        request = stream.request
        name = request.model
        if name == "waiting":
            await asyncio.Event().wait()
        if name.startswith("fails-"):
            await put(error=failure(name.removeprefix("fails-"), "sampling.top_k"))
            self.live.pop(stream_id, None)
            return
        started = event_pb2.Started(id="chatcmpl-a", model=name, fingerprint="fp_1")
        started.create_time.seconds = CREATED
        await put(**event(started=started))
        if name == "silent":
            await asyncio.Event().wait()
        count = 0
        while name in ("endless", "flood"):
            count += 1
            await put(text=f"token {count} ")
            await asyncio.sleep(0 if name == "flood" else 0.01)
        for word in self.words(request):
            await put(text=word)
            await asyncio.sleep(0)
            count += 1
            if name == "breaks" and count == 2:
                await put(error=failure("INTERNAL"))
                self.live.pop(stream_id, None)
                return
        finished = event_pb2.Finished(index=0, reason=event_pb2.FINISH_REASON_STOP)
        await put(**event(finished=finished))
        await put(**event(done=event_pb2.Done(usage=USAGE)))
        self.live.pop(stream_id, None)

    async def _run_whole(
        self, stream_id: int, kind: str, stream: Stream, outbox: asyncio.Queue[step_pb2.StepUpdate]
    ) -> None:
        request = stream.request
        name = request.model
        if name in ("waiting", "silent"):
            await asyncio.Event().wait()
        if name.startswith("fails-"):
            error = failure(name.removeprefix("fails-"), "sampling.top_k")
            outbox.put_nowait(step_pb2.StepUpdate(stream_id=stream_id, error=error))
        else:
            answer = self.chat_answer if kind == "chat" else self.complete_answer
            data = answer(request).SerializeToString()
            while name == "endless-pieces":
                outbox.put_nowait(step_pb2.StepUpdate(stream_id=stream_id, piece=data))
                stream.sent += 1
                await asyncio.sleep(0.001)
            while name == "pieces" and len(data) > 7:
                outbox.put_nowait(step_pb2.StepUpdate(stream_id=stream_id, piece=data[:7]))
                data = data[7:]
                await asyncio.sleep(0)
            outbox.put_nowait(step_pb2.StepUpdate(stream_id=stream_id, answer=data))
        self.live.pop(stream_id, None)

    @staticmethod
    def words(request: Any) -> list[str]:
        if isinstance(request, inference_pb2.ChatRequest):
            text = request.messages[-1].parts[0].text
        else:
            text = request.prompts[0].text
        return [word + " " for word in text.split()]

    # --- InferenceService

    async def Chat(self, request: inference_pb2.ChatRequest, context: Any) -> Any:
        await self._enter(request, context)
        return self.chat_answer(request)

    async def Complete(self, request: inference_pb2.CompleteRequest, context: Any) -> Any:
        await self._enter(request, context)
        return self.complete_answer(request)

    def chat_answer(self, request: inference_pb2.ChatRequest) -> inference_pb2.ChatResponse:
        response = inference_pb2.ChatResponse(
            id="chatcmpl-a", model=request.model, fingerprint="fp_1", usage=USAGE
        )
        response.create_time.seconds = CREATED
        text = "".join(self.words(request))
        response.choices.add(
            message=message_pb2.Message(
                role=message_pb2.ROLE_ASSISTANT, parts=[message_pb2.Part(text=text)]
            ),
            finish_reason=event_pb2.FINISH_REASON_STOP,
        )
        return response

    def complete_answer(
        self, request: inference_pb2.CompleteRequest
    ) -> inference_pb2.CompleteResponse:
        response = inference_pb2.CompleteResponse(
            id="cmpl-a", model=request.model, fingerprint="fp_1", usage=USAGE
        )
        response.create_time.seconds = CREATED
        response.choices.add(
            text="".join(self.words(request)), finish_reason=event_pb2.FINISH_REASON_LENGTH
        )
        return response

    async def _enter(self, request: Any, context: Any) -> None:
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        if request.model.startswith("fails-"):
            await self._abort(context, request.model.removeprefix("fails-"), "sampling.top_k")
        if request.model in ("waiting", "silent"):
            waiting = self._waiting
            waiting.add(context)
            try:
                await asyncio.Event().wait()
            finally:
                waiting.discard(context)

    # --- ModelService

    async def WatchKeys(
        self, request: key_service_pb2.WatchKeysRequest, context: Any
    ) -> AsyncIterator[key_service_pb2.WatchKeysEvent]:
        """There is no key in the database."""
        event = key_service_pb2.WatchKeysEvent()
        event.snapshot.SetInParent()
        yield event
        await asyncio.Event().wait()

    async def ListModels(self, request: model_service_pb2.ListModelsRequest, context: Any) -> Any:
        self.metadata.append(dict(context.invocation_metadata()))
        names = sorted(self.models)
        start = int(request.page_token or 0)
        page = model_service_pb2.ListModelsResponse(models=[self.models[names[start]]])
        if start + 1 < len(names):
            page.next_page_token = str(start + 1)
        return page

    async def GetModel(self, request: model_service_pb2.GetModelRequest, context: Any) -> Any:
        if request.name not in self.models:
            await self._abort(context, "MODEL_NOT_FOUND", "name")
        return self.models[request.name]

    async def DeleteModel(self, request: model_service_pb2.DeleteModelRequest, context: Any) -> Any:
        reasons = {"models/forbidden": "PERMISSION_DENIED", "models/words": "FAILED_PRECONDITION"}
        if request.name in reasons:
            await self._abort(context, reasons[request.name])
        if request.name not in self.models:
            await self._abort(context, "MODEL_NOT_FOUND", "name")
        del self.models[request.name]
        return empty_pb2.Empty()

    async def _abort(self, context: Any, reason: str, param: str | None = None) -> None:
        status = failure(reason, param)
        details = (("grpc-status-details-bin", status.SerializeToString()),)
        await context.abort(CODES[reason], status.message, details)


async def _main(port: int) -> None:
    backend = Backend()
    await backend.start(port)
    print(backend.address, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1])))
