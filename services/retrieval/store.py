"""The store port: collections, documents with their vectors, and prompts, in one database.

Everything is scoped by tenant. What a call stores is there whole when it returns, and not at all
when the process dies before. Collections are named by tenant and ID, and by `uid` once they are
known, so that a call that began before a delete can't write into a namesake.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from services.retrieval.records import (
    Collection,
    CollectionChange,
    Document,
    Filter,
    Fingerprint,
    Hit,
    Lookup,
    NewDocument,
    Outcome,
    Page,
    Prompt,
)


class Store(Protocol):
    """Keeps what RetrievalService has. Safe to use from several processes at once."""

    # Collections.

    async def create_collection(self, collection: Collection, request_id: str = "") -> Collection:
        """Stores a new collection; the same non-empty `request_id` again returns what was made.
        With `expire_after` it expires so long after `create_time`.

        Raises:
            AlreadyExists: the tenant has the ID.
        """
        ...

    async def collection(self, tenant: str, id: str) -> Collection:
        """Gets one, with its counts. Raises NotFound; so does one that has expired."""
        ...

    async def collections(self, tenant: str, page: Page) -> Sequence[Collection]:
        """Lists a tenant's. Raises InvalidArgument where `page.after` comes without its time and is
        unknown."""
        ...

    async def change_collection(self, tenant: str, id: str, change: CollectionChange) -> Collection:
        """Changes one.

        Raises:
            NotFound: there is none.
            Conflict: the etag differs.
            InvalidArgument: `expire_time` is to change, and follows from `expire_after`.
        """
        ...

    async def delete_collection(
        self, tenant: str, id: str, *, expired: datetime | None = None
    ) -> None:
        """Deletes one with everything in it; with `expired`, only one whose time was over then, for
        another may have its ID by now. Raises NotFound."""
        ...

    async def touch_collection(self, uid: str, searched: datetime) -> None:
        """Notes that it was searched, and puts off its end where that is so long after."""
        ...

    async def expired(self, now: datetime) -> Sequence[tuple[str, str]]:
        """Tenant and ID of collections whose time is over, for the sweep."""
        ...

    # Documents.

    async def fingerprints(self, uid: str, ids: Sequence[str]) -> Mapping[str, Fingerprint]:
        """What is stored of these documents; unknown ones are left out."""
        ...

    async def put_documents(self, uid: str, documents: Sequence[NewDocument]) -> Sequence[Outcome]:
        """Stores documents with their chunks, replacing those of the same ID, all in one
        transaction. An ID comes at most once a call.

        Raises:
            NotFound: the collection was deleted.
        """
        ...

    async def update_documents(self, uid: str, documents: Mapping[str, Fingerprint]) -> None:
        """Replaces title, properties and the like of documents whose content is the same."""
        ...

    async def document(self, uid: str, id: str) -> Document:
        """Gets one, with its text. Raises NotFound."""
        ...

    async def documents(self, uid: str, page: Page, *, with_text: bool) -> Sequence[Document]:
        """Lists a collection's. Raises InvalidArgument where `page.after` comes without its time
        and is unknown."""
        ...

    async def delete_documents(
        self, uid: str, *, ids: Sequence[str] = (), filter: Filter | None = None
    ) -> int:
        """Deletes by ID or by filter, all or none; returns how many there were."""
        ...

    # Search.

    async def search(self, collection: Collection, lookup: Lookup) -> Sequence[Hit]:
        """Finds passages, best first. Cancelling the call stops the work where the database can.

        Scores: VECTOR by metric (cosine: 1 - distance / 2; inner product: the logistic function of
        the product; L2: 1 / (1 + distance)); TEXT by rank (BM25, squashed to [0, 1)); HYBRID by
        reciprocal rank fusion (k = 60) over both, scaled so that first in both is 1.

        Raises:
            InvalidArgument: the filter compares a declared property with a value of another type,
                or the vector has another length.
            NotFound: the collection was deleted.
        """
        ...

    # Prompts.

    async def put_prompt(self, prompt: Prompt, etag: str = "") -> Prompt:
        """Creates or replaces one; keeps uid and time of creation. Raises Conflict where `etag` is
        given and differs."""
        ...

    async def prompt(self, tenant: str, key: str) -> Prompt:
        """Gets one by ID or uid. Raises NotFound."""
        ...

    async def prompts(self, tenant: str, page: Page) -> Sequence[Prompt]:
        """Lists a tenant's whose IDs come after `page.after`, which need not be there; by ID
        (`page.descending` and `page.after_time` are not read)."""
        ...

    async def delete_prompt(self, tenant: str, key: str) -> None:
        """Deletes one. Raises NotFound."""
        ...

    async def close(self) -> None:
        """Lets go of the database."""
        ...
