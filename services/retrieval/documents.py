"""Documents that are stored: got, listed and deleted. `ingest` puts them in."""

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from services.errors import InvalidArgument, NotFound
from services.page_tokens import Place
from services.retrieval import paging
from services.retrieval.names import CollectionRef, DocumentRef, parse_document
from services.retrieval.paging import Asked, Listing
from services.retrieval.records import Document, Filter
from services.retrieval.store import Store
from services.retrieval.values import as_kept

DEFAULT_PAGE_SIZE = 20


class Documents:
    """Answers for documents."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def get(self, ref: DocumentRef, *, with_text: bool) -> Document:
        """Returns a document. Raises `NotFound`."""
        collection = await self._store.collection(*ref.collection)
        document = await self._store.document(collection.uid, ref.id)
        return document if with_text else replace(document, text="")

    async def list(self, ref: CollectionRef, asked: Asked, *, with_text: bool) -> Listing[Document]:
        """Returns a collection's documents, by time of creation.

        Pages with texts end early where they would not fit into a message.
        """
        collection = await self._store.collection(*ref)
        query = ["documents", collection.uid]
        page = paging.begin(asked, query, DEFAULT_PAGE_SIZE)
        found = await self._store.documents(collection.uid, page, with_text=False)
        listing = paging.end(found, _places(found), page, asked, query)
        if with_text:
            listing = replace(listing, items=await self._with_texts(collection.uid, listing.items))
        sizes = [_size(document) for document in listing.items]
        return paging.cut(listing, sizes, _places(listing.items), asked, query)

    async def _with_texts(self, uid: str, documents: Sequence[Document]) -> Sequence[Document]:
        """Reads texts one by one, so that no more of them are in memory than a page can hold."""
        whole = deque[Document]()
        size = 0
        for document in documents:
            if size <= paging.MAX_PAGE_BYTES:
                try:
                    document = await self._store.document(uid, document.id)
                except NotFound:
                    continue  # deleted meanwhile
                size += _size(document)
            whole.append(document)
        return tuple(whole)

    async def delete(self, ref: DocumentRef) -> None:
        """Deletes a document. Raises `NotFound`."""
        collection = await self._store.collection(*ref.collection)
        if not await self._store.delete_documents(collection.uid, ids=[ref.id]):
            raise NotFound(f"There is no document {ref.name[:400]!r}.", field="name")

    async def delete_many(
        self, ref: CollectionRef, names: Sequence[str], filter: Filter | None
    ) -> int:
        """Deletes documents by name or by filter, all or none; returns how many there were."""
        ids: dict[str, None] = {}
        for place, name in enumerate(names):
            document = parse_document(name, f"names[{place}]")
            if document.collection != ref:
                raise InvalidArgument(
                    f"'names[{place}]': must be a document of the parent, {ref.name!r}.",
                    field=f"names[{place}]",
                )
            ids[document.id] = None
        collection = await self._store.collection(*ref)
        if filter is not None:
            kept = as_kept(filter, collection.properties)
            return await self._store.delete_documents(collection.uid, filter=kept)
        return await self._store.delete_documents(collection.uid, ids=list(ids))


def _places(documents: Sequence[Document]) -> list[Place]:
    return [Place(document.id, document.create_time) for document in documents]


def _size(document: Document) -> int:
    """About how many bytes a document has in a message."""
    return (
        len(document.text.encode())
        + len(document.source_uri)
        + 4 * len(document.title)
        + len(repr(document.properties))
        + 512
    )
