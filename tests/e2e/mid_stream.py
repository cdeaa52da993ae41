"""Answers of every dialect that something happens to while they are given."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc
import httpx
from penstock.image.v1.image_service_pb2_grpc import ImageServiceStub
from penstock.inference.v1.inference_service_pb2_grpc import InferenceServiceStub

from tests.e2e.drawing import Wish
from tests.e2e.library import Library
from tests.e2e.story import TIMEOUT_S, Place
from tests.e2e.test_parity import to_chat

LONG_DRAWN = Wish(seed=1, side=256, steps=150, count=8)


@dataclass(frozen=True)
class Dialect:
    """A stream of text in one dialect."""

    path: str
    body: Mapping[str, Any]
    ends: str
    """What only stands at the end of a whole answer."""
    message: Callable[[Any], str] | None = lambda last: last["error"]["message"]
    """What the last event says that went wrong; none: such a stream can only end too soon."""


def dialects(model: str, shelf: str) -> dict[str, Dialect]:
    """Streams of a model; of answers from these documents, too."""
    messages = [{"role": "user", "content": "Tell me a story"}]
    text, chat = {"model": model, "stream": True}, {"messages": messages}
    native = {"messages": [{"role": "ROLE_USER", "parts": [{"text": "Tell me a story"}]}]}
    rag = {"context": {"query": shelf}, "query": "What color is the sky on Mars?"}
    return {
        "openai chat": Dialect("/v1/chat/completions", text | chat, "[DONE]"),
        "openai completions": Dialect(
            "/v1/completions", text | {"prompt": "Once", "max_tokens": 900}, "[DONE]"
        ),
        "openai responses": Dialect(
            "/v1/responses",
            text | {"input": "Hello"},
            "response.completed",
            lambda last: last["message"],
        ),
        "anthropic": Dialect("/v1/messages", text | chat | {"max_tokens": 900}, "message_stop"),
        "ollama chat": Dialect("/api/chat", text | chat, "done_reason", lambda last: last["error"]),
        "ollama generate": Dialect(
            "/api/generate", text | {"prompt": "Once"}, "done_reason", lambda last: last["error"]
        ),
        "velesio completion": Dialect(
            "/completion", text | {"prompt": "Once", "n_predict": 900}, '"stop":true'
        ),
        "velesio chat": Dialect("/chat/completions", text | chat, "[DONE]"),
        "gel": Dialect("/branch/main/ai/rag", text | rag, "message_stop"),
        "botserver": Dialect("/api/v1/ai/chat/completions", text | chat, "[DONE]"),
        "native": Dialect(f"/penstock/v1/models/{model}:streamChat", native, '"done"', None),
    }


class Told:
    """Streams that have begun; how they end is looked at later."""

    def __init__(self) -> None:
        self._opened = contextlib.ExitStack()
        self._streams: dict[str, tuple[Dialect, Iterator[str]]] = {}
        self._calls: dict[str, Any] = {}
        self._posts: dict[str, Future[httpx.Response]] = {}

    def __enter__(self) -> Told:
        self._threads = self._opened.enter_context(ThreadPoolExecutor())
        return self

    def __exit__(self, *error: object) -> None:
        self._opened.close()

    def begin(self, place: Place, name: str, dialect: Dialect) -> None:
        """Opens a stream and reads its first line."""
        http = self._opened.enter_context(place.http())
        answer = self._opened.enter_context(http.stream("POST", dialect.path, json=dialect.body))
        lines = answer.iter_lines()
        first = next(lines)
        assert answer.status_code == 200, (name, first)
        self._streams[name] = (dialect, lines)

    def begin_calls(self, place: Place, model: str, shelf: str) -> None:
        """Opens streams over gRPC, and reads of each until the model has made something."""
        body = {"model": model, "messages": [{"role": "user", "content": "Tell me a story"}]}
        services = ("inference", "image", "retrieval")
        channels = {name: self._opened.enter_context(place.channel(name)) for name in services}
        call: Any = {"metadata": place.metadata, "timeout": TIMEOUT_S}
        chat = InferenceServiceStub(channels["inference"]).StreamChat(to_chat(body), **call)
        library = Library(channels["retrieval"], place.key)
        question = library.question(shelf, "What color is the sky on Mars?")
        question.model = model
        answer = library.stub.Answer(question, **call)
        images = ImageServiceStub(channels["image"])
        drawn = images.StreamGenerate(LONG_DRAWN.request(), **call)
        self._calls = {"chat": chat, "answer": answer, "drawing": drawn}
        while not next(chat).HasField("delta"):
            pass
        while not next(answer).chat.HasField("delta"):
            pass
        while not next(drawn).progress.step:
            pass

    def post(self, place: Place, path: str, body: Any) -> None:
        """Asks for a whole answer."""
        headers = {"authorization": f"Bearer {place.key}"}
        self._posts[path] = self._threads.submit(
            httpx.post, place.url + path, json=body, headers=headers, timeout=TIMEOUT_S
        )

    def messages(self) -> Iterator[tuple[str, str]]:
        """What each stream says at its end, which has to be that of a failure."""
        for name, (dialect, lines) in self._streams.items():
            rest = [line.removeprefix("data: ") for line in lines if line]
            assert dialect.ends not in "".join(rest), (name, rest[-3:])
            if dialect.message is not None:
                assert rest, name
                yield name, dialect.message(json.loads(rest[-1]))
        for name, call in self._calls.items():
            try:
                *_, last = call
                raise AssertionError((name, last))
            except grpc.RpcError:
                assert call.code() is grpc.StatusCode.UNAVAILABLE, (name, call.details())
                yield name, call.details()
        for path, post in self._posts.items():
            answer = post.result(TIMEOUT_S)
            assert answer.status_code == 503, (path, answer.text)
            yield path, answer.json()["error"]["message"]
