"""Gel's own clients against the running platform, in environments of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from penstock.retrieval.v1 import (
    collection_pb2,
    document_pb2,
    retrieval_service_pb2,
    retrieval_service_pb2_grpc,
    upsert_pb2,
)

from policy.principals import Role
from policy.token_file import TokenFile
from tests.e2e.stack import Platform
from tests.e2e.test_clients import CLIENTS, NODE, TIMEOUT_S, run

HERE = Path(__file__).parent
pytestmark = pytest.mark.timeout(TIMEOUT_S)
MODELS = ("penstock-starter", "all-minilm-l6-v2")
TYPE = "Astronomy"
FACTS = (
    "The sky on Mars is red.",
    "The sky on Earth is blue.",
    "Only the sun and the moon are round.",
)


@pytest.fixture(scope="module")
def astronomy(platform: Platform) -> Iterator[None]:
    """Objects of one type, in the tenant that Gel's first branch is."""
    metadata = (("authorization", f"Bearer {platform.key}"),)
    with grpc.insecure_channel(platform.address("retrieval")) as channel:
        stub = retrieval_service_pb2_grpc.RetrievalServiceStub(channel)
        asked = retrieval_service_pb2.CreateCollectionRequest(
            parent="tenants/default",
            collection=collection_pb2.Collection(embedding_model=MODELS[1]),
            collection_id=TYPE,
        )
        made = stub.CreateCollection(asked, metadata=metadata, timeout=60)
        start = upsert_pb2.UpsertStart(collection=made.name)
        words = [retrieval_service_pb2.UpsertDocumentsRequest(start=start)]
        for text in FACTS:
            document = document_pb2.Document(text=text)
            words.append(retrieval_service_pb2.UpsertDocumentsRequest(document=document))
        events = list(stub.UpsertDocuments(iter(words), metadata=metadata, timeout=60))
        assert events[-1].finish.created_count == len(FACTS), events
        yield
        request = retrieval_service_pb2.DeleteCollectionRequest(name=made.name)
        stub.DeleteCollection(request, metadata=metadata, timeout=60)


@pytest.fixture(scope="module")
def key(platform: Platform) -> Iterator[str]:
    """The password of a user of Gel."""
    file = TokenFile(platform.data_dir / "tokens.json")
    entry, secret = file.create("gel", [Role.USER], gel_user="alice")
    yield secret
    file.revoke(entry.id)


@pytest.mark.parametrize("auth", ["basic", "bearer"])
@pytest.mark.usefixtures("astronomy")
def test_gel_python(platform: Platform, key: str, auth: str) -> None:
    python, script = CLIENTS / "gel" / "bin" / "python", HERE / "gel_session.py"
    said = run(python, script, platform.url, auth, "alice", key, *MODELS, TYPE)
    assert said.endswith("ok errors\n")


@pytest.mark.parametrize("user", ["alice", "edgedb", "admin"])
@pytest.mark.usefixtures("astronomy")
def test_gel_node_signs_in_by_scram(platform: Platform, key: str, user: str) -> None:
    password = key if user == "alice" else platform.key
    script = HERE / "node" / "gel.mjs"
    assert "ok" in run(NODE, script, platform.url, user, password, *MODELS, TYPE)
