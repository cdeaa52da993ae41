"""What comes in to be stored: documents as they are sent, checked one by one."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from services.errors import DomainError, InvalidArgument, MissingField
from services.retrieval.names import CollectionRef, check_document_id
from services.retrieval.records import Fingerprint, Json, PropertySchema
from services.retrieval.values import check_properties, check_text


@dataclass(frozen=True, slots=True)
class Incoming:
    """A document as it was sent."""

    name: str = ""
    title: str = ""
    content: str | bytes | None = None
    mime_type: str = ""
    properties: Mapping[str, Json] = field(default_factory=dict[str, Json])
    source_uri: str = ""
    fault: DomainError | None = None
    """Why it is refused as it came."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A document that may be stored, with its place in the stream."""

    index: int
    id: str
    title: str
    content: str | bytes
    mime_type: str
    properties: Mapping[str, Json]
    source_uri: str
    content_sha256: str

    @property
    def size_bytes(self) -> int:
        """Length of the content."""
        return len(self.content)

    def repeats(self, stored: Fingerprint) -> bool:
        """Tells whether the content is what is stored, so that its chunks can stay."""
        # What is stored has no parameters, such as a charset.
        media_type = self.mime_type.partition(";")[0].strip()
        return stored.content_sha256 == self.content_sha256 and (
            not media_type or media_type == stored.mime_type
        )

    def fingerprint(self, title: str, mime_type: str) -> Fingerprint:
        """What is stored of it beside its content."""
        return Fingerprint(
            content_sha256=self.content_sha256,
            title=title,
            mime_type=mime_type,
            properties=self.properties,
            source_uri=self.source_uri,
        )


@dataclass(frozen=True, slots=True)
class Refused:
    """A document that is not stored, with its place in the stream."""

    index: int
    id: str
    """Its ID, or what was sent in place of one."""
    error: DomainError


def check(
    index: int,
    incoming: Incoming,
    collection: CollectionRef,
    declared: Sequence[PropertySchema],
) -> Draft | Refused:
    """Reads a document of a stream."""
    id = incoming.name
    try:
        id = check_document_id(incoming.name, collection, "document.name")
        if incoming.fault is not None:
            raise incoming.fault
        return _draft(index, id, incoming, declared)
    except DomainError as error:
        return Refused(index, id, error)


def _draft(index: int, id: str, incoming: Incoming, declared: Sequence[PropertySchema]) -> Draft:
    content = incoming.content
    if content is None:
        raise MissingField(
            "'document.text': a document needs text, or data to take it from.",
            field="document.text",
        )
    if isinstance(content, str):
        check_text(content, "document.text")
        if not content.strip():
            raise InvalidArgument(
                "'document.text': there is no text in it, so it could never be found.",
                field="document.text",
            )
    mime_type = incoming.mime_type.strip().lower()
    if not mime_type and isinstance(content, str):
        mime_type = "text/plain"
    raw = content.encode() if isinstance(content, str) else content
    return Draft(
        index=index,
        id=id,
        title=check_text(incoming.title, "document.title"),
        content=content,
        mime_type=check_text(mime_type, "document.mime_type"),
        properties=check_properties(incoming.properties, declared, "document.properties"),
        source_uri=check_text(incoming.source_uri, "document.source_uri"),
        content_sha256=hashlib.sha256(raw).hexdigest(),
    )
