"""Gel's dialect before the real services, on their echo engines: nothing is scripted here."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import uvicorn
from penstock.inference.v1 import message_pb2
from penstock.retrieval.v1 import (
    collection_pb2,
    document_pb2,
    prompt_pb2,
    retrieval_service_pb2,
    retrieval_service_pb2_grpc,
)
from scramp import ScramClient

from gateway.__main__ import listen
from gateway.app import build
from gateway.clients import Clients
from gateway.settings import SERVICE_PORTS, Settings
from policy.principals import Role
from policy.token_file import TokenFile
from services.retrieval.parsing import Extractor
from services.retrieval.stores import open_store
from services.settings import RetrievalSettings
from tests.integration.gateway.gel.gel_edge import basic, bearer
from tests.integration.gateway.gel.test_gel_sign_in import CHALLENGE, b64
from tests.integration.gateway.gel.test_gel_streams import events_of
from tests.integration.retrieval.service.rag_platform import (
    credential,
    documents_in,
    peers,
    retrieval_service,
    serving,
    upserts,
)

FACTS = {
    "mars": "The sky on Mars is red.",
    "earth": "The sky on Earth is blue.",
    "cheese": "Cheese is made of milk.",
}
QUESTION = "What color is the sky on Mars?"
RAG = "/branch/main/ext/ai/rag"


@dataclass
class Whole:
    """The edge and everything behind it."""

    http: httpx.AsyncClient
    retrieval: Any
    keys: TokenFile

    async def load(self, tenant: str, token: str, facts: dict[str, str]) -> None:
        request = retrieval_service_pb2.CreateCollectionRequest(
            parent=f"tenants/{tenant}",
            collection=collection_pb2.Collection(embedding_model="words"),
            collection_id="Astronomy",
        )
        made = await self.retrieval.CreateCollection(request, metadata=credential(token))
        documents = [document_pb2.Document(name=name, text=text) for name, text in facts.items()]
        for place, document in enumerate(documents):
            document.properties.update({"rank": place})
        call = self.retrieval.UpsertDocuments(
            upserts(made.name, documents), metadata=credential(token)
        )
        events = [event async for event in call]
        assert events[-1].finish.created_count == len(facts)


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]
        yield


@pytest.fixture
async def whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Whole]:
    monkeypatch.setattr("policy.token_store._RECHECK_S", 0.0)  # keys are made during tests
    own = RetrievalSettings(address="")
    async with contextlib.AsyncExitStack() as stack:
        others = await stack.enter_async_context(peers(tmp_path))
        store = await open_store(await documents_in(tmp_path), own)
        stack.push_async_callback(store.close)
        extractor = await stack.enter_async_context(Extractor())
        registration, _ = retrieval_service(stack, store, extractor, others.targets, own)
        server = await stack.enter_async_context(serving(others.authenticator, registration))
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(server.address))
        nowhere = dict.fromkeys(SERVICE_PORTS, "127.0.0.1:1")
        settings = Settings(
            data_dir=tmp_path,
            service_token="service",
            addresses={**nowhere, **others.targets, "retrieval": server.address},
        )
        listener = listen("127.0.0.1", 0)
        config = uvicorn.Config(
            build(settings, Clients(settings)),
            http="httptools",
            lifespan="on",
            log_config=None,
            timeout_graceful_shutdown=1,
        )
        edge = _Server(config)
        serving_edge = asyncio.create_task(edge.serve([listener]))
        while not edge.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)
        host, port = listener.getsockname()
        async with httpx.AsyncClient(
            base_url=f"http://{host}:{port}", headers=bearer("user"), timeout=30
        ) as http:
            stub = retrieval_service_pb2_grpc.RetrievalServiceStub(channel)
            yield Whole(http, stub, TokenFile(tmp_path / "tokens.json"))
        edge.should_exit = True
        await serving_edge


def rag(query: str = "Astronomy", **changes: Any) -> dict[str, Any]:
    context = {"query": query, "max_object_count": 1} | changes.pop("context", {})
    return {"context": context, "model": "echo", "query": QUESTION} | changes


async def test_an_answer_whole_and_streamed(whole: Whole) -> None:
    await whole.load("default", "user", FACTS)
    answer = await whole.http.post(RAG, json=rag())
    assert answer.status_code == 200, answer.text
    body = answer.json()
    # The echo engine says the end of what it was asked.
    assert body["text"]
    assert body["response"] == body["text"]
    assert body["usage"]["total_tokens"] > 0
    streamed = await whole.http.post(RAG, json=rag(stream=True))
    events = events_of(streamed.text)
    deltas = [e["delta"]["text"] for e in events if e["type"] == "content_block_delta"]
    assert "".join(deltas) == body["text"]
    assert events[-1] == {"type": "message_stop"}


async def test_the_prompt_gets_the_nearest_objects(whole: Whole) -> None:
    await whole.load("default", "user", FACTS)
    message = message_pb2.Message(
        role=message_pb2.ROLE_USER, parts=[message_pb2.Part(text="{context} | {query}")]
    )
    prompt = prompt_pb2.Prompt(name="tenants/default/prompts/mine", messages=[message])
    request = retrieval_service_pb2.PutPromptRequest(prompt=prompt)
    stored = await whole.retrieval.PutPrompt(request, metadata=credential("user"))

    async def text(body: dict[str, Any]) -> str:
        answer = await whole.http.post(RAG, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()["text"].strip()

    for named in ({"name": "mine"}, {"id": stored.uid}):
        assert await text(rag(prompt=named)) == f"{FACTS['mars']} | {QUESTION}"
    # Custom messages come behind it, and alone they are all that the model is told.
    custom = [{"role": "user", "content": [{"type": "text", "text": "Say cheese."}]}]
    assert await text(rag(prompt={"custom": custom})) == "Say cheese."
    # Only what the query selects.
    query = "(select Astronomy filter .rank >= <int64>$least and .rank < 9 limit 1)"
    selected = rag(query, prompt={"name": "mine"}, context={"variables": {"least": 2}})
    assert (await text(selected)).startswith(FACTS["cheese"])


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"query": "NoSuchType"}, 400, "NoSuchType"),
        ({"query": "select Astronomy filter"}, 400, "line 1"),
        ({"query": "select Astronomy filter .rank = <int64>$x"}, 400, "x"),
        ({"query": "(select Astronomy filter .rank > 100)"}, 400, "did not match"),
        ({"model": "no-such-model"}, 400, "no-such-model"),
        ({"model": "openai:no-such-model"}, 400, "openai:no-such-model"),
        ({"prompt": {"name": "no-such-prompt"}}, 400, "no-such-prompt"),
        ({"prompt": {"id": "no-such-prompt"}}, 400, "no-such-prompt"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, 400, "tools[0]"),
    ],
)
async def test_errors_of_the_real_services(
    whole: Whole, changes: dict[str, Any], status: int, words: str, stream: bool
) -> None:
    await whole.load("default", "user", FACTS)
    answer = await whole.http.post(RAG, json=rag(**changes, stream=stream))
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert list(body) == ["message", "type"]
    assert body["type"] == "BadRequestError"
    assert words in body["message"], body
    assert "expression" not in body["message"]


async def test_a_provider_before_a_model_is_left_out(whole: Whole) -> None:
    await whole.load("default", "user", FACTS)
    answer = await whole.http.post(RAG, json=rag(model="openai:echo"))
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == "openai:echo"
    vectors = await whole.http.post(
        "/branch/main/ai/embeddings", json={"inputs": ["a b", "c"], "model": "mistral:words"}
    )
    assert len(vectors.json()["data"][1]["embedding"]) == 64


async def test_branches_hide_from_each_other(whole: Whole) -> None:
    await whole.load("default", "user", FACTS)
    await whole.load("acme", "acme", {"secret": "The sky on Mars is a secret of acme."})

    async def ask(branch: str, token: str) -> httpx.Response:
        path = f"/branch/{branch}/ai/rag"
        prompt = {"prompt": None, "context": {"max_object_count": 1000}}
        return await whole.http.post(path, json=rag(**prompt), headers=bearer(token))

    for token in ("user", "acme"):
        assert (await ask("nowhere", token)).status_code == 404
    assert (await ask("acme", "user")).status_code == 401
    assert (await ask("main", "acme")).status_code == 401
    for branch, token in (("acme", "both"), ("main", "both"), ("acme", "root"), ("main", "root")):
        answer = await ask(branch, token)
        assert answer.status_code == 200, answer.text
    assert (await ask("empty", "root")).status_code == 404


async def test_a_signed_in_user_reaches_every_service(whole: Whole) -> None:
    await whole.load("default", "user", FACTS)
    entry, key = whole.keys.create("al", [Role.USER], gel_user="alice")
    client = ScramClient(["SCRAM-SHA-256"], "alice", key)

    async def step(attributes: str) -> httpx.Response:
        headers = {"authorization": f"SCRAM-SHA-256 {attributes}"}
        return await whole.http.get("/auth/token", headers=headers)

    begun = await step(f"data={b64(client.get_client_first())}")
    match = CHALLENGE.fullmatch(begun.headers["www-authenticate"])
    assert match
    client.set_server_first(base64.b64decode(match[2]).decode())
    token = (await step(f"sid={match[1]}, data={b64(client.get_client_final())}")).text
    for headers in (bearer(token), basic("alice", key)):
        answer = await whole.http.post(RAG, json=rag(), headers=headers)
        assert answer.status_code == 200, answer.text
    whole.keys.revoke(entry.id)
    for headers in (bearer(token), basic("alice", key)):
        assert (await whole.http.post(RAG, json=rag(), headers=headers)).status_code == 401


async def test_bad_inputs_of_vectors(whole: Whole) -> None:
    path = "/branch/main/ai/embeddings"
    for changes, words in (
        ({"model": "no-such-model"}, "no-such-model"),
        ({"model": "echo"}, "echo"),
        ({"dimensions": 5000}, "dimensions"),
        ({"inputs": ["fine", "long " * 500]}, "inputs[1]"),
    ):
        answer = await whole.http.post(path, json={"inputs": "a", "model": "words"} | changes)
        assert answer.status_code == 400, answer.text
        assert answer.json()["type"] == "BadRequestError"
        assert words in json.dumps(answer.json()["message"])
