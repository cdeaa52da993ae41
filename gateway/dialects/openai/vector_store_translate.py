"""Requests about vector stores, translated into requests of the retrieval service. No I/O.

A store is a collection of the caller's tenant, a file of it is a document. What the dialect knows
of a store and a collection has no field for is kept in the collection's metadata, out of sight.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from penstock.retrieval.v1 import collection_pb2, document_pb2, search_pb2
from penstock.retrieval.v1 import retrieval_service_pb2 as service_pb2
from penstock.training.v1 import file_pb2

from gateway.dialects.openai import vector_store_schema as schema
from gateway.dialects.openai.fields import Rule, Spelling, spelling
from gateway.dialects.openai.search_filters import spelled, to_filter, to_value
from gateway.errors import invalid, unsupported
from gateway.validation import missing
from policy.principals import DEFAULT_TENANT, EVERY_TENANT, Principal

KEPT = "penstock."
"""Begins the names of what is kept in metadata."""

DESCRIPTION = f"{KEPT}description"

_MOST_LABELS = 16
_DAY_S = 24 * 60 * 60
_LONGEST_SHOWN = 64
_DOCUMENT_TYPES: Mapping[str, str] = {
    "md": "text/markdown",
    "markdown": "text/markdown",
    "txt": "text/plain",
    "rst": "text/plain",
    "html": "text/html",
    "htm": "text/html",
    "pdf": "application/pdf",
}
"""Media types of documents, by the ending of a filename."""
_OWN_ORDER = (None, "none", "auto", "default-2024-11-15")
"""Rankers that leave the order as the search found it."""


_RULES: Sequence[Rule] = (
    (re.compile(r"^collection\.display_name$"), "name"),
    (re.compile(r"^collection\.metadata.*$"), "metadata"),
    (re.compile(r"^collection\.expire_(after|time)$"), "expires_after"),
    (re.compile(r"^collection\.dimensions$"), "embedding_dimension"),
    (re.compile(r"^collection\.embedding_model$"), "embedding_model"),
    (
        re.compile(r"^collection\.chunking\.overlap_tokens$"),
        "chunking_strategy.static.chunk_overlap_tokens",
    ),
    (
        re.compile(r"^collection\.chunking\.max_tokens$"),
        "chunking_strategy.static.max_chunk_size_tokens",
    ),
    (re.compile(r"^collection\.chunking.*$"), "chunking_strategy"),
    (re.compile(r"^(collection(\.name)?|parent)$"), "vector_store_id"),
    (re.compile(r"^text$"), "query"),
    (re.compile(r"^top_k$"), "max_num_results"),
    (re.compile(r"^min_score$"), "ranking_options.score_threshold"),
    (re.compile(r"^reranking.*$"), "ranking_options.ranker"),
    (re.compile(r"^filter(?![\w])(.*)$"), spelled),
    (re.compile(r"^page_size$"), "limit"),
)
spell_store = spelling(((re.compile(r"^name$"), "vector_store_id"), *_RULES), "query")
"""Spells fields of requests about a store."""
spell_file = spelling(((re.compile(r"^name$"), "file_id"), *_RULES))
"""Spells fields of requests about a file of a store."""
_spell_before = spelling(((re.compile(r"^after$"), "before"), *_RULES))


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a list, as the service is asked for it."""

    order_by: str
    after: str
    """ID after which it starts. Empty begins."""
    backwards: bool
    """Whether it is read from its end, as pages before something are."""
    spell: Spelling


def tenant_name(principal: Principal) -> str:
    """The tenant whose stores a caller sees: the first that is named for it."""
    named = (tenant for tenant in principal.tenants if tenant != EVERY_TENANT)
    return f"tenants/{next(named, DEFAULT_TENANT)}"


def store_name(principal: Principal, store_id: str) -> str:
    """The name of the collection that is a store."""
    return f"{tenant_name(principal)}/collections/{store_id}"


def file_name(principal: Principal, store_id: str, file_id: str) -> str:
    """The name of the document that is a file."""
    return f"{store_name(principal, store_id)}/documents/{file_id}"


def to_page(query: schema.StoreListQuery) -> Page:
    """Translates where a page of a list lies.

    Raises:
        ProblemError: it lies both after and before something.
    """
    if query.after and query.before:
        raise invalid("Invalid 'before': it can't be used together with 'after'.", "before")
    descending = (query.order == "desc") != bool(query.before)
    return Page(
        "create_time desc" if descending else "create_time",
        query.after or query.before or "",
        bool(query.before),
        _spell_before if query.before else spell_store,
    )


def to_create_request(
    body: schema.VectorStoreCreate, principal: Principal
) -> service_pb2.CreateCollectionRequest:
    """Translates the creation of a store.

    Raises:
        ProblemError: a field is not supported, or metadata holds too much.
    """
    kept: dict[str, str] = {}
    if body.description:
        kept[DESCRIPTION] = body.description
    return service_pb2.CreateCollectionRequest(
        parent=tenant_name(principal),
        collection=collection_pb2.Collection(
            display_name=body.name or "",
            embedding_model=body.embedding_model or "",
            dimensions=body.embedding_dimension,
            chunking=_chunking(body.chunking_strategy),
            metadata=_labels(body.metadata or {}, kept),
            expire_after=body.expires_after and _duration(body.expires_after),
        ),
    )


def to_update_request(
    body: schema.VectorStoreUpdate, collection: collection_pb2.Collection
) -> service_pb2.UpdateCollectionRequest:
    """Translates the change of a store, whose state now is `collection`.

    Raises:
        ProblemError: metadata holds too much.
    """
    changed = collection_pb2.Collection(name=collection.name)
    mask = FieldMask()
    if body.name is not None:
        changed.display_name = body.name
        mask.paths.append("display_name")
    if body.expires_after is not None:
        changed.expire_after.CopyFrom(_duration(body.expires_after))
        mask.paths.append("expire_after")
    if body.metadata is not None:
        _, kept = split_labels(collection.metadata)
        changed.metadata.update(_labels(body.metadata, kept))
        changed.etag = collection.etag  # what is kept there is merged with what was read
        mask.paths.append("metadata")
    return service_pb2.UpdateCollectionRequest(collection=changed, update_mask=mask)


def to_search_requests(
    body: schema.VectorStoreSearch, name: str
) -> list[service_pb2.SearchRequest]:
    """Translates a search: one request for each text that is looked for.

    Raises:
        ProblemError: a field is not supported, or the filter isn't one.
    """
    if body.rewrite_query:
        raise unsupported("rewrite_query", "queries are searched for as they are")
    options = body.ranking_options or schema.RankingOptions()
    reranking = None
    if options.ranker not in _OWN_ORDER:
        reranking = search_pb2.Reranking(model=options.ranker)
    found = None if body.filters is None else to_filter(body.filters, "filters")
    return [
        service_pb2.SearchRequest(
            collection=name,
            text=text,
            filter=found,
            top_k=body.max_num_results,
            min_score=options.score_threshold,
            reranking=reranking,
        )
        for text in queries_of(body)
    ]


def queries_of(body: schema.VectorStoreSearch) -> list[str]:
    """What is looked for."""
    return [body.query] if isinstance(body.query, str) else body.query


def to_document(
    file: file_pb2.File, data: bytes, attributes: Mapping[str, schema.Scalar]
) -> document_pb2.Document:
    """Translates a file into a document, which has the file's ID.

    Raises:
        ProblemError: an attribute is a number that is too large.
    """
    document = document_pb2.Document(
        name=file.name.rpartition("/")[2],
        title=file.filename,
        mime_type=_document_type(file),
        source_uri=file.name,
        data=data,
    )
    for name, value in attributes.items():
        param = "attributes." + name[:_LONGEST_SHOWN].encode("unicode_escape").decode("ascii")
        document.properties.fields[name].CopyFrom(to_value(value, param))
    return document


def attachment_spelling(param: str) -> Spelling:
    """Spells fields of a document that a file becomes; `param` is what named the file."""
    return spelling(
        (
            (re.compile(r"^document\.properties"), "attributes"),
            (re.compile(r"^document(\..*)?$"), param),
            *_RULES,
        )
    )


def check_same_chunking(
    strategy: schema.ChunkingStrategy | None, collection: collection_pb2.Collection
) -> None:
    """Raises ProblemError when a file is to be split in another way than the store's others."""
    asked = _chunking(strategy)
    kept = collection.chunking
    if asked and (asked.max_tokens, asked.overlap_tokens) != (
        kept.max_tokens,
        kept.overlap_tokens,
    ):
        why = "all files of a store are split alike, as was said when it was created"
        raise unsupported("chunking_strategy", why)


def _document_type(file: file_pb2.File) -> str:
    """The media type by the file's ending, else its own; empty for what the service finds out."""
    _, dot, ending = file.filename.rpartition(".")
    by_ending = _DOCUMENT_TYPES.get(ending.lower()) if dot else None
    return by_ending or (file.mime_type if file.mime_type in _DOCUMENT_TYPES.values() else "")


def split_labels(metadata: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Parts the user's own metadata from what is kept there; both by key."""
    items = sorted(metadata.items())
    labels = {key: value for key, value in items if not key.startswith(KEPT)}
    return labels, {key: value for key, value in items if key.startswith(KEPT)}


def _labels(labels: Mapping[str, str], kept: Mapping[str, str]) -> dict[str, str]:
    for key in labels:
        if key.startswith(KEPT):
            raise invalid(f"Invalid 'metadata': keys can't begin with '{KEPT}'.", "metadata")
    if len(labels) + len(kept) > _MOST_LABELS:
        raise invalid(
            f"Invalid 'metadata': too many properties. With a description, which takes the place "
            f"of one, at most {_MOST_LABELS - len(kept)} are left.",
            "metadata",
            "object_above_max_properties",
        )
    return {**labels, **kept}


def _duration(asked: schema.ExpiresAfter) -> Duration:
    return Duration(seconds=asked.days * _DAY_S)


def _chunking(strategy: schema.ChunkingStrategy | None) -> collection_pb2.Chunking | None:
    if strategy is None or strategy.type == "auto":
        return None
    sizes = strategy.static
    if sizes is None:
        raise missing("chunking_strategy.static")
    if sizes.chunk_overlap_tokens * 2 > sizes.max_chunk_size_tokens:
        param = "chunking_strategy.static.chunk_overlap_tokens"
        raise invalid(f"Invalid '{param}': more than half of max_chunk_size_tokens.", param)
    return collection_pb2.Chunking(
        max_tokens=sizes.max_chunk_size_tokens, overlap_tokens=sizes.chunk_overlap_tokens
    )
