"""Services that die or stall during a load or an answer: clear errors, nothing lost or halved."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from penstock.inference.v1 import inference_service_pb2 as inference_pb
from penstock.retrieval.v1 import collection_pb2 as collection_pb
from penstock.retrieval.v1 import document_pb2 as document_pb
from penstock.retrieval.v1 import retrieval_service_pb2 as pb
from penstock.retrieval.v1.retrieval_service_pb2_grpc import RetrievalServiceStub

from policy.token_store import TokenSources
from services.rpc.authentication import CallAuthenticator
from tests.integration.reasons import reason
from tests.integration.retrieval.service.rag_platform import (
    PARENT,
    USER,
    Peers,
    Platform,
    broken,
    embedding_model,
    embedding_service,
    peers,
    serving,
    upserts,
)

REPOSITORY = Path(__file__).parents[4]
Doc = document_pb.Document


async def count(stub: RetrievalServiceStub, name: str) -> collection_pb.Collection:
    return await stub.GetCollection(pb.GetCollectionRequest(name=name), metadata=USER)


async def running(rag: Platform) -> int:
    """Sequences that InferenceService runs or lets wait."""
    status = await rag.inference.GetQueueStatus(inference_pb.GetQueueStatusRequest(), metadata=USER)
    return status.depth


async def drained(rag: Platform) -> None:
    for _ in range(3000):
        if not await running(rag):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("sequences still run")


def question(model: str = "slow") -> pb.AnswerRequest:
    return pb.AnswerRequest(
        parent=PARENT, model=model, query="red " * 100, context={"collection_id": "docs"}
    )


async def test_embedding_that_stops_during_a_load_is_told_and_the_rest_goes_on(
    rag: Platform,
) -> None:
    name = await rag.collection()
    sent = [Doc(name=f"d{n}", text=f"text {n}") for n in range(40)]
    more = asyncio.Event()

    async def requests() -> AsyncIterator[pb.UpsertDocumentsRequest]:
        for request in upserts(name, sent[:15]):
            yield request
        await more.wait()
        for document in sent[15:]:
            yield pb.UpsertDocumentsRequest(document=document)

    call = rag.stub.UpsertDocuments(requests(), metadata=USER)
    settled = 0
    while settled < 15:
        settled = (await call.read()).committed.settled_count
    await rag.peers.servers["embedding"].stop(0)
    more.set()
    error = await _failure(call)
    assert reason(error) == ("UNAVAILABLE", "")
    assert "EmbeddingService" in (error.details() or "")
    assert (await count(rag.stub, name)).document_count == 15

    again = embedding_service(rag.peers.embeddings, rag.peers.threads)
    address = rag.peers.targets["embedding"]
    async with serving(rag.peers.authenticator, again, address=address):
        events = await _patient(lambda: rag.upsert(name, sent))
        finish = events[-1].finish
        assert (finish.created_count, finish.unchanged_count) == (25, 15)
        assert finish.embedded_chunk_count == 25


async def _failure(call: grpc.aio.Call) -> grpc.aio.AioRpcError:
    """Reads on until the stream fails."""
    try:
        while await call.read() is not grpc.aio.EOF:
            pass
    except grpc.aio.AioRpcError as error:
        return error
    raise AssertionError("the stream ended well")


async def _patient(attempt):
    """Tries again while a service is away."""
    for _ in range(100):
        try:
            return await attempt()
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            await asyncio.sleep(0.1)
    raise AssertionError("still away")


async def test_a_search_without_embedding_says_so_and_one_by_words_goes_on(rag: Platform) -> None:
    name = await rag.load({"a": "red rocks"})
    await rag.peers.servers["embedding"].stop(0)
    for call in (
        rag.search(name, "red", mode="SEARCH_MODE_VECTOR"),
        rag.search(name, "red", mode="SEARCH_MODE_TEXT", reranking={}),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call
        assert reason(raised.value)[0] == "UNAVAILABLE"
    assert len(await rag.search(name, "red", mode="SEARCH_MODE_TEXT")) == 1


async def test_inference_that_stops_during_an_answer_ends_it_with_an_error(rag: Platform) -> None:
    await rag.load({"a": "red rocks"})
    call = rag.stub.Answer(question(), metadata=USER)
    for _ in range(4):
        await call.read()
    await rag.peers.servers["inference"].stop(0)
    error = await _failure(call)
    assert reason(error)[0] == "UNAVAILABLE"
    assert "InferenceService" in (error.details() or "")
    _, error = await broken(rag.stub.Answer(question(), metadata=USER))
    assert reason(error)[0] == "UNAVAILABLE"


async def test_a_caller_who_leaves_frees_the_sequence(rag: Platform) -> None:
    await rag.load({"a": "red rocks"})
    call = rag.stub.Answer(question(), metadata=USER)
    for _ in range(4):
        await call.read()
    assert await running(rag) == 1
    call.cancel()
    await drained(rag)


async def test_a_deadline_reaches_the_model(rag: Platform) -> None:
    await rag.load({"a": "red rocks"})
    events, error = await broken(rag.stub.Answer(question(), metadata=USER, timeout=1.5))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert len(events) >= 1
    await drained(rag)


async def test_calls_go_out_under_the_callers_own_credential(rag: Platform) -> None:
    """Other services know fewer tokens than this one: what they don't know is turned away."""
    await rag.load({"a": "red rocks"})
    request = question("echo")
    events = [event async for event in rag.stub.Answer(request, metadata=(("x-api-key", "user"),))]
    assert events[-1].chat.HasField("done")
    registration = embedding_service(rag.peers.embeddings, rag.peers.threads)
    address = rag.peers.targets["embedding"]
    await rag.peers.servers["embedding"].stop(0)
    strangers = CallAuthenticator(TokenSources(api_tokens=("another",)))
    async with serving(strangers, registration, address=address):
        for _ in range(100):
            _, error = await broken(rag.stub.Answer(request, metadata=USER))
            if reason(error)[0] != "UNAVAILABLE":
                break
            await asyncio.sleep(0.1)
        assert reason(error)[0] == "INVALID_CREDENTIALS"


@contextlib.asynccontextmanager
async def process(folder: Path, others: Peers) -> AsyncIterator[tuple[int, RetrievalServiceStub]]:
    """`python -m services.retrieval`; gives its process ID and a stub."""
    lines = [f'[auth]\ntoken_file = "{folder / "tokens.json"}"']
    for name, target in others.targets.items():
        lines.append(f'[services.{name}]\ntarget = "{target}"')
    config = folder / "penstock.toml"
    config.write_text("\n".join(lines))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PENSTOCK")}
    environment["PYTHONPATH"] = f"{REPOSITORY}:{REPOSITORY / 'protos/gen/python'}"
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.retrieval",
        *("--port", "0", "--config", str(config), "--data-dir", str(folder)),
        env=environment,
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    errors = asyncio.create_task(child.stderr.read())
    try:
        line = await asyncio.wait_for(child.stdout.readline(), 60)
        assert line, (await errors).decode()
        async with grpc.aio.insecure_channel(json.loads(line)["address"]) as channel:
            yield child.pid, RetrievalServiceStub(channel)
    finally:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                child.send_signal(signal.SIGTERM)
        await asyncio.wait_for(child.wait(), 30)
        await errors


async def test_a_killed_service_has_stored_whole_documents_or_none(tmp_path: Path) -> None:
    async with peers(tmp_path) as others:
        slow = await embedding_model("words", 0.02)
        await others.embeddings.served()["words"].loaded.close()
        others.embeddings.put(slow)
        chunking = collection_pb.Chunking(max_tokens=16, overlap_tokens=0)
        sent = [Doc(name=f"d{n:04}", text=f"word {n:04} " * 40) for n in range(400)]
        name = f"{PARENT}/collections/docs"
        told: set[str] = set()
        async with process(tmp_path, others) as (pid, stub):
            await stub.CreateCollection(
                pb.CreateCollectionRequest(
                    parent=PARENT, collection_id="docs", collection={"chunking": chunking}
                ),
                metadata=USER,
            )
            call = stub.UpsertDocuments(upserts(name, sent), metadata=USER)
            told.update((await call.read()).committed.names)
            assert 0 < len(told) < len(sent)
            os.kill(pid, signal.SIGKILL)
            assert (await _failure(call)).code() is grpc.StatusCode.UNAVAILABLE
        async with process(tmp_path, others) as (_, stub):
            stored = await _documents(stub, name)
            assert told <= stored.keys(), "what was told is there"
            [chunks] = set(stored.values())  # of texts that are alike: all are whole
            assert chunks > 3
            collection = await count(stub, name)
            assert collection.document_count == len(stored)
            assert collection.chunk_count == chunks * len(stored)
            call = stub.UpsertDocuments(upserts(name, sent), metadata=USER)
            events = [event async for event in call]
            finish = events[-1].finish
            assert (finish.created_count, finish.unchanged_count) == (
                len(sent) - len(stored),
                len(stored),
            )
            assert (await count(stub, name)).chunk_count == chunks * len(sent)
        await slow.loaded.close()


async def _documents(stub: RetrievalServiceStub, name: str) -> dict[str, int]:
    """Names of all documents, and how many chunks each has."""
    found: dict[str, int] = {}
    token = ""
    while True:
        request = pb.ListDocumentsRequest(parent=name, page_size=1000, page_token=token)
        page = await stub.ListDocuments(request, metadata=USER)
        found |= {document.name: document.chunk_count for document in page.documents}
        token = page.next_page_token
        if not token:
            return found
