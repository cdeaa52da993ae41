"""What RetrievalService keeps and finds, free of transport and database.

Fields, ranges and defaults are those of `protos/penstock/retrieval/v1`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

import numpy as np
from numpy.typing import NDArray

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]
Vector = NDArray[np.float32]


class Metric(Enum):
    """How far two vectors are from each other; smaller is nearer. Values are those of the proto."""

    COSINE = 1
    """1 minus the cosine."""
    INNER_PRODUCT = 2
    """The negative inner product."""
    L2 = 3
    """The Euclidean distance."""


class SearchMode(Enum):
    """How documents are looked for; values are those of the proto."""

    VECTOR = 1
    TEXT = 2
    HYBRID = 3


class PropertyType(Enum):
    """What values a property has; values are those of the proto."""

    STRING = 1
    INT64 = 2
    FLOAT64 = 3
    BOOL = 4
    UUID = 5
    DATETIME = 6
    STRING_LIST = 7
    JSON = 8


@dataclass(frozen=True, slots=True)
class PropertySchema:
    """A declared property."""

    name: str
    type: PropertyType
    required: bool = False


@dataclass(frozen=True, slots=True)
class Chunking:
    """How documents are split."""

    max_tokens: int | None = None
    overlap_tokens: int | None = None
    whole_documents: bool = False


@dataclass(frozen=True, slots=True)
class Collection:
    """Documents of one tenant and type, embedded by one model."""

    tenant: str
    id: str
    uid: str
    embedding_model: str
    dimensions: int
    metric: Metric
    display_name: str
    chunking: Chunking
    properties: tuple[PropertySchema, ...]
    metadata: Mapping[str, str]
    create_time: datetime
    update_time: datetime
    etag: str
    last_search_time: datetime | None = None
    expire_time: datetime | None = None
    expire_after: timedelta | None = None
    """How long after it was last active its time is over; the store computes `expire_time` then."""
    document_count: int = 0
    chunk_count: int = 0
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Document:
    """A document without its chunks."""

    id: str
    title: str
    text: str
    """What was taken out of the content; empty in a list."""
    mime_type: str
    properties: Mapping[str, Json]
    source_uri: str
    content_sha256: str
    """Of the content as it came."""
    chunk_count: int
    token_count: int
    create_time: datetime
    update_time: datetime


@dataclass(frozen=True, slots=True)
class Chunk:
    """A passage of a document, with its vector."""

    index: int
    text: str
    start_byte: int
    end_byte: int
    vector: Vector


@dataclass(frozen=True, slots=True)
class NewDocument:
    """A document to store, whole."""

    id: str
    title: str
    text: str
    mime_type: str
    properties: Mapping[str, Json]
    source_uri: str
    content_sha256: str
    token_count: int
    chunks: Sequence[Chunk]


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What tells whether a document has to be embedded, or stored, again."""

    content_sha256: str
    title: str
    mime_type: str
    properties: Mapping[str, Json]
    source_uri: str


class Outcome(Enum):
    """What storing a document did."""

    CREATED = "created"
    REPLACED = "replaced"
    UNCHANGED = "unchanged"


class Operator(Enum):
    """How a property is compared; values are those of the proto."""

    EQUAL = 1
    NOT_EQUAL = 2
    LESS = 3
    LESS_OR_EQUAL = 4
    GREATER = 5
    GREATER_OR_EQUAL = 6
    IN = 7
    NOT_IN = 8
    LIKE = 9
    ILIKE = 10
    CONTAINS = 11


@dataclass(frozen=True, slots=True)
class Comparison:
    """Compares one property with a value; IN and NOT_IN take a list.

    `id`, `title` and `source_uri` are the document's own. A document without the property meets no
    comparison but NOT_EQUAL and NOT_IN.
    """

    property: str
    operator: Operator
    value: Json


@dataclass(frozen=True, slots=True)
class AllOf:
    """Every one of these holds."""

    filters: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one of these holds."""

    filters: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """This does not hold."""

    filter: Filter


Filter = Comparison | AllOf | AnyOf | Not


@dataclass(frozen=True, slots=True)
class Lookup:
    """What is looked for in one collection."""

    top_k: int
    """Most hits. At least 1."""
    vector: Vector | None = None
    """For VECTOR and HYBRID."""
    text: str = ""
    """For TEXT and HYBRID."""
    mode: SearchMode = SearchMode.VECTOR
    filter: Filter | None = None
    max_hits_per_document: int | None = None
    exact: bool = False
    """Compares every vector, instead of going by an approximate index."""
    include_vectors: bool = False


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that was found."""

    document: str
    """ID of the document."""
    chunk_index: int
    text: str
    distance: float | None
    """By the collection's metric; None for hits without a vector."""
    score: float
    """In [0, 1]; higher is better."""
    title: str
    properties: Mapping[str, Json]
    source_uri: str
    start_byte: int
    end_byte: int
    vector: Vector | None = None


@dataclass(frozen=True, slots=True)
class Prompt:
    """Messages that answers start from. `messages` are `penstock.inference.v1.Message`s, each in
    the JSON form of its proto."""

    tenant: str
    id: str
    uid: str
    messages: tuple[Mapping[str, Json], ...]
    create_time: datetime
    update_time: datetime
    etag: str
    builtin: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """Where a list goes on."""

    size: int
    after: str = ""
    """ID of the last item seen; empty begins."""
    descending: bool = True
    """By time of creation; IDs break ties."""
    after_time: datetime | None = None
    """When the last item seen was created: with it the list goes on though the item be deleted.
    None asks the store, which has to know it then."""


@dataclass(frozen=True, slots=True)
class CollectionChange:
    """New values of a collection; None leaves a field as it is."""

    display_name: str | None = None
    chunking: Chunking | None = None
    properties: tuple[PropertySchema, ...] | None = None
    metadata: Mapping[str, str] | None = None
    expire_time: datetime | None = None
    clears_expire_time: bool = False
    expire_after: timedelta | None = None
    clears_expire_after: bool = False
    """Clears the `expire_time` that came of it, too."""
    etag: str = ""
    """Only this state is changed; empty changes any."""
