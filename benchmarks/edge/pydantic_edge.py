"""A reference: FastAPI with a pydantic model per chunk, one grpc.aio call per request.

    python -m benchmarks.edge.pydantic_edge --engine ADDRESS

Built as vLLM's frontend is: the request is a large model, each chunk is a model dumped without its
unset fields, an answer is dumped and encoded again, keys are compared as hashes by a middleware,
CORS is on, and a call that is not streamed is raced against the client's departure.
"""

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse, Response, StreamingResponse
from penstock.inference.v1 import event_pb2, message_pb2, sampling_pb2
from penstock.inference.v1 import inference_service_pb2 as inference_pb2

from benchmarks.edge import pydantic_models as models
from benchmarks.edge.requests import KEY
from benchmarks.edge.served import Engine, serve

_ROLES = {"user": message_pb2.ROLE_USER, "system": message_pb2.ROLE_SYSTEM}
_REASONS = {event_pb2.FINISH_REASON_LENGTH: "length"}


def make_app(engine: Engine) -> Any:
    """Makes the application."""
    app = FastAPI()

    @app.post("/v1/chat/completions")
    async def create_chat_completion(
        body: models.ChatCompletionRequest, raw_request: Request
    ) -> Response:
        request = _to_request(body)
        if body.stream:
            return StreamingResponse(
                _frames(engine, request, body.model), media_type="text/event-stream"
            )
        response = await _unless_gone(raw_request, engine.stub.Chat(request))
        return JSONResponse(content=_to_completion(response).model_dump())

    app.add_middleware(
        CORSMiddleware,
        allow_origins=["*"],
        allow_credentials=False,
        allow_methods=["*"],
        allow_headers=["*"],
    )
    app.add_middleware(Authentication, key=KEY)
    return app


class Authentication:
    """Lets callers with the key through."""

    def __init__(self, app: Any, key: str) -> None:
        self._app = app
        self._digest = hashlib.sha256(key.encode()).digest()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and not self._knows(dict(scope["headers"])):
            await JSONResponse({"error": "Unauthorized"}, 401)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _knows(self, headers: dict[bytes, bytes]) -> bool:
        scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
        digest = hashlib.sha256(key).digest()
        return scheme.lower() == b"bearer" and secrets.compare_digest(digest, self._digest)


async def _frames(
    engine: Engine, request: inference_pb2.ChatRequest, model: str
) -> AsyncIterator[str]:
    call = engine.stub.StreamChat(request)
    started = event_pb2.Started()
    try:
        async for event in call:
            kind = event.WhichOneof("event")
            if kind == "started":
                started = event.started
                delta = models.DeltaMessage(role="assistant", content="")
                choice = models.StreamChoice(index=0, delta=delta, finish_reason=None)
            elif kind == "delta":
                delta = models.DeltaMessage(content=event.delta.text)
                choice = models.StreamChoice(index=event.delta.index, delta=delta)
            elif kind == "finished":
                reason = _REASONS.get(event.finished.reason, "stop")
                delta = models.DeltaMessage(content="")
                choice = models.StreamChoice(index=0, delta=delta, finish_reason=reason)
            else:
                break
            chunk = models.StreamResponse(
                id=started.id,
                object="chat.completion.chunk",
                created=started.create_time.seconds,
                model=model,
                choices=[choice],
            )
            yield f"data: {chunk.model_dump_json(exclude_unset=True)}\n\n"
        yield "data: [DONE]\n\n"
    finally:
        call.cancel()


async def _unless_gone(request: Request, call: Any) -> inference_pb2.ChatResponse:
    async def answered() -> inference_pb2.ChatResponse:
        return await call

    async def left() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    answer, gone = asyncio.create_task(answered()), asyncio.create_task(left())
    _, pending = await asyncio.wait((answer, gone), return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    return answer.result()


def _to_request(body: models.ChatCompletionRequest) -> inference_pb2.ChatRequest:
    return inference_pb2.ChatRequest(
        model=body.model,
        messages=[
            message_pb2.Message(
                role=_ROLES[message.role], parts=[message_pb2.Part(text=str(message.content))]
            )
            for message in body.messages
        ],
        sampling=sampling_pb2.Sampling(max_tokens=body.max_tokens, temperature=body.temperature),
    )


def _to_completion(response: inference_pb2.ChatResponse) -> models.ChatCompletionResponse:
    usage = response.usage
    return models.ChatCompletionResponse(
        id=response.id,
        created=response.create_time.seconds,
        model=response.model,
        choices=[
            models.Choice(
                index=choice.index,
                message=models.AnswerMessage(
                    role="assistant", content="".join(part.text for part in choice.message.parts)
                ),
                finish_reason=_REASONS.get(choice.finish_reason, "stop"),
            )
            for choice in response.choices
        ],
        usage=models.Usage(
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            total_tokens=usage.total_tokens,
        ),
    )


if __name__ == "__main__":
    serve(make_app)
