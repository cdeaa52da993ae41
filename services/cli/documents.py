"""What the commands ask of the service that keeps documents."""

from datetime import datetime

import grpc
from grpc import aio
from penstock.retrieval.v1 import collection_pb2, document_pb2, retrieval_service_pb2
from penstock.retrieval.v1.retrieval_service_pb2_grpc import RetrievalServiceStub
from rich.text import Text

from services.cli.failures import Failure
from services.cli.output import printable
from services.cli.paging import listed

UNARY_TIMEOUT_S = 30.0


def tenant_name(tenant: str) -> str:
    """Returns the resource name of a tenant."""
    return f"tenants/{tenant}"


def collection_name(tenant: str, collection: str) -> str:
    """Returns the resource name of a collection."""
    return f"{tenant_name(tenant)}/collections/{collection}"


def document_name(tenant: str, collection: str, document: str) -> str:
    """Returns the resource name of a document."""
    return f"{collection_name(tenant, collection)}/documents/{document}"


def collection_id(name: str) -> str:
    """Returns the ID of a collection, of its resource name."""
    return name.split("/", 3)[-1]


def document_id(name: str) -> str:
    """Returns the ID of a document, of its resource name."""
    return name.split("/", 5)[-1]


async def ensure_collection(
    stub: RetrievalServiceStub, tenant: str, collection: str, embedding_model: str
) -> tuple[collection_pb2.Collection, bool]:
    """Returns a collection, and whether it was created just now.

    Raises Failure when it is there and has another embedding model than the one that is named.
    """
    request = retrieval_service_pb2.GetCollectionRequest(name=collection_name(tenant, collection))
    try:
        found = await stub.GetCollection(request, timeout=UNARY_TIMEOUT_S)
    except aio.AioRpcError as error:
        if error.code() != grpc.StatusCode.NOT_FOUND:
            raise
    else:
        return _checked(found, embedding_model), False
    creation = retrieval_service_pb2.CreateCollectionRequest(
        parent=tenant_name(tenant),
        collection_id=collection,
        collection=collection_pb2.Collection(embedding_model=embedding_model),
    )
    try:
        return await stub.CreateCollection(creation, timeout=UNARY_TIMEOUT_S), True
    except aio.AioRpcError as error:
        if error.code() != grpc.StatusCode.ALREADY_EXISTS:  # someone else was faster
            raise
    return _checked(
        await stub.GetCollection(request, timeout=UNARY_TIMEOUT_S), embedding_model
    ), False


def _checked(
    collection: collection_pb2.Collection, embedding_model: str
) -> collection_pb2.Collection:
    wanted = embedding_model.removeprefix("models/")
    if wanted and wanted != collection.embedding_model.removeprefix("models/"):
        raise Failure(
            f"The collection {collection_id(collection.name)} is embedded by "
            f"{collection.embedding_model}, and that never changes.",
            hint="Leave out --model, or load into another --collection.",
            field="model",
        )
    return collection


async def list_collections(
    stub: RetrievalServiceStub, tenant: str
) -> list[collection_pb2.Collection]:
    """Returns all collections of a tenant, newest first."""
    request = retrieval_service_pb2.ListCollectionsRequest(parent=tenant_name(tenant))
    found, _ = await listed(stub.ListCollections, request, lambda page: page.collections)
    return found


async def list_documents(
    stub: RetrievalServiceStub, tenant: str, collection: str, limit: int
) -> tuple[list[document_pb2.Document], bool]:
    """Returns the newest documents of a collection, and whether there are more."""
    request = retrieval_service_pb2.ListDocumentsRequest(parent=collection_name(tenant, collection))
    return await listed(stub.ListDocuments, request, lambda page: page.documents, limit=limit)


def collection_row(collection: collection_pb2.Collection) -> tuple[str | Text, ...]:
    """Returns a row: ID, model, documents, chunks, size."""
    return (
        Text(printable(collection_id(collection.name)), style="bold"),
        printable(collection.embedding_model),
        f"{collection.document_count:,}",
        f"{collection.chunk_count:,}",
        size_text(collection.size_bytes),
    )


def document_row(document: document_pb2.Document) -> tuple[str | Text, ...]:
    """Returns a row: ID, title, chunks, tokens, time of the last change."""
    return (
        Text(printable(document_id(document.name)), style="bold"),
        printable(document.title),
        f"{document.chunk_count:,}",
        f"{document.token_count:,}",
        _time_text(document),
    )


def document_facts(document: document_pb2.Document) -> dict[str, str | Text]:
    """Returns everything about one document but its text."""
    facts: dict[str, str | Text] = {
        "document": printable(document_id(document.name)),
        "title": printable(document.title),
        "type": printable(document.mime_type),
        "from": printable(document.source_uri),
        "chunks": f"{document.chunk_count:,}",
        "tokens": f"{document.token_count:,}",
        "changed": _time_text(document),
        "sha256": document.content_sha256,
    }
    for name, value in document.properties.items():
        facts[f".{printable(name)}"] = printable(str(value))
    return facts


def size_text(count: int) -> str:
    """Returns a number of bytes as people write it."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def _time_text(document: document_pb2.Document) -> str:
    if not document.HasField("update_time"):
        return ""
    moment: datetime = document.update_time.ToDatetime()
    return f"{moment:%Y-%m-%d %H:%M} UTC"
