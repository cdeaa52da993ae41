"""Real client libraries against the running platform, each in an environment of its own.

A client runs all its scenarios in one process: it says which went well, and fails at the first that
doesn't. Starting a client takes longer than most scenarios do.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from penstock.retrieval.v1 import (
    collection_pb2,
    document_pb2,
    retrieval_service_pb2_grpc,
    upsert_pb2,
)
from penstock.retrieval.v1 import retrieval_service_pb2 as service_pb2

from tests.e2e.stack import REPOSITORY, Platform

HERE = Path(__file__).parent
CLIENTS = REPOSITORY / ".venv" / "clients"
NODE = REPOSITORY / ".venv" / "bin" / "node"
TIMEOUT_S = 600
"""Others may work on the machine."""
pytestmark = pytest.mark.timeout(TIMEOUT_S)


def run(*command: object) -> str:
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("client", ["openai-1", "openai-3"])
def test_openai_python(platform: Platform, client: str) -> None:
    python = CLIENTS / client / "bin" / "python"
    with facts(platform):
        said = run(python, HERE / "openai_session.py", "all", platform.url, platform.key)
    assert said.endswith("ok vector_search\n")


@contextlib.contextmanager
def facts(platform: Platform) -> Iterator[None]:
    """Fills the vector store that the scenario looks into."""
    metadata = (("authorization", f"Bearer {platform.key}"),)
    with grpc.insecure_channel(platform.address("retrieval")) as channel:
        stub = retrieval_service_pb2_grpc.RetrievalServiceStub(channel)
        collection = stub.CreateCollection(
            service_pb2.CreateCollectionRequest(
                parent="tenants/default",
                collection=collection_pb2.Collection(display_name="facts-of-the-tests"),
            ),
            metadata=metadata,
            timeout=30,
        )
        try:
            for name, text, properties in FACTS:
                document = document_pb2.Document(name=name, title=name, text=text)
                document.properties.update(properties)
                start = upsert_pb2.UpsertStart(collection=collection.name)
                pieces = [
                    service_pb2.UpsertDocumentsRequest(start=start),
                    service_pb2.UpsertDocumentsRequest(document=document),
                ]
                events = list(stub.UpsertDocuments(iter(pieces), metadata=metadata, timeout=60))
                assert events[-1].finish.created_count == 1, events
            yield
        finally:
            request = service_pb2.DeleteCollectionRequest(name=collection.name)
            stub.DeleteCollection(request, metadata=metadata, timeout=30)


FACTS = (
    ("mars.md", "The sky on Mars is red.", {"planet": "Mars", "year": 2023}),
    ("docs/earth.md", "The sky on Earth is blue.", {"planet": "Earth"}),
    ("sea.md", "The sea is deep and cold.", {"planet": "Earth"}),
)


def test_openai_node(platform: Platform) -> None:
    said = run(NODE, HERE / "node" / "openai.mjs", "all", platform.url, platform.key)
    assert said.endswith("ok files\n")


def test_node_grpc_client_lists_models_and_streams_a_chat(platform: Platform) -> None:
    roots = f"{REPOSITORY / 'protos'}:{REPOSITORY / 'protos' / 'vendor'}"
    addresses = (platform.address("model"), platform.address("inference"))
    assert "ok" in run(NODE, HERE / "node" / "grpc.mjs", roots, *addresses, platform.key)
