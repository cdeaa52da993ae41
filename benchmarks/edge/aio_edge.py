"""A reference: a bare ASGI application with template frames, one grpc.aio call per request.

    python -m benchmarks.edge.aio_edge --engine ADDRESS

It validates nothing, knows no keys and no errors: the least that a plain edge can cost.
"""

import asyncio
import time
from typing import Any

import orjson
from penstock.inference.v1 import event_pb2, message_pb2, sampling_pb2
from penstock.inference.v1 import inference_service_pb2 as inference_pb2

from benchmarks.edge.served import Engine, serve

_SSE = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
_JSON = (b"content-type", b"application/json")
_ROLES = {"user": message_pb2.ROLE_USER, "system": message_pb2.ROLE_SYSTEM}
_REASONS = {event_pb2.FINISH_REASON_LENGTH: "length"}


class AioEdge:
    """The application."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = orjson.loads(await _read(receive))
        request = _to_request(body)
        if body.get("stream"):
            await self._stream(request, receive, send)
        else:
            await self._answer(request, send)

    async def _answer(self, request: inference_pb2.ChatRequest, send: Any) -> None:
        response = await self._engine.stub.Chat(request)
        data = orjson.dumps(_to_completion(response))
        length = (b"content-length", b"%d" % len(data))
        await send({"type": "http.response.start", "status": 200, "headers": [_JSON, length]})
        await send({"type": "http.response.body", "body": data})

    async def _stream(self, request: inference_pb2.ChatRequest, receive: Any, send: Any) -> None:
        call = self._engine.stub.StreamChat(request)
        watch = asyncio.create_task(_cancel_when_gone(receive, call))
        try:
            frames = Frames(request.model)
            first = True
            async for event in call:
                if first:
                    first = False
                    start = {"type": "http.response.start", "status": 200, "headers": _SSE}
                    await send(start)
                for data in frames.feed(event):
                    await send({"type": "http.response.body", "body": data, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        except asyncio.CancelledError:
            if not call.cancelled():
                raise
        finally:
            watch.cancel()
            call.cancel()


class Frames:
    """Frames of one stream, from a head and a tail made once."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._head = b""

    def feed(self, event: event_pb2.ChatEvent) -> list[bytes]:
        """Makes the frames of an event."""
        kind = event.WhichOneof("event")
        if kind == "delta":
            return [self._frame(b'{"content":' + orjson.dumps(event.delta.text) + b"}")]
        if kind == "started":
            head = {
                "id": event.started.id,
                "object": "chat.completion.chunk",
                "created": event.started.create_time.seconds,
                "model": self._model,
                "system_fingerprint": event.started.fingerprint,
            }
            self._head = b"data: " + orjson.dumps(head)[:-1] + b',"choices":[{"index":0,"delta":'
            return [self._frame(b'{"role":"assistant","content":"","refusal":null}')]
        if kind == "finished":
            reason = _REASONS.get(event.finished.reason, "stop")
            return [self._frame(b"{}", b'"' + reason.encode() + b'"')]
        return [b"data: [DONE]\n\n"]

    def _frame(self, delta: bytes, finish: bytes = b"null") -> bytes:
        return self._head + delta + b',"logprobs":null,"finish_reason":' + finish + b"}]}\n\n"


async def _read(receive: Any) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body


async def _cancel_when_gone(receive: Any, call: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    call.cancel()


def _to_request(body: dict[str, Any]) -> inference_pb2.ChatRequest:
    return inference_pb2.ChatRequest(
        model=body["model"],
        messages=[
            message_pb2.Message(
                role=_ROLES[message["role"]], parts=[message_pb2.Part(text=message["content"])]
            )
            for message in body["messages"]
        ],
        sampling=sampling_pb2.Sampling(
            max_tokens=body.get("max_tokens"), temperature=body.get("temperature")
        ),
    )


def _to_completion(response: inference_pb2.ChatResponse) -> dict[str, Any]:
    usage = response.usage
    return {
        "id": response.id,
        "object": "chat.completion",
        "created": response.create_time.seconds or int(time.time()),
        "model": response.model,
        "choices": [
            {
                "index": choice.index,
                "message": {
                    "role": "assistant",
                    "content": "".join(part.text for part in choice.message.parts),
                },
                "logprobs": None,
                "finish_reason": _REASONS.get(choice.finish_reason, "stop"),
            }
            for choice in response.choices
        ],
        "usage": {
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "total_tokens": usage.total_tokens,
        },
        "system_fingerprint": response.fingerprint,
    }


if __name__ == "__main__":
    serve(AioEdge)
