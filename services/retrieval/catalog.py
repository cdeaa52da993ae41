"""Collections: made, changed, listed and deleted."""

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from services.errors import (
    Conflict,
    DomainError,
    FailedPrecondition,
    InvalidArgument,
    ModelNotFound,
    NotFound,
)
from services.page_tokens import Place
from services.retrieval import paging
from services.retrieval.clock import utc_now
from services.retrieval.faults import at, renamed
from services.retrieval.names import (
    CollectionRef,
    check_collection_id,
    model_id,
    new_collection_id,
    new_etag,
    new_uid,
)
from services.retrieval.paging import Asked, Listing
from services.retrieval.peers import Caller, Embedder, EmbeddingModel, Models, Task
from services.retrieval.records import (
    Chunking,
    Collection,
    CollectionChange,
    Metric,
    PropertySchema,
)
from services.retrieval.store import Store
from services.retrieval.values import check_text

DEFAULT_PAGE_SIZE = 20
OWN_PROPERTIES = frozenset({"id", "title", "source_uri"})
"""What comparisons read from the document itself."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ChunkDefaults:
    """How documents are split where a collection doesn't say."""

    max_tokens: int = 256
    overlap_tokens: int = 32


@dataclass(frozen=True, slots=True)
class NewCollection:
    """A collection that is asked for."""

    tenant: str
    id: str = ""
    display_name: str = ""
    embedding_model: str = ""
    dimensions: int | None = None
    metric: Metric = Metric.COSINE
    chunking: Chunking = field(default_factory=Chunking)
    properties: tuple[PropertySchema, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    expire_time: datetime | None = None
    expire_after: timedelta | None = None
    request_id: str = ""


class Collections:
    """Answers for collections."""

    def __init__(
        self,
        store: Store,
        models: Models,
        embedder: Embedder,
        *,
        defaults: ChunkDefaults = ChunkDefaults(),
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._store = store
        self._models = models
        self._embedder = embedder
        self._defaults = defaults
        self._clock = clock

    async def create(self, asked: NewCollection, caller: Caller) -> Collection:
        """Makes a collection. With a request ID the call is repeatable.

        Raises:
            AlreadyExists: the tenant has the ID.
            ModelNotFound: there is no such embedding model.
            Unavailable: the model can't be asked, or is not ready.
        """
        if asked.id:
            check_collection_id(asked.id, "collection_id")
        self._check(asked.display_name, asked.properties, asked.metadata, asked.expire_time)
        if asked.expire_time is not None and asked.expire_after is not None:
            raise InvalidArgument(
                "'collection.expire_time': follows from 'collection.expire_after'. Leave one out.",
                field="collection.expire_time",
            )
        model = await self._model(asked.embedding_model, caller)
        chunking = self._resolved(asked.chunking, model)
        model_name, dimensions = await self._probed(model, asked.dimensions, caller)
        id, now = asked.id or new_collection_id(), self._clock()
        made = Collection(
            tenant=asked.tenant,
            id=id,
            uid=new_uid(),
            embedding_model=model_name,
            dimensions=dimensions,
            metric=asked.metric,
            display_name=asked.display_name or id,
            chunking=chunking,
            properties=asked.properties,
            metadata=asked.metadata,
            create_time=now,
            update_time=now,
            etag=new_etag(),
            expire_time=asked.expire_time,
            expire_after=asked.expire_after,
        )
        key = _receipt(caller, asked) if asked.request_id else ""
        stored = await self._store.create_collection(made, key)
        if stored.uid != made.uid:
            _check_repeated(stored, made, asked)
        return stored

    async def get(self, ref: CollectionRef) -> Collection:
        """Returns a collection. Raises `NotFound`."""
        return await self._store.collection(ref.tenant, ref.id)

    async def list(self, tenant: str, asked: Asked) -> Listing[Collection]:
        """Returns a tenant's collections, by time of creation."""
        query = ["collections", tenant]
        page = paging.begin(asked, query, DEFAULT_PAGE_SIZE)
        found = await self._store.collections(tenant, page)
        places = [Place(collection.id, collection.create_time) for collection in found]
        listing = paging.end(found, places, page, asked, query)
        sizes = [_size(collection) for collection in listing.items]
        return paging.cut(listing, sizes, places, asked, query)

    async def change(
        self, ref: CollectionRef, change: CollectionChange, caller: Caller
    ) -> Collection:
        """Changes a collection. Raises `NotFound`, or `Conflict` where the etag differs."""
        self._check(
            change.display_name or "",
            change.properties or (),
            change.metadata or {},
            change.expire_time,
        )
        if change.display_name == "":
            change = replace(change, display_name=ref.id)
        if change.chunking is not None:
            collection = await self.get(ref)
            model = await self._model(collection.embedding_model, caller)
            change = replace(change, chunking=self._resolved(change.chunking, model))
        return await self._store.change_collection(ref.tenant, ref.id, change)

    async def delete(self, ref: CollectionRef) -> None:
        """Deletes a collection with everything in it. Raises `NotFound`."""
        await self._store.delete_collection(ref.tenant, ref.id)

    async def sweep(self, interval_s: float) -> None:
        """Deletes collections whose time is over, again and again until cancelled."""
        while True:
            try:
                now = self._clock()
                for tenant, id in await self._store.expired(now):
                    with contextlib.suppress(NotFound):  # another process was faster
                        await self._store.delete_collection(tenant, id, expired=now)
                        _log.info("tenants/%s/collections/%s has expired: deleted", tenant, id)
            except DomainError as error:
                _log.warning("expired collections could not be deleted: %s", error.message)
            except Exception:
                # What nobody thought of must not end the sweeps.
                _log.exception("expired collections could not be deleted")
            await asyncio.sleep(interval_s)

    def _check(
        self,
        display_name: str,
        properties: Sequence[PropertySchema],
        metadata: Mapping[str, str],
        expire_time: datetime | None,
    ) -> None:
        check_text(display_name, "collection.display_name")
        for key, value in metadata.items():
            check_text(key + value, "collection.metadata")
        names: set[str] = set()
        for place, schema in enumerate(properties):
            field = f"collection.properties[{place}].name"
            check_text(schema.name, field)
            if schema.name in OWN_PROPERTIES:
                raise InvalidArgument(
                    f"'{field}': every document has {schema.name!r} of its own. Choose another "
                    "name.",
                    field=field,
                )
            if schema.name in names:
                raise InvalidArgument(f"'{field}': is declared twice.", field=field)
            names.add(schema.name)
        if expire_time is not None and expire_time <= self._clock():
            raise InvalidArgument(
                "'collection.expire_time': must be in the future.", field="collection.expire_time"
            )

    async def _model(self, name: str, caller: Caller) -> EmbeddingModel:
        try:
            return await self._models.embedding_model(model_id(name), caller)
        except (InvalidArgument, ModelNotFound) as error:
            raise at(error, "collection.embedding_model") from None

    async def _probed(
        self, model: EmbeddingModel, dimensions: int | None, caller: Caller
    ) -> tuple[str, int]:
        """Returns the model's ID and the length of its vectors, by making one."""
        try:
            made = await self._embedder.embed(
                model.id, ["probe"], task=Task.DOCUMENT, caller=caller, dimensions=dimensions
            )
        except DomainError as error:
            fields = {"dimensions": "collection.dimensions"}
            raise renamed(
                error, lambda path: fields.get(path, "collection.embedding_model")
            ) from None
        if dimensions is not None and made.dimensions != dimensions:
            raise FailedPrecondition(
                f"The model {made.model!r} makes vectors of {made.dimensions} numbers, not "
                f"{dimensions}. Leave 'dimensions' out to take them.",
                field="collection.dimensions",
            )
        return made.model, made.dimensions

    def _resolved(self, asked: Chunking, model: EmbeddingModel) -> Chunking:
        """Returns how documents are split, with the defaults filled in."""
        longest = model.context_length
        if asked.max_tokens is not None and longest is not None and asked.max_tokens > longest:
            field = "collection.chunking.max_tokens"
            raise InvalidArgument(
                f"'{field}': the model {model.id!r} takes at most {longest} tokens.", field=field
            )
        if asked.whole_documents:
            if asked.overlap_tokens:
                field = "collection.chunking.overlap_tokens"
                raise InvalidArgument(
                    f"'{field}': whole documents have no neighbours. Leave it out.", field=field
                )
            return asked
        most = asked.max_tokens or min(self._defaults.max_tokens, longest or 8192)
        overlap = asked.overlap_tokens
        if overlap is None:
            overlap = min(self._defaults.overlap_tokens, most // 4)
        elif overlap >= most:
            field = "collection.chunking.overlap_tokens"
            raise InvalidArgument(
                f"'{field}': must be less than max_tokens, which is {most}.", field=field
            )
        return Chunking(most, overlap)


def _size(collection: Collection) -> int:
    """About how many bytes a collection has in a message, at most."""
    labels = sum(len(key) + len(value) for key, value in collection.metadata.items())
    return 4 * (labels + sum(len(schema.name) for schema in collection.properties)) + 4096


def _receipt(caller: Caller, asked: NewCollection) -> str:
    """What a caller's repeatable call is kept under."""
    return hashlib.sha256(f"{caller.id}\n{asked.request_id}".encode()).hexdigest()


def _check_repeated(stored: Collection, made: Collection, asked: NewCollection) -> None:
    """Raises `Conflict` where a request ID was used for another collection."""
    same = (stored.tenant, stored.embedding_model, stored.dimensions, stored.metric) == (
        made.tenant,
        made.embedding_model,
        made.dimensions,
        made.metric,
    )
    if not same or (asked.id and asked.id != stored.id):
        raise Conflict(
            "This request_id was used for another collection. Use a new one.", field="request_id"
        )
