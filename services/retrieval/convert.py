"""Reads and writes collections, documents and prompts of `penstock.retrieval.v1`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp
from penstock.inference.v1 import message_pb2 as message_pb
from penstock.retrieval.v1 import collection_pb2 as collection_pb
from penstock.retrieval.v1 import document_pb2 as document_pb
from penstock.retrieval.v1 import prompt_pb2 as prompt_pb
from penstock.retrieval.v1 import retrieval_service_pb2 as pb

from services.errors import InvalidArgument
from services.retrieval.catalog import NewCollection
from services.retrieval.intake import Incoming
from services.retrieval.names import CollectionRef, PromptRef, document_name
from services.retrieval.prompts import Message
from services.retrieval.records import (
    Chunking,
    Collection,
    CollectionChange,
    Document,
    Json,
    Metric,
    Prompt,
    PropertySchema,
    PropertyType,
)

_EXACT = 2**53
_CHANGEABLE: tuple[str, ...] = (
    "display_name",
    "chunking",
    "properties",
    "metadata",
    "expire_time",
    "expire_after",
)
_FIXED: tuple[str, ...] = ("embedding_model", "dimensions", "distance_metric")


def to_new_collection(request: pb.CreateCollectionRequest, tenant: str) -> NewCollection:
    """Reads a collection that is asked for."""
    asked = request.collection
    return NewCollection(
        tenant=tenant,
        id=request.collection_id,
        display_name=asked.display_name,
        embedding_model=asked.embedding_model,
        dimensions=asked.dimensions if asked.HasField("dimensions") else None,
        metric=Metric(asked.distance_metric or Metric.COSINE.value),
        chunking=_chunking(asked.chunking),
        properties=_properties(asked.properties),
        metadata=dict(asked.metadata),
        expire_time=_expire_time(asked),
        expire_after=_expire_after(asked),
        request_id=request.request_id,
    )


def to_change(request: pb.UpdateCollectionRequest, present: Collection) -> CollectionChange:
    """Reads new values: those that the mask names, or those that are set when it is empty."""
    asked = request.collection
    set_fields = {field.name for field, _ in asked.ListFields()}
    paths = list(dict.fromkeys(request.update_mask.paths))
    if paths in ([], ["*"]):
        _check_fixed(asked, set_fields & set(_FIXED), present)
        wanted = set(_CHANGEABLE) if paths else set_fields & set(_CHANGEABLE)
    else:
        wanted = set(_CHANGEABLE) & set(paths)
        _check_fixed(asked, set(_FIXED) & set(paths), present)
        for path in paths:
            if path not in (*_CHANGEABLE, *_FIXED):
                raise InvalidArgument(
                    f"'update_mask': {path[:100]!r} can't be changed. There are "
                    f"{', '.join(_CHANGEABLE)}.",
                    field="update_mask",
                )
    change = CollectionChange(etag=asked.etag)
    if "display_name" in wanted:
        change = replace(change, display_name=asked.display_name)
    if "chunking" in wanted:
        change = replace(change, chunking=_chunking(asked.chunking))
    if "properties" in wanted:
        change = replace(change, properties=_properties(asked.properties))
    if "metadata" in wanted:
        change = replace(change, metadata=dict(asked.metadata))
    if "expire_after" in wanted:
        after = _expire_after(asked)
        change = replace(change, expire_after=after, clears_expire_after=after is None)
    if "expire_time" in wanted:
        time = _expire_time(asked)
        # One that follows from `expire_after` may come back as it was read, or be left out.
        kept = present.expire_after is not None and not change.clears_expire_after
        if not (kept and time == present.expire_time) and (time or not change.expire_after):
            change = replace(change, expire_time=time, clears_expire_time=time is None)
    return change


def _check_fixed(asked: collection_pb.Collection, named: set[str], present: Collection) -> None:
    """Raises `InvalidArgument` where what never changes would."""
    is_now = from_collection(present)
    for name in sorted(named):
        same = getattr(asked, name) == getattr(is_now, name)
        if name == "embedding_model":
            same = asked.embedding_model.removeprefix("models/") == is_now.embedding_model
        if name == "distance_metric" and not asked.distance_metric:
            same = True
        if not same:
            raise InvalidArgument(
                f"'collection.{name}': never changes. Make a new collection for another.",
                field=f"collection.{name}",
            )


def from_collection(collection: Collection) -> collection_pb.Collection:
    """Writes a collection."""
    chunking = collection.chunking
    return collection_pb.Collection(
        name=CollectionRef(collection.tenant, collection.id).name,
        uid=collection.uid,
        display_name=collection.display_name,
        embedding_model=collection.embedding_model,
        dimensions=collection.dimensions,
        distance_metric=collection_pb.DistanceMetric.ValueType(collection.metric.value),
        chunking=collection_pb.Chunking(
            max_tokens=chunking.max_tokens,
            overlap_tokens=chunking.overlap_tokens,
            whole_documents=chunking.whole_documents,
        ),
        properties=[
            collection_pb.PropertySchema(
                name=schema.name,
                type=collection_pb.PropertySchema.Type.ValueType(schema.type.value),
                required=schema.required,
            )
            for schema in collection.properties
        ],
        metadata=collection.metadata,
        document_count=collection.document_count,
        chunk_count=collection.chunk_count,
        size_bytes=collection.size_bytes,
        create_time=_timestamp(collection.create_time),
        update_time=_timestamp(collection.update_time),
        last_search_time=_timestamp(collection.last_search_time),
        expire_time=_timestamp(collection.expire_time),
        expire_after=_duration(collection.expire_after),
        etag=collection.etag,
    )


def to_incoming(document: document_pb.Document) -> Incoming:
    """Reads a document of a stream."""
    content = document.WhichOneof("content")
    return Incoming(
        name=document.name,
        title=document.title,
        content=None if content is None else getattr(document, content),
        mime_type=document.mime_type,
        properties=to_json_object(document.properties),
        source_uri=document.source_uri,
    )


def from_document(document: Document, collection: CollectionRef) -> document_pb.Document:
    """Writes a document."""
    message = document_pb.Document(
        name=document_name(collection, document.id),
        title=document.title,
        mime_type=document.mime_type,
        properties=from_json_object(document.properties),
        source_uri=document.source_uri,
        create_time=_timestamp(document.create_time),
        update_time=_timestamp(document.update_time),
        content_sha256=document.content_sha256,
        chunk_count=document.chunk_count,
        token_count=document.token_count,
    )
    if document.text:
        message.text = document.text
    return message


def to_messages(messages: Sequence[message_pb.Message]) -> tuple[Message, ...]:
    """Reads messages into the form that prompts keep."""
    return tuple(MessageToDict(m, preserving_proto_field_name=True) for m in messages)


def from_message(message: Message) -> message_pb.Message:
    """Writes a message of a prompt."""
    return ParseDict(dict(message), message_pb.Message())


def from_prompt(prompt: Prompt) -> prompt_pb.Prompt:
    """Writes a prompt."""
    return prompt_pb.Prompt(
        name=PromptRef(prompt.tenant, prompt.id).name,
        uid=prompt.uid,
        messages=[from_message(message) for message in prompt.messages],
        builtin=prompt.builtin,
        create_time=None if prompt.builtin else _timestamp(prompt.create_time),
        update_time=None if prompt.builtin else _timestamp(prompt.update_time),
        etag=prompt.etag,
    )


def to_json_object(struct: Struct) -> dict[str, Json]:
    """Reads a Struct."""
    return {name: to_json(value) for name, value in struct.fields.items()}


def to_json(value: Value) -> Json:
    """Reads a value; numbers are floats, as they came."""
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
        case "number_value":
            return value.number_value
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return to_json_object(value.struct_value)
        case "list_value":
            return [to_json(item) for item in value.list_value.values]
        case _:
            return None


def from_json_object(values: Mapping[str, Json]) -> Struct:
    """Writes a Struct."""
    struct = Struct()
    for name, value in values.items():
        struct.fields[name].CopyFrom(from_json(value))
    return struct


def from_json(value: Json) -> Value:
    """Writes a value; whole numbers that JSON would not keep become their digits."""
    if value is None:
        return Value(null_value=0)  # pyright: ignore[reportArgumentType]
    if isinstance(value, bool):
        return Value(bool_value=value)
    if isinstance(value, int) and abs(value) > _EXACT:
        return Value(string_value=str(value))
    if isinstance(value, int | float):
        return Value(number_value=value)
    if isinstance(value, str):
        return Value(string_value=value)
    if isinstance(value, Mapping):
        return Value(struct_value=from_json_object(value))
    result = Value()
    result.list_value.SetInParent()
    result.list_value.values.extend(from_json(item) for item in value)
    return result


def _chunking(asked: collection_pb.Chunking) -> Chunking:
    values: dict[str, Any] = {field.name: value for field, value in asked.ListFields()}
    return Chunking(**values)


def _properties(asked: Sequence[collection_pb.PropertySchema]) -> tuple[PropertySchema, ...]:
    return tuple(PropertySchema(one.name, PropertyType(one.type), one.required) for one in asked)


def _expire_time(asked: collection_pb.Collection) -> datetime | None:
    if not asked.HasField("expire_time"):
        return None
    try:
        return asked.expire_time.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise InvalidArgument(
            "'collection.expire_time': is no instant of the years 1 to 9999.",
            field="collection.expire_time",
        ) from None


def _expire_after(asked: collection_pb.Collection) -> timedelta | None:
    return asked.expire_after.ToTimedelta() if asked.HasField("expire_after") else None


def _duration(span: timedelta | None) -> Duration | None:
    if span is None:
        return None
    return Duration(seconds=span // timedelta(seconds=1), nanos=span.microseconds * 1000)


def _timestamp(instant: datetime | None) -> Timestamp | None:
    if instant is None:
        return None
    message = Timestamp()
    message.FromDatetime(instant.astimezone(UTC))
    return message
