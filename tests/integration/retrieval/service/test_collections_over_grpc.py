"""Collections, documents and prompts through the service's calls."""

import asyncio
import time
from datetime import UTC, datetime

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp
from penstock.inference.v1 import message_pb2 as message_pb
from penstock.retrieval.v1 import collection_pb2 as collection_pb
from penstock.retrieval.v1 import document_pb2 as document_pb
from penstock.retrieval.v1 import prompt_pb2 as prompt_pb
from penstock.retrieval.v1 import retrieval_service_pb2 as pb
from penstock.retrieval.v1 import search_pb2 as search_pb

from services.retrieval.names import is_uid
from tests.integration.reasons import reason
from tests.integration.retrieval.service.rag_platform import (
    CONTEXT_LENGTH,
    PARENT,
    USER,
    Platform,
)

Schema = collection_pb.PropertySchema


async def create(rag: Platform, id: str = "", request_id: str = "", **values: object):
    asked = collection_pb.Collection(**values)
    request = pb.CreateCollectionRequest(
        parent=PARENT, collection=asked, collection_id=id, request_id=request_id
    )
    return await rag.stub.CreateCollection(request, metadata=USER)


async def test_a_collection_gets_its_model_and_all_that_follows_from_it(rag: Platform) -> None:
    made = await create(rag)
    id = made.name.removeprefix(f"{PARENT}/collections/")
    assert id.startswith("vs_")
    assert len(id) == 27
    assert is_uid(made.uid)
    assert (made.embedding_model, made.dimensions) == ("words", 64), "the first that serves"
    assert made.distance_metric == collection_pb.DISTANCE_METRIC_COSINE
    assert made.chunking.max_tokens == CONTEXT_LENGTH, "no more than the model takes"
    assert made.chunking.overlap_tokens == 32
    assert made.display_name == id
    assert made.etag
    assert (
        await rag.stub.GetCollection(pb.GetCollectionRequest(name=made.name), metadata=USER) == made
    )


async def test_what_is_asked_for_is_kept(rag: Platform) -> None:
    asked = {
        "display_name": "Ours",
        "embedding_model": "models/zero",
        "dimensions": 16,
        "distance_metric": collection_pb.DISTANCE_METRIC_L2,
        "chunking": collection_pb.Chunking(max_tokens=20, overlap_tokens=3),
        "properties": [Schema(name="year", type=Schema.TYPE_INT64, required=True)],
        "metadata": {"a": "b"},
        "expire_time": Timestamp(seconds=4_000_000_000),
    }
    made = await create(rag, "ours", **asked)
    for name, value in (asked | {"embedding_model": "zero"}).items():
        assert getattr(made, name) == value, name
    assert made.name == f"{PARENT}/collections/ours"


WRONG_COLLECTIONS = [
    ({"embedding_model": "nothing"}, ("MODEL_NOT_FOUND", "collection.embedding_model")),
    ({"embedding_model": "echo"}, ("MODEL_NOT_FOUND", "collection.embedding_model")),
    ({"embedding_model": "gone"}, ("MODEL_NOT_READY", "collection.embedding_model")),
    ({"dimensions": 100}, ("INVALID_ARGUMENT", "collection.dimensions")),
    (
        {"chunking": {"max_tokens": CONTEXT_LENGTH + 1}},
        ("INVALID_ARGUMENT", "collection.chunking.max_tokens"),
    ),
    (
        {"chunking": {"overlap_tokens": 500}},
        ("INVALID_ARGUMENT", "collection.chunking.overlap_tokens"),
    ),
    (
        {"chunking": {"whole_documents": True, "overlap_tokens": 1}},
        ("INVALID_ARGUMENT", "collection.chunking.overlap_tokens"),
    ),
    (
        {"properties": [Schema(name="id", type=Schema.TYPE_STRING)]},
        ("INVALID_ARGUMENT", "collection.properties[0].name"),
    ),
    (
        {"properties": [Schema(name="a", type=Schema.TYPE_STRING)] * 2},
        ("INVALID_ARGUMENT", "collection.properties[1].name"),
    ),
    ({"display_name": "a\0"}, ("INVALID_ARGUMENT", "collection.display_name")),
    ({"metadata": {"a": "\0"}}, ("INVALID_ARGUMENT", "collection.metadata")),
    ({"expire_time": Timestamp(seconds=1)}, ("INVALID_ARGUMENT", "collection.expire_time")),
    ({"expire_after": Duration(nanos=10**8)}, ("INVALID_ARGUMENT", "collection.expire_after")),
    (
        {"expire_after": Duration(seconds=3650 * 86400, nanos=1)},
        ("INVALID_ARGUMENT", "collection.expire_after"),
    ),
    (
        {"expire_after": Duration(seconds=60), "expire_time": Timestamp(seconds=4 * 10**9)},
        ("INVALID_ARGUMENT", "collection.expire_time"),
    ),
    (
        {"expire_time": Timestamp(seconds=10**15)},
        ("INVALID_ARGUMENT", "collection.expire_time"),
    ),
]


async def test_what_cannot_be_is_refused_by_its_field(rag: Platform) -> None:
    for values, expected in WRONG_COLLECTIONS:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await create(rag, "c", **values)
        assert reason(raised.value) == expected, values
    listed = await rag.stub.ListCollections(pb.ListCollectionsRequest(parent=PARENT), metadata=USER)
    assert not listed.collections


async def test_creating_is_repeatable_by_its_request_id(rag: Platform) -> None:
    first = await create(rag, "a", "once", display_name="A")
    assert await create(rag, "a", "once", display_name="A") == first
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await create(rag, "a")
    assert raised.value.code() is grpc.StatusCode.ALREADY_EXISTS
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await create(rag, "b", "once")
    assert reason(raised.value) == ("CONFLICT", "request_id")


async def test_collections_are_changed_by_mask_and_etag(rag: Platform) -> None:
    made = await create(rag, "c", metadata={"a": "b"}, display_name="C")

    async def update(paths: list[str], **values: object):
        asked = collection_pb.Collection(name=made.name, **values)
        request = pb.UpdateCollectionRequest(collection=asked, update_mask=FieldMask(paths=paths))
        return await rag.stub.UpdateCollection(request, metadata=USER)

    changed = await update([], display_name="D", etag=made.etag)
    assert (changed.display_name, dict(changed.metadata)) == ("D", {"a": "b"})
    assert changed.etag not in ("", made.etag)
    cleared = await update(["display_name", "metadata"])
    assert (cleared.display_name, dict(cleared.metadata)) == ("c", {})
    expires = await update(["expire_time"], expire_time=Timestamp(seconds=4_000_000_000))
    assert expires.expire_time.seconds == 4_000_000_000
    assert not (await update(["expire_time"])).HasField("expire_time")
    chunked = await update([], chunking=collection_pb.Chunking(max_tokens=64))
    assert (chunked.chunking.max_tokens, chunked.chunking.overlap_tokens) == (64, 16)
    same = await update([], embedding_model="models/words", dimensions=64, display_name="E")
    assert same.display_name == "E"
    for paths, values, expected in (
        ([], {"display_name": "F", "etag": made.etag}, "CONFLICT"),
        ([], {"embedding_model": "zero"}, "INVALID_ARGUMENT"),
        (["dimensions"], {"dimensions": 8}, "INVALID_ARGUMENT"),
        (["name"], {}, "INVALID_ARGUMENT"),
        (["chunking"], {"chunking": {"max_tokens": 8000}}, "INVALID_ARGUMENT"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await update(paths, **values)
        assert reason(raised.value)[0] == expected, paths
    present = await rag.stub.GetCollection(pb.GetCollectionRequest(name=made.name), metadata=USER)
    assert present == same


async def test_the_end_of_what_is_used_is_put_off(rag: Platform) -> None:
    name = await rag.load({"a": "red rocks"}, expire_after=Duration(seconds=3600, nanos=5000))

    async def get():
        return await rag.stub.GetCollection(pb.GetCollectionRequest(name=name), metadata=USER)

    def ends_after(one: collection_pb.Collection, active: Timestamp) -> bool:
        return one.expire_time.ToMicroseconds() == active.ToMicroseconds() + 3_600_000_005

    loaded = await get()
    assert loaded.update_time.ToMicroseconds() > loaded.create_time.ToMicroseconds()
    assert ends_after(loaded, loaded.update_time)
    await rag.search(name, "red")
    await rag.domain.searching.close()
    searched = await get()
    assert searched.last_search_time.ToMicroseconds() > loaded.update_time.ToMicroseconds()
    assert ends_after(searched, searched.last_search_time)
    assert (searched.etag, searched.expire_after) == (loaded.etag, loaded.expire_after)


async def test_an_end_is_changed_by_mask(rag: Platform) -> None:
    hour, day = Duration(seconds=3600), Duration(seconds=86400)
    far = Timestamp(seconds=4_000_000_000)
    made = await create(rag, "c", expire_after=hour, display_name="C")

    async def update(paths: list[str], asked: collection_pb.Collection | None = None, **values):
        asked = asked or collection_pb.Collection(name=made.name, **values)
        request = pb.UpdateCollectionRequest(collection=asked, update_mask=FieldMask(paths=paths))
        return await rag.stub.UpdateCollection(request, metadata=USER)

    # What was read may come back whole.
    for paths in ([], ["*"]):
        made.display_name += "!"
        same = await update(paths, made)
        assert (same.display_name, same.expire_after) == (made.display_name, hour)
        assert same.expire_time.ToMicroseconds() >= made.expire_time.ToMicroseconds()
        made = same
    for paths, values in (
        ([], {"expire_time": far}),
        (["expire_time"], {"expire_time": far}),
        (["expire_time"], {}),
        (["expire_after", "expire_time"], {"expire_after": day, "expire_time": far}),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await update(paths, **values)
        assert reason(raised.value) == ("INVALID_ARGUMENT", "collection.expire_time"), paths
        assert "expire_after" in raised.value.details()
    changed = await update(["expire_after", "expire_time"], expire_after=day)
    assert changed.expire_after == day
    assert changed.expire_time.seconds > made.expire_time.seconds
    cleared = await update(["expire_after"])
    assert not cleared.HasField("expire_after")
    assert not cleared.HasField("expire_time")
    assert (await update(["expire_time"], expire_time=far)).expire_time == far
    assert (await update(["expire_after"])).expire_time == far, "there was nothing to clear"
    again = await update([], expire_after=day)
    assert (again.expire_after, again.expire_time.ToMicroseconds()) == (
        day,
        again.update_time.ToMicroseconds() + 86400 * 10**6,
    )
    fixed = await update(["expire_after", "expire_time"], expire_time=far)
    assert (fixed.HasField("expire_after"), fixed.expire_time) == (False, far)


async def listed(rag: Platform, **values: object) -> list[list[str]]:
    """Every page of collections."""
    pages = []
    token = ""
    while True:
        request = pb.ListCollectionsRequest(parent=PARENT, page_token=token, **values)
        page = await rag.stub.ListCollections(request, metadata=USER)
        pages.append([one.name.rpartition("/")[2] for one in page.collections])
        token = page.next_page_token
        if not token:
            return pages


async def test_lists_go_page_by_page(rag: Platform) -> None:
    for id in "abcde":
        await create(rag, id)
    assert await listed(rag) == [list("edcba")]
    assert await listed(rag, page_size=2) == [["e", "d"], ["c", "b"], ["a"]]
    assert await listed(rag, page_size=5, order_by="create_time") == [list("abcde")]
    after = f"{PARENT}/collections/c"
    request = pb.ListCollectionsRequest(parent=PARENT, after=after, page_size=1)
    page = await rag.stub.ListCollections(request, metadata=USER)
    assert [one.name for one in page.collections] == [f"{PARENT}/collections/b"]
    for values in (
        {"page_token": "x"},
        {"page_token": page.next_page_token, "order_by": "create_time"},
        {"after": "tenants/both/collections/c"},
    ):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await rag.stub.ListCollections(
                pb.ListCollectionsRequest(parent=PARENT, **values), metadata=USER
            )
        assert raised.value.code() in (
            grpc.StatusCode.INVALID_ARGUMENT,
            grpc.StatusCode.NOT_FOUND,
        ), values


async def test_a_page_goes_on_behind_what_was_deleted(rag: Platform) -> None:
    for id in "abcde":
        await create(rag, id)
    request = pb.ListCollectionsRequest(parent=PARENT, page_size=2)
    page = await rag.stub.ListCollections(request, metadata=USER)
    last = page.collections[-1].name
    await rag.stub.DeleteCollection(pb.DeleteCollectionRequest(name=last), metadata=USER)
    request.page_token = page.next_page_token
    page = await rag.stub.ListCollections(request, metadata=USER)
    assert [one.name.rpartition("/")[2] for one in page.collections] == ["c", "b"]
    request = pb.ListCollectionsRequest(parent=PARENT, after=last)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await rag.stub.ListCollections(request, metadata=USER)
    assert reason(raised.value) == ("INVALID_ARGUMENT", "after")

    name = await rag.load(dict.fromkeys("vwxyz", "red rocks"))
    listing = pb.ListDocumentsRequest(parent=name, page_size=2, order_by="create_time")
    found = await rag.stub.ListDocuments(listing, metadata=USER)
    last = found.documents[-1].name
    await rag.stub.DeleteDocument(pb.DeleteDocumentRequest(name=last), metadata=USER)
    listing.page_token = found.next_page_token
    found = await rag.stub.ListDocuments(listing, metadata=USER)
    assert [one.name.rpartition("/")[2] for one in found.documents] == ["x", "y"]

    for id in "abc":
        prompt = prompt_pb.Prompt(
            name=f"{PARENT}/prompts/{id}", messages=[message("ROLE_ASSISTANT", "x")]
        )
        await rag.stub.PutPrompt(pb.PutPromptRequest(prompt=prompt), metadata=USER)
    for size, deleted, wanted in ((2, "b", ["builtin::rag-default", "c"]), (2, "", ["c"])):
        prompts = pb.ListPromptsRequest(parent=PARENT, page_size=size)
        first = await rag.stub.ListPrompts(prompts, metadata=USER)
        if deleted:
            deletion = pb.DeletePromptRequest(name=f"{PARENT}/prompts/{deleted}")
            await rag.stub.DeletePrompt(deletion, metadata=USER)
        else:
            assert first.prompts[-1].builtin, "one that no store has"
        prompts.page_token = first.next_page_token
        rest = await rag.stub.ListPrompts(prompts, metadata=USER)
        assert [one.name.rpartition("/")[2] for one in rest.prompts] == wanted


async def test_a_deleted_collection_is_gone_with_its_documents(rag: Platform) -> None:
    name = await rag.load({"a": "red rocks"})
    assert await rag.search(name, "red")
    await rag.stub.DeleteCollection(pb.DeleteCollectionRequest(name=name), metadata=USER)
    for call in (
        rag.stub.GetCollection(pb.GetCollectionRequest(name=name), metadata=USER),
        rag.stub.DeleteCollection(pb.DeleteCollectionRequest(name=name), metadata=USER),
        rag.stub.GetDocument(pb.GetDocumentRequest(name=f"{name}/documents/a"), metadata=USER),
        rag.stub.Search(pb.SearchRequest(collection=name, text="red"), metadata=USER),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call
        assert raised.value.code() is grpc.StatusCode.NOT_FOUND
    await create(rag, "docs")
    assert await rag.search(name, "red") == []


async def test_an_expired_collection_is_swept(rag: Platform) -> None:
    soon = Timestamp()
    soon.FromMilliseconds(int(time.time() * 1000) + 1000)
    made = await create(rag, "c", expire_time=soon)
    request = pb.GetCollectionRequest(name=made.name)
    await asyncio.sleep(soon.ToMilliseconds() / 1000 - time.time() + 0.01)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await rag.stub.GetCollection(request, metadata=USER)
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND
    now = datetime.now(UTC)
    assert list(await rag.store.expired(now)) == [("default", "c")]
    sweeping = asyncio.create_task(rag.domain.collections.sweep(0.01))
    for _ in range(3000):
        if not await rag.store.expired(now):
            break
        await asyncio.sleep(0.01)
    sweeping.cancel()
    assert not await rag.store.expired(now)
    assert (await create(rag, "c")).uid != made.uid


async def test_documents_are_got_listed_and_deleted(rag: Platform) -> None:
    name = await rag.collection(chunking=collection_pb.Chunking(max_tokens=16, overlap_tokens=0))
    properties = Struct()
    properties.update({"year": 2020, "tags": ["a", {"b": None}], "ok": True})
    sent = [
        document_pb.Document(
            name="dir/one.md",
            title="One",
            text="# One\n\nThe first.",
            mime_type="text/markdown",
            properties=properties,
            source_uri="file:one.md",
        ),
        document_pb.Document(name="two", text="word " * 100),
        document_pb.Document(data=b"<p>Three</p>", mime_type="text/html"),
    ]
    # One by one, for what is stored together has one time of creation.
    names = [
        n for one in sent for event in await rag.upsert(name, [one]) for n in event.committed.names
    ]
    assert names[:2] == [f"{name}/documents/dir/one.md", f"{name}/documents/two"]
    assert is_uid(names[2].rpartition("/")[2])

    async def get(document: str, view: int = document_pb.DOCUMENT_VIEW_UNSPECIFIED):
        request = pb.GetDocumentRequest(name=document, view=view)
        return await rag.stub.GetDocument(request, metadata=USER)

    one, two, three = [await get(document) for document in names]
    assert (one.title, one.mime_type, one.source_uri) == ("One", "text/markdown", "file:one.md")
    assert one.properties == properties
    assert "The first." in one.text
    assert (two.chunk_count, two.token_count) == (7, 100)
    assert (three.text.strip(), three.mime_type) == ("Three", "text/html")
    assert not (await get(names[0], document_pb.DOCUMENT_VIEW_BASIC)).text

    async def listing(**values: object):
        request = pb.ListDocumentsRequest(parent=name, **values)
        return await rag.stub.ListDocuments(request, metadata=USER)

    page = await listing(page_size=2, order_by="create_time")
    assert [d.name for d in page.documents] == names[:2]
    assert not any(d.text for d in page.documents)
    rest = await listing(page_size=2, order_by="create_time", page_token=page.next_page_token)
    assert [d.name for d in rest.documents] == names[2:]
    full = await listing(view=document_pb.DOCUMENT_VIEW_FULL)
    assert {d.name: d.text for d in full.documents} == {d.name: d.text for d in (one, two, three)}

    await rag.stub.DeleteDocument(pb.DeleteDocumentRequest(name=names[0]), metadata=USER)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await rag.stub.DeleteDocument(pb.DeleteDocumentRequest(name=names[0]), metadata=USER)
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND
    with pytest.raises(grpc.aio.AioRpcError):
        await get(names[0])
    deleted = await rag.stub.DeleteDocuments(
        pb.DeleteDocumentsRequest(parent=name, names=[names[0], names[1], names[1]]), metadata=USER
    )
    assert deleted.deleted_count == 1
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await rag.stub.DeleteDocuments(
            pb.DeleteDocumentsRequest(parent=name, names=[f"{PARENT}/collections/x/documents/y"]),
            metadata=USER,
        )
    assert reason(raised.value) == ("INVALID_ARGUMENT", "names[0]")


async def test_documents_are_deleted_by_filter_and_never_found_again(rag: Platform) -> None:
    name = await rag.load({f"d{n}": f"red rocks {n}" for n in range(6)})
    equal = search_pb.Comparison.OPERATOR_IN
    comparison = search_pb.Comparison(property="id", operator=equal)
    comparison.value.list_value.extend(["d1", "d4", "nothing"])
    request = pb.DeleteDocumentsRequest(parent=name, filter=search_pb.Filter(comparison=comparison))
    response = await rag.stub.DeleteDocuments(request, metadata=USER)
    assert response.deleted_count == 2
    for mode in (
        search_pb.SEARCH_MODE_VECTOR,
        search_pb.SEARCH_MODE_TEXT,
        search_pb.SEARCH_MODE_HYBRID,
    ):
        hits = await rag.search(name, "red rocks", mode=mode, exact=True)
        assert {h.document.rpartition("/")[2] for h in hits} == {"d0", "d2", "d3", "d5"}
    collection = await rag.stub.GetCollection(pb.GetCollectionRequest(name=name), metadata=USER)
    assert collection.document_count == 4


def message(role: str, text: str) -> message_pb.Message:
    return message_pb.Message(role=message_pb.Role.Value(role), parts=[{"text": text}])


async def test_prompts_are_put_got_listed_and_deleted(rag: Platform) -> None:
    async def put(id: str, *messages: message_pb.Message, etag: str = ""):
        prompt = prompt_pb.Prompt(name=f"{PARENT}/prompts/{id}", messages=messages, etag=etag)
        return await rag.stub.PutPrompt(pb.PutPromptRequest(prompt=prompt), metadata=USER)

    async def get(key: str):
        request = pb.GetPromptRequest(name=f"{PARENT}/prompts/{key}")
        return await rag.stub.GetPrompt(request, metadata=USER)

    first = await put("mine", message("ROLE_USER", "{context} {query}"))
    assert is_uid(first.uid)
    assert await get("mine") == first == await get(first.uid)
    second = await put("mine", message("ROLE_SYSTEM", "{context}"), etag=first.etag)
    assert (second.uid, second.create_time) == (first.uid, first.create_time)
    assert second.etag != first.etag
    by_uid = await put(first.uid, message("ROLE_USER", "by uid"))
    assert by_uid.name == f"{PARENT}/prompts/mine"
    builtin = await get("builtin::rag-default")
    assert builtin.builtin
    assert await get(builtin.uid) == builtin
    assert "{context}" in builtin.messages[0].parts[0].text
    assert "No information available." in builtin.messages[0].parts[0].text
    assert builtin.messages[1].parts[0].text == "Query: {query}\nAnswer: "

    for expected, key, *messages in (
        ("CONFLICT", "mine", message("ROLE_USER", "x")),
        ("FAILED_PRECONDITION", "builtin::rag-default", message("ROLE_USER", "x")),
        ("FAILED_PRECONDITION", builtin.uid, message("ROLE_USER", "x")),
        ("INVALID_ARGUMENT", "builtin::mine", message("ROLE_USER", "x")),
        ("INVALID_ARGUMENT", "11111111-2222-3333-4444-555555555555", message("ROLE_USER", "x")),
        ("INVALID_ARGUMENT", "other", message("ROLE_SYSTEM", "{query}")),
        ("INVALID_ARGUMENT", "other", message("ROLE_USER", "{")),
        ("INVALID_ARGUMENT", "other", message("ROLE_USER", "\0")),
        ("MISSING_FIELD", "other"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await put(key, *messages, etag=first.etag if expected == "CONFLICT" else "")
        assert reason(raised.value)[0] == expected, key

    for id in ("a", "c", "Z"):
        await put(id, message("ROLE_ASSISTANT", "{as it is"))
    names = []
    token = ""
    while True:
        request = pb.ListPromptsRequest(parent=PARENT, page_size=2, page_token=token)
        page = await rag.stub.ListPrompts(request, metadata=USER)
        assert 1 <= len(page.prompts) <= 2
        names += [prompt.name.rpartition("/")[2] for prompt in page.prompts]
        token = page.next_page_token
        if not token:
            break
    assert names == ["Z", "a", "builtin::rag-default", "c", "mine"]

    await rag.stub.DeletePrompt(
        pb.DeletePromptRequest(name=f"{PARENT}/prompts/{first.uid}"), metadata=USER
    )
    for key, expected in (
        ("mine", "NOT_FOUND"),
        (first.uid, "NOT_FOUND"),
        ("builtin::rag-default", "FAILED_PRECONDITION"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await rag.stub.DeletePrompt(
                pb.DeletePromptRequest(name=f"{PARENT}/prompts/{key}"), metadata=USER
            )
        assert reason(raised.value)[0] == expected
