"""What one tenant has, another never sees: tried with every method."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf.struct_pb2 import Value
from penstock.inference.v1 import message_pb2 as message_pb
from penstock.retrieval.v1 import retrieval_service_pb2 as pb
from penstock.retrieval.v1 import search_pb2 as search_pb

from tests.integration.reasons import reason
from tests.integration.retrieval.service.rag_platform import (
    Platform,
    broken,
    credential,
    upserts,
)

SECRET = "the vault opens at midnight"
USER_MESSAGE = message_pb.Message(role=message_pb.ROLE_USER, parts=[{"text": "{context}"}])


def calls(tenant: str) -> dict[str, Callable[[Any, Any], Any]]:
    """A call of every method that names the tenant, by the method's name."""
    parent = f"tenants/{tenant}"
    collection = f"{parent}/collections/docs"
    document = f"{collection}/documents/secret"
    prompt = f"{parent}/prompts/mine"
    matching = search_pb.Filter(
        comparison=search_pb.Comparison(
            property="id",
            operator=search_pb.Comparison.OPERATOR_EQUAL,
            value=Value(string_value="secret"),
        )
    )

    def unary(method: str, request: Any) -> Callable[[Any, Any], Any]:
        return lambda stub, metadata: getattr(stub, method)(request, metadata=metadata)

    return {
        "CreateCollection": unary(
            "CreateCollection",
            pb.CreateCollectionRequest(parent=parent, collection_id="new", collection={}),
        ),
        "GetCollection": unary("GetCollection", pb.GetCollectionRequest(name=collection)),
        "ListCollections": unary("ListCollections", pb.ListCollectionsRequest(parent=parent)),
        "UpdateCollection": unary(
            "UpdateCollection",
            pb.UpdateCollectionRequest(collection={"name": collection, "display_name": "x"}),
        ),
        "DeleteCollection": unary("DeleteCollection", pb.DeleteCollectionRequest(name=collection)),
        "UpsertDocuments": lambda stub, metadata: stub.UpsertDocuments(
            upserts(collection, [{"name": "secret", "text": "changed"}]), metadata=metadata
        ),
        "GetDocument": unary("GetDocument", pb.GetDocumentRequest(name=document)),
        "ListDocuments": unary("ListDocuments", pb.ListDocumentsRequest(parent=collection)),
        "DeleteDocument": unary("DeleteDocument", pb.DeleteDocumentRequest(name=document)),
        "DeleteDocuments": unary(
            "DeleteDocuments", pb.DeleteDocumentsRequest(parent=collection, filter=matching)
        ),
        "PutPrompt": unary(
            "PutPrompt", pb.PutPromptRequest(prompt={"name": prompt, "messages": [USER_MESSAGE]})
        ),
        "GetPrompt": unary("GetPrompt", pb.GetPromptRequest(name=prompt)),
        "ListPrompts": unary("ListPrompts", pb.ListPromptsRequest(parent=parent)),
        "DeletePrompt": unary("DeletePrompt", pb.DeletePromptRequest(name=prompt)),
        "Search": unary("Search", pb.SearchRequest(collection=collection, text="vault")),
        "Answer": unary(
            "Answer",
            pb.AnswerRequest(
                parent=parent, model="echo", query="vault?", context={"collection_id": "docs"}
            ),
        ),
    }


async def run(call: Any) -> list[Any]:
    """Every message that a call answers."""
    if hasattr(call, "__aiter__"):
        return [message async for message in call]
    return [await call]


async def refusal(call: Any) -> grpc.aio.AioRpcError:
    try:
        found = await run(call)
    except grpc.aio.AioRpcError as error:
        return error
    raise AssertionError(f"it was answered: {found}")


async def fill(rag: Platform) -> None:
    """A collection and a prompt of the tenant acme."""
    await rag.load({"secret": SECRET}, parent="tenants/acme", token="acme")
    prompt = {"name": "tenants/acme/prompts/mine", "messages": [USER_MESSAGE]}
    await rag.stub.PutPrompt(pb.PutPromptRequest(prompt=prompt), metadata=credential("acme"))


def test_every_method_is_tried() -> None:
    service = pb.DESCRIPTOR.services_by_name["RetrievalService"]
    assert set(calls("acme")) == {method.name for method in service.methods}


@pytest.mark.parametrize("token", ["user", "admin"])
async def test_what_is_another_tenants_is_not_found(rag: Platform, token: str) -> None:
    """A role, even that of an admin, opens no tenant."""
    await fill(rag)
    for method, call in calls("acme").items():
        error = await refusal(call(rag.stub, credential(token)))
        assert error.code() is grpc.StatusCode.NOT_FOUND, method
        assert reason(error)[0] == "NOT_FOUND", method
        assert SECRET not in (error.details() or "")
    missing = calls("nobody")
    for method, call in calls("acme").items():
        theirs = await refusal(call(rag.stub, credential(token)))
        nobodys = await refusal(missing[method](rag.stub, credential(token)))
        told = (theirs.details() or "").replace("acme", "nobody")
        assert told == nobodys.details(), "nothing tells that the other tenant is there"
    hits = await run(calls("acme")["Search"](rag.stub, credential("acme")))
    assert [hit.text for hit in hits[0].hits] == [SECRET], "and nothing was changed"
    prompts = await run(calls("acme")["ListPrompts"](rag.stub, credential("acme")))
    assert len(prompts[0].prompts) == 2


@pytest.mark.parametrize("token", ["acme", "both", "root"])
async def test_who_belongs_to_a_tenant_reaches_it(rag: Platform, token: str) -> None:
    await fill(rag)
    order = sorted(calls("acme").items(), key=lambda item: item[0].startswith("Delete"))
    for method, call in order:
        if method in ("DeleteDocuments", "DeleteCollection"):
            continue
        await run(call(rag.stub, credential(token)))
    await run(calls("acme")["DeleteCollection"](rag.stub, credential(token)))


async def test_the_same_names_in_two_tenants_are_two_things(rag: Platform) -> None:
    await fill(rag)
    mine = await rag.load({"secret": "my own"})
    assert [hit.text for hit in await rag.search(mine, "vault midnight")] == ["my own"]
    found = await run(calls("default")["Answer"](rag.stub, credential("both")))
    assert [hit.text for hit in found[0].retrieved.hits] == ["my own"]
    await run(calls("default")["DeleteCollection"](rag.stub, credential("user")))
    await run(calls("acme")["GetDocument"](rag.stub, credential("acme")))


async def test_names_of_another_tenant_don_t_slip_in_beside_the_parent(rag: Platform) -> None:
    await fill(rag)
    mine = await rag.load({"a": "red"})
    theirs = "tenants/acme/collections/docs/documents/secret"
    both = credential("both")
    for request in (
        pb.DeleteDocumentsRequest(parent=mine, names=[theirs]),
        pb.ListDocumentsRequest(parent=mine, after=theirs),
    ):
        method = type(request).__name__.removesuffix("Request")
        error = await refusal(getattr(rag.stub, method)(request, metadata=both))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    answer = pb.AnswerRequest(
        parent="tenants/default",
        model="echo",
        query="red",
        context={"collection_id": "docs"},
        prompt={"name": "tenants/acme/prompts/mine"},
    )
    _, error = await broken(rag.stub.Answer(answer, metadata=both))
    assert reason(error) == ("INVALID_ARGUMENT", "prompt.name")
    events = await rag.upsert(mine, [{"name": theirs, "text": "x"}], token="both")
    assert reason(events[0].rejected.status) == ("INVALID_ARGUMENT", "document.name")
    for id in ("../../acme/collections/docs", "tenants/acme/collections/docs"):
        answer.context.collection_id = id
        answer.ClearField("prompt")
        _, error = await broken(rag.stub.Answer(answer, metadata=both))
        assert error.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("token", ["", "nobody"])
async def test_strangers_are_turned_away(rag: Platform, token: str) -> None:
    for method, call in calls("default").items():
        error = await refusal(call(rag.stub, credential(token)))
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED, method
