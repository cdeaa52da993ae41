"""Real client libraries against the running platform, each in an environment of its own."""

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

from tests.e2e.openai_scenarios import PYTHON_SCENARIOS
from tests.e2e.stack import REPOSITORY, Platform

HERE = Path(__file__).parent
CLIENTS = REPOSITORY / ".venv" / "clients"
NODE = REPOSITORY / ".venv" / "bin" / "node"


def run(*command: object) -> str:
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("scenario", PYTHON_SCENARIOS)
@pytest.mark.parametrize("client", ["openai-1", "openai-3"])
def test_openai_python(platform: Platform, client: str, scenario: str) -> None:
    python = CLIENTS / client / "bin" / "python"
    assert "ok" in run(python, HERE / "openai_session.py", scenario, platform.url, platform.key)


@pytest.mark.parametrize("client", ["openai-1", "openai-3"])
def test_openai_python_finds_what_was_put_in(platform: Platform, client: str) -> None:
    python = CLIENTS / client / "bin" / "python"
    arguments = ("vector_search", platform.url, platform.key)
    with facts(platform):
        assert "ok" in run(python, HERE / "openai_session.py", *arguments)


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
NODE_SCENARIOS = [
    "models",
    "chat",
    "stream",
    "completions",
    "errors",
    "options",
    "disconnect",
    "embeddings",
    "vectorStores",
    "files",
]


@pytest.mark.parametrize("scenario", NODE_SCENARIOS)
def test_openai_node(platform: Platform, scenario: str) -> None:
    script = HERE / "node" / "openai.mjs"
    assert "ok" in run(NODE, script, scenario, platform.url, platform.key)


def test_node_grpc_client_lists_models_and_streams_a_chat(platform: Platform) -> None:
    roots = f"{REPOSITORY / 'protos'}:{REPOSITORY / 'protos' / 'vendor'}"
    addresses = (platform.address("model"), platform.address("inference"))
    assert "ok" in run(NODE, HERE / "node" / "grpc.mjs", roots, *addresses, platform.key)
