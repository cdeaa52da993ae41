"""Scenarios with Gel's Python client, run by the client's own environment.

`python gel_session.py URL basic|bearer USER SECRET CHAT_MODEL EMBEDDING_MODEL TYPE`; a
failed assertion is a failed test.

`gel.ai.create_rag_client` opens Gel's binary protocol first. What it makes then is made here from
a stand-in that has the two things it reads of a connected client: an address and parameters.
"""

import asyncio
import contextlib
import dataclasses
import json
import sys
import types
from collections.abc import AsyncIterator, Iterator
from typing import Any

import gel.ai.core
import gel.ai.types
import httpx
from gel import con_utils

KINDS = [
    "message_start",
    "content_block_start",
    "content_block_delta",
    "content_block_stop",
    "message_delta",
    "message_stop",
]


@dataclasses.dataclass
class Session:
    """What the scenarios are run with."""

    url: httpx.URL
    auth: str
    user: str
    secret: str
    model: str
    embedder: str
    type: str

    @property
    def question(self) -> str:
        return "What color is the sky on Mars?"

    def connected(self, **changes: Any) -> Any:
        """Returns what stands for a connected client."""
        unset = dict.fromkeys(
            (
                *("dsn", "credentials", "credentials_file", "database", "tls_ca", "tls_ca_file"),
                *("tls_server_name", "timeout", "command_timeout", "wait_until_available"),
                *("server_settings", "branch", "password", "secret_key", "user"),
            )
        )
        given = {"password": self.secret} if self.auth == "basic" else {"secret_key": self.secret}
        arguments = unset | given | {"user": self.user, "tls_security": "insecure"} | changes
        params, _ = con_utils.parse_connect_arguments(
            host=self.url.host, port=self.url.port, **arguments
        )
        pool = types.SimpleNamespace(_working_addr=params.address, _working_params=params)
        return types.SimpleNamespace(_impl=pool)

    def options(self, **changes: Any) -> Any:
        return gel.ai.types.RAGOptions(**({"model": self.model} | changes))

    def sync(self, **changes: Any) -> gel.ai.core.RAGClient:
        return gel.ai.core.RAGClient(self.connected(**changes), self.options(), query=self.type)

    def asynchronous(self, **changes: Any) -> gel.ai.core.AsyncRAGClient:
        connected = self.connected(**changes)
        return gel.ai.core.AsyncRAGClient(connected, self.options(), query=self.type)


def check_events(lines: list[str]) -> str:
    """Checks the events of a stream and returns the text that they make."""
    events = [json.loads(line) for line in lines]
    kinds = [event["type"] for event in events]
    assert list(dict.fromkeys(kinds)) == KINDS, kinds
    assert kinds.count("message_start") == kinds.count("message_stop") == 1, kinds
    assert events[0]["message"]["role"] == "assistant"
    usage = next(event for event in events if event["type"] == "message_delta")["usage"]
    assert usage["completion_tokens"] > 0, usage
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    assert all(delta["type"] == "text_delta" for delta in deltas), deltas
    return "".join(delta["text"] for delta in deltas)


def query(session: Session) -> None:
    text = session.sync().query_rag(session.question)
    assert isinstance(text, str)
    assert text
    for branch in ("main", "edgedb"):
        assert session.sync(branch=branch).query_rag(session.question)

    async def ask() -> None:
        assert await session.asynchronous().query_rag(session.question)

    asyncio.run(ask())


def stream(session: Session) -> None:
    assert check_events(list(session.sync().stream_rag(session.question)))

    async def ask() -> None:
        client = session.asynchronous()
        lines = [line async for line in client.stream_rag(session.question)]
        assert check_events(lines)

    asyncio.run(ask())


def leave(session: Session) -> None:
    """Leaves in the middle of an answer; the next question is answered all the same."""
    client = session.sync()
    events: Iterator[str] = client.stream_rag(session.question)
    assert json.loads(next(events))["type"] == "message_start"
    events.close()  # type: ignore[attr-defined]
    assert client.query_rag(session.question)

    async def ask() -> None:
        events: AsyncIterator[str] = session.asynchronous().stream_rag(session.question)
        async with contextlib.aclosing(events):  # type: ignore[type-var]
            assert json.loads(await anext(events))["type"] == "message_start"

    asyncio.run(ask())


def context(session: Session) -> None:
    """Everything that the client can say besides."""
    client = session.sync()
    narrow = client.with_context(max_object_count=1, variables={}, globals={})
    assert narrow.query_rag(session.question)
    other = gel.ai.types.QueryContext(query=f"select {session.type}")
    assert client.query_rag(session.question, context=other)
    message = {"role": "user", "content": [{"type": "text", "text": "Answer in one word."}]}
    prompt = {"name": "builtin::rag-default", "custom": [message]}
    assert client.with_config(prompt=prompt).query_rag(session.question)


def near(one: list[float], other: list[float]) -> bool:
    """Whether these are the same: kernels may round otherwise beside other texts."""
    return all(abs(a - b) < 1e-3 for a, b in zip(one, other, strict=True))


def embeddings(session: Session) -> None:
    vector = session.sync().generate_embeddings("red", model=session.embedder)
    assert len(vector) > 1
    assert all(isinstance(number, float) for number in vector)
    several = session.sync().generate_embeddings("red", "blue", model=session.embedder)
    assert near(several, vector)  # the client returns the first one

    async def ask() -> None:
        found = await session.asynchronous().generate_embeddings("red", model=session.embedder)
        assert near(found, vector)

    asyncio.run(ask())


def errors(session: Session) -> None:
    def failure(client: gel.ai.core.RAGClient, *, streamed: bool = False) -> httpx.Response:
        try:
            if streamed:
                list(client.stream_rag(session.question))
            else:
                client.query_rag(session.question)
        except httpx.HTTPStatusError as error:
            return error.response
        raise AssertionError("it did not fail")

    client = session.sync()
    unknown = failure(client.with_config(model="no-such-model"))
    assert unknown.status_code == 400
    assert unknown.json()["type"] == "BadRequestError"
    untyped = failure(client.with_context(query="NoSuchType"))
    assert untyped.status_code == 400
    assert set(untyped.json()) == {"message", "type"}
    empty = failure(client.with_context(query=""))
    assert empty.json()["message"] == "missing required 'query' in request 'context' object"
    assert failure(session.sync(branch="no-such-branch")).status_code == 404
    wrong = {"password": "x"} if session.auth == "basic" else {"secret_key": "x"}
    denied = failure(session.sync(**wrong))
    assert denied.status_code == 401
    assert "www-authenticate" not in denied.headers
    streamed = failure(client.with_config(model="no-such-model"), streamed=True)
    assert streamed.status_code == 400


SCENARIOS = (query, stream, leave, context, embeddings, errors)

if __name__ == "__main__":
    for scenario in SCENARIOS:
        scenario(Session(httpx.URL(sys.argv[1]), *sys.argv[2:]))
        print("ok", scenario.__name__)
