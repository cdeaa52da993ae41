"""Answers of the retrieval service about collections, translated into vector stores. No I/O.

A store whose time is over is gone, with all its documents: nothing is ever answered as `expired`.
"""

from collections.abc import Iterable, Sequence

from google.protobuf.struct_pb2 import Struct, Value
from penstock.retrieval.v1 import collection_pb2, document_pb2, search_pb2
from penstock.retrieval.v1 import retrieval_service_pb2 as service_pb2

from gateway.dialects.openai import vector_store_schema as schema
from gateway.dialects.openai import vector_store_translate as translate
from gateway.dialects.openai.answers import seconds

_DAY_S = 24 * 60 * 60
_FLOAT_BYTES = 4
_LARGEST_EXACT = 2**53


def vector_store(collection: collection_pb2.Collection) -> schema.VectorStore:
    """Renders a store."""
    labels, kept = translate.split_labels(collection.metadata)
    days = _days(collection)
    count = collection.document_count
    store = schema.VectorStore(
        id=store_id(collection),
        object="vector_store",
        created_at=seconds(collection.create_time),
        name=collection.display_name,
        usage_bytes=collection.size_bytes,
        file_counts=schema.FileCounts(0, count, 0, 0, count),
        status="completed",
        expires_after=None
        if days is None
        else schema.ExpiresAfter(anchor="last_active_at", days=days),
        expires_at=seconds(collection.expire_time) if collection.HasField("expire_time") else None,
        last_active_at=_last_active(collection),
        metadata=labels,
        embedding_model=collection.embedding_model.removeprefix("models/"),
    )
    if translate.DESCRIPTION in kept:
        store.description = kept[translate.DESCRIPTION]
    return store


def store_id(collection: collection_pb2.Collection) -> str:
    """The ID of a store."""
    return collection.name.rpartition("/")[2]


def store_list(
    page: service_pb2.ListCollectionsResponse, *, backwards: bool
) -> schema.VectorStoreList:
    """Renders a page of stores; one that was read backwards is turned around."""
    data = [vector_store(item) for item in page.collections]
    if backwards:
        data.reverse()
    return schema.VectorStoreList(
        object="list",
        data=data,
        first_id=data[0].id if data else None,
        last_id=data[-1].id if data else None,
        has_more=bool(page.next_page_token),
    )


def file_list(
    page: service_pb2.ListDocumentsResponse,
    collection: collection_pb2.Collection,
    *,
    backwards: bool,
) -> schema.VectorStoreFileList:
    """Renders a page of files; one that was read backwards is turned around."""
    data = [vector_store_file(item, collection) for item in page.documents]
    if backwards:
        data.reverse()
    return schema.VectorStoreFileList(
        object="list",
        data=data,
        first_id=data[0].id if data else None,
        last_id=data[-1].id if data else None,
        has_more=bool(page.next_page_token),
    )


def vector_store_file(
    document: document_pb2.Document, collection: collection_pb2.Collection
) -> schema.VectorStoreFile:
    """Renders a file of a store."""
    return schema.VectorStoreFile(
        id=_document_id(document.name),
        object="vector_store.file",
        created_at=seconds(document.create_time),
        vector_store_id=store_id(collection),
        status="completed",
        last_error=None,
        usage_bytes=document.chunk_count * collection.dimensions * _FLOAT_BYTES,
        attributes=_attributes(document.properties),
        chunking_strategy=schema.OtherChunking("other"),
    )


def file_content(document: document_pb2.Document) -> schema.FileContentPage:
    """Renders what a file says."""
    return schema.FileContentPage(
        object="vector_store.file_content.page",
        data=[schema.FoundText("text", document.text)],
        has_more=False,
        next_page=None,
    )


def search_results(
    responses: Sequence[service_pb2.SearchResponse], body: schema.VectorStoreSearch, limit: int
) -> schema.SearchResultsPage:
    """Renders what was found, best first; what several queries found counts once, by its best."""
    best: dict[tuple[str, int], search_pb2.Hit] = {}
    for hit in (hit for response in responses for hit in response.hits):
        key = hit.document, hit.chunk_index
        if key not in best or hit.score > best[key].score:
            best[key] = hit
    hits: Iterable[search_pb2.Hit] = best.values()
    if len(responses) > 1:
        hits = sorted(hits, key=lambda hit: -hit.score)[:limit]
    return schema.SearchResultsPage(
        object="vector_store.search_results.page",
        search_query=translate.queries_of(body),
        data=[_result(hit) for hit in hits],
        has_more=False,
        next_page=None,
    )


def _result(hit: search_pb2.Hit) -> schema.SearchResult:
    file_id = _document_id(hit.document)
    return schema.SearchResult(
        file_id=file_id,
        filename=hit.title or file_id,
        score=hit.score,
        attributes=_attributes(hit.properties),
        content=[schema.FoundText("text", hit.text)],
    )


def _document_id(name: str) -> str:
    return name.partition("/documents/")[2]


def _last_active(collection: collection_pb2.Collection) -> int:
    moments = (collection.create_time, collection.update_time, collection.last_search_time)
    return max(moment.seconds for moment in moments)


def _days(collection: collection_pb2.Collection) -> int | None:
    """The days after which a store expires: whole ones, for the dialect knows no others."""
    if not collection.HasField("expire_after"):
        return None
    return -(-collection.expire_after.seconds // _DAY_S)


def _attributes(properties: Struct) -> dict[str, schema.Scalar]:
    """Renders properties, by name: maps come in no order of their own.

    The dialect knows texts, numbers and booleans; others are left out.
    """
    attributes: dict[str, schema.Scalar] = {}
    for key, value in sorted(properties.fields.items()):
        scalar = _scalar(value)
        if scalar is not None:
            attributes[key] = scalar
    return attributes


def _scalar(value: Value) -> schema.Scalar | None:
    kind = value.WhichOneof("kind")
    if kind == "string_value":
        return value.string_value
    if kind == "bool_value":
        return value.bool_value
    if kind == "number_value":
        number = value.number_value
        whole = number.is_integer() and abs(number) <= _LARGEST_EXACT
        return int(number) if whole else number
    return None
