"""Two tenants on one platform, each trying to get at what is the other's."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import grpc
import httpx
import pytest
from penstock.inference.v1 import message_pb2
from penstock.retrieval.v1 import (
    collection_pb2,
    prompt_pb2,
    retrieval_service_pb2,
    search_pb2,
    upsert_pb2,
)

from tests.e2e.library import CHAT, EMBEDDER, Library, document, library, penstock
from tests.e2e.stack import Platform, until

pytestmark = pytest.mark.timeout(600)  # where others work too, models load slowly
SHARED = "Vaults"
"""Both tenants have a collection of this name."""
SECRETS = {
    "acme": "The word that opens the vault is swordfish.",
    "globex": "The word that opens the vault is octopus.",
}
QUESTION = "Which word opens the vault?"
STREAMS = ("UpsertDocuments", "Answer")
MODES = (
    search_pb2.SEARCH_MODE_VECTOR,
    search_pb2.SEARCH_MODE_TEXT,
    search_pb2.SEARCH_MODE_HYBRID,
)


class Tenant(NamedTuple):
    """One of the two."""

    name: str
    key: str
    library: Library
    http: httpx.Client

    @property
    def own(self) -> str:
        """A collection that the other has none of that name."""
        return f"Only-{self.name}"


@pytest.fixture(scope="module")
def tenants(platform: Platform) -> Iterator[tuple[Tenant, Tenant]]:
    with opened(platform, "acme") as first, opened(platform, "globex") as second:
        yield first, second


@contextlib.contextmanager
def opened(platform: Platform, name: str) -> Iterator[Tenant]:
    """Makes a tenant's key with the command, and its collections over gRPC."""
    told = penstock(platform, "keys", "create", name, "--tenant", name, "--json")
    made = json.loads(told.stdout)
    bearer = {"authorization": f"Bearer {made['key']}"}
    with (
        library(platform, made["key"], name) as mine,
        httpx.Client(base_url=platform.url, headers=bearer, timeout=120) as client,
    ):
        tenant = Tenant(name, made["key"], mine, client)
        try:
            until(lambda: is_known(tenant))
            for collection in (SHARED, tenant.own):
                mine.create(collection)
                mine.put(collection, [document("secret", SECRETS[name])])
            yield tenant
        finally:
            for collection in (SHARED, tenant.own):
                mine.drop(collection)
            penstock(platform, "keys", "revoke", made["id"])


def is_known(tenant: Tenant) -> bool:
    """Tells whether every service knows the key by now: each looks for itself."""
    say = {"model": CHAT, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
    answers = [
        tenant.http.get("/v1/models"),
        tenant.http.get("/v1/vector_stores"),
        tenant.http.post("/v1/embeddings", json={"model": EMBEDDER, "input": "Hi"}),
        tenant.http.post("/v1/chat/completions", json=say),
    ]
    try:
        tenant.library.create("First")  # asks the catalogue
    except grpc.RpcError:
        return False
    tenant.library.drop("First")
    return all(answer.status_code == httpx.codes.OK for answer in answers)


def both_ways(tenants: tuple[Tenant, Tenant]) -> Iterator[tuple[Tenant, Tenant]]:
    first, second = tenants
    yield first, second
    yield second, first


def test_each_finds_its_own_under_a_name_that_both_have(tenants: tuple[Tenant, Tenant]) -> None:
    for one, other in both_ways(tenants):
        texts = [hit.text for mode in MODES for hit in one.library.search(SHARED, QUESTION, mode)]
        found = one.http.post(f"/v1/vector_stores/{SHARED}/search", json={"query": QUESTION})
        texts += [part["text"] for hit in found.json()["data"] for part in hit["content"]]
        answer = list(one.library.answer(SHARED, QUESTION))
        texts += [hit.text for hit in answer[0].retrieved.hits]
        content = one.http.get(f"/v1/vector_stores/{SHARED}/files/secret/content")
        texts += [part["text"] for part in content.json()["data"]]
        assert texts == [SECRETS[one.name]] * len(texts)
        assert len(texts) == len(MODES) + 3
        stores = one.http.get("/v1/vector_stores").json()["data"]
        assert {store["id"] for store in stores} == {SHARED, one.own}
        for branch in (one.name, "__default__"):
            told = rag(one, branch, SHARED)
            assert told.status_code == 200, told.text
            assert secret_word(other) not in told.text


def secret_word(tenant: Tenant) -> str:
    return SECRETS[tenant.name].rsplit(maxsplit=1)[-1].rstrip(".")


def rag(who: Tenant, branch: str, type_: str, prefix: str = "branch") -> httpx.Response:
    body = {"context": {"query": type_}, "model": CHAT, "query": QUESTION, "temperature": 0}
    return who.http.post(f"/{prefix}/{branch}/ext/ai/rag", json=body)


def calls_on(victim: Tenant) -> dict[str, Any]:
    """Every method of the service, with what is another's."""
    pb, own = retrieval_service_pb2, victim.library
    here = own.name(victim.own)
    text = message_pb2.Message(role=message_pb2.ROLE_USER, parts=[message_pb2.Part(text="Hi")])
    prompt = f"{own.tenant}/prompts/mine"
    return {
        "CreateCollection": pb.CreateCollectionRequest(
            parent=own.tenant, collection_id="New", collection=collection_pb2.Collection()
        ),
        "GetCollection": pb.GetCollectionRequest(name=here),
        "ListCollections": pb.ListCollectionsRequest(parent=own.tenant),
        "UpdateCollection": pb.UpdateCollectionRequest(
            collection=collection_pb2.Collection(name=here, display_name="Taken")
        ),
        "DeleteCollection": pb.DeleteCollectionRequest(name=here),
        "UpsertDocuments": iter(
            (
                pb.UpsertDocumentsRequest(start=upsert_pb2.UpsertStart(collection=here)),
                pb.UpsertDocumentsRequest(document=document("new", "Hello.")),
            )
        ),
        "GetDocument": pb.GetDocumentRequest(name=own.name(victim.own, "secret")),
        "ListDocuments": pb.ListDocumentsRequest(parent=here),
        "DeleteDocument": pb.DeleteDocumentRequest(name=own.name(victim.own, "secret")),
        "DeleteDocuments": pb.DeleteDocumentsRequest(
            parent=here, names=[own.name(victim.own, "secret")]
        ),
        "PutPrompt": pb.PutPromptRequest(prompt=prompt_pb2.Prompt(name=prompt, messages=[text])),
        "GetPrompt": pb.GetPromptRequest(name=prompt),
        "ListPrompts": pb.ListPromptsRequest(parent=own.tenant),
        "DeletePrompt": pb.DeletePromptRequest(name=prompt),
        "Search": pb.SearchRequest(collection=here, text=QUESTION),
        "Answer": own.question(victim.own, QUESTION),
    }


def state_of(victim: Tenant) -> list[Any]:
    """What another could have changed."""
    pb, own = retrieval_service_pb2, victim.library
    collections = own.stub.ListCollections(
        pb.ListCollectionsRequest(parent=own.tenant), metadata=own.metadata, timeout=60
    ).collections
    for collection in collections:
        collection.ClearField("last_search_time")
    prompts = own.stub.ListPrompts(
        pb.ListPromptsRequest(parent=own.tenant), metadata=own.metadata, timeout=60
    ).prompts
    return [*collections, *own.documents(SHARED), *own.documents(victim.own), *prompts]


def test_nothing_of_anothers_is_reached_over_grpc(tenants: tuple[Tenant, Tenant]) -> None:
    methods = retrieval_service_pb2.DESCRIPTOR.services_by_name["RetrievalService"].methods_by_name
    for thief, victim in both_ways(tenants):
        mine, theirs = thief.library, victim.library
        prompt = calls_on(victim)["PutPrompt"]
        theirs.stub.PutPrompt(prompt, metadata=theirs.metadata, timeout=60)
        before, tried = state_of(victim), calls_on(victim)
        assert set(tried) == set(methods), "a method is not tried"
        for method, request in tried.items():
            with pytest.raises(grpc.RpcError) as refusal:
                ask(mine, method, request)
            error = refusal.value
            assert isinstance(error, grpc.Call)
            assert error.code() == grpc.StatusCode.NOT_FOUND, (method, error)
            assert secret_word(victim) not in str(error)
        assert state_of(victim) == before
        request = retrieval_service_pb2.DeletePromptRequest(name=prompt.prompt.name)
        theirs.stub.DeletePrompt(request, metadata=theirs.metadata, timeout=60)


def ask(who: Library, method: str, request: Any) -> None:
    """Makes a call and reads its answer to the end."""
    call: Any = getattr(who.stub, method)
    answer = call(request, metadata=who.metadata, timeout=60)
    if method in STREAMS:
        list(answer)


def test_nothing_of_anothers_is_reached_over_rest(tenants: tuple[Tenant, Tenant]) -> None:
    for thief, victim in both_ways(tenants):
        before = state_of(victim)
        uid = victim.library.get(victim.own).uid
        for store in (victim.own, uid, f"..%2F..%2F{victim.name}%2Fcollections%2F{victim.own}"):
            path = f"/v1/vector_stores/{store}"
            for method, rest, body in (
                ("GET", "", None),
                ("POST", "", {"name": "Taken"}),
                ("DELETE", "", None),
                ("POST", "/search", {"query": QUESTION}),
                ("GET", "/files", None),
                ("GET", "/files/secret", None),
                ("GET", "/files/secret/content", None),
                ("DELETE", "/files/secret", None),
            ):
                told = thief.http.request(method, path + rest, json=body)
                assert told.status_code in (400, 404), (method, path + rest, told.text)
                assert secret_word(victim) not in told.text
        for prefix in ("branch", "db"):
            for type_ in (victim.own, SHARED):
                told = rag(thief, victim.name, type_, prefix)
                assert told.status_code in (401, 404), told.text
        for branch in (thief.name, "__default__"):
            told = rag(thief, branch, victim.own)
            assert (told.status_code, told.json()["type"]) == (400, "BadRequestError"), told.text
        for branch in ("main", "edgedb", "*"):
            assert rag(thief, branch, SHARED).status_code in (401, 404)
        assert state_of(victim) == before


def test_the_command_asks_for_anothers_in_vain(
    platform: Platform, tenants: tuple[Tenant, Tenant]
) -> None:
    thief, victim = tenants
    there = ("--tenant", victim.name, "--collection", SHARED)
    refused = penstock(platform, "docs", "list", *there, key=thief.key, status=1)
    assert "NOT_FOUND" in refused.stderr
    own = penstock(
        *(platform, "docs", "list", "--tenant", thief.name, "--collection", SHARED, "--json"),
        key=thief.key,
    )
    assert len(json.loads(own.stdout)) == 1
