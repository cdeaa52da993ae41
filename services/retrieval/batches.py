"""Documents of a stream on their way into the store, in batches."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from services.retrieval.intake import Draft, Refused
from services.retrieval.records import Fingerprint, NewDocument


@dataclass(frozen=True, slots=True)
class Text:
    """A document that is new or changed, with the text taken out of it."""

    draft: Draft
    title: str
    mime_type: str
    text: str

    @property
    def index(self) -> int:
        """Its place in the stream."""
        return self.draft.index

    @property
    def id(self) -> str:
        """Its ID."""
        return self.draft.id


@dataclass(frozen=True, slots=True)
class Ready:
    """A document with its vectors, to be stored."""

    index: int
    document: NewDocument

    @property
    def id(self) -> str:
        """Its ID."""
        return self.document.id


@dataclass(frozen=True, slots=True)
class Unchanged:
    """A document that is stored as it was sent."""

    index: int
    id: str


@dataclass(frozen=True, slots=True)
class Touched:
    """A document whose content is stored, and whose title, properties or the like are new."""

    index: int
    id: str
    fingerprint: Fingerprint


Item = Draft | Refused | Unchanged | Touched | Text | Ready


@dataclass(frozen=True, slots=True)
class Batch:
    """Documents that follow each other in a stream; no two of them have the same ID."""

    items: Sequence[Item] = ()
    token_count: int = 0
    """Tokens that were embedded for it."""
    pending: Sequence[str] = ()
    """IDs of documents that it may change once it is stored."""

    def until_refused(self) -> "Batch":
        """Returns the batch up to the first document that is refused, with it."""
        for place, item in enumerate(self.items):
            if isinstance(item, Refused):
                return replace(self, items=self.items[: place + 1])
        return self


@dataclass(frozen=True, slots=True)
class End:
    """Nothing more comes."""

    error: Exception | None = None
    """Why, unless the stream has ended well. What came before is settled nevertheless."""
