"""Keeps responses, and the conversations that they are links of."""

import asyncio
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import msgspec

from services.errors import DomainError, FailedPrecondition, InvalidArgument, NotFound
from services.inference.response_records import Item, NewResponse, Response, Spot, Window
from services.inference.response_store import ResponseStore
from services.page_tokens import Place, decode, encode, no_token

_DEFAULT_PAGE = 20
_LARGEST_PAGE = 1000
_RETRY_S = 5.0
_SHOWN = 80
_SPOT = re.compile(r"(\d{1,9})\.(\d{1,9})")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ResponseLimits:
    """How long responses are kept, and how long conversations grow."""

    lasts: timedelta = timedelta(days=30)
    most_responses: int = 1000
    """Of a conversation that is still continued."""
    most_bytes: int = 32 * 1024 * 1024
    """Of its items."""


@dataclass(frozen=True, slots=True)
class Listing:
    """A page of items."""

    items: Sequence[Item]
    next_page_token: str


def utc_now() -> datetime:
    """Returns the present instant."""
    return datetime.now(UTC)


class Responses:
    """Keeps responses for their owners."""

    def __init__(
        self,
        store: ResponseStore,
        limits: ResponseLimits,
        *,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._store = store
        self._limits = limits
        self._clock = clock

    async def keep(self, new: NewResponse, owner: str) -> Response:
        """Keeps a response.

        Raises:
            InvalidArgument: something in it is no JSON object.
            AlreadyExists: its ID is taken.
            NotFound: the response that it continues is gone.
        """
        _check_object(new.json, "response.response_json")
        for kind, items in (("input", new.input), ("output", new.output)):
            for number, item in enumerate(items):
                _check_object(item.json, f"response.{kind}_items[{number}].item_json")
        now = self._clock()
        return await self._store.keep(
            new, owner, create_time=now, expire_time=now + self._limits.lasts
        )

    async def get(self, id: str, owner: str) -> Response:
        """Gets a response. Raises `NotFound`."""
        return await self._store.response(id, owner)

    async def delete(self, id: str, owner: str) -> None:
        """Deletes a response. Raises `NotFound`."""
        await self._store.remove(id, owner)

    async def conversation(self, id: str, owner: str) -> Sequence[Item]:
        """Gets all that was said up to and including a response.

        Raises:
            NotFound: there is no such response.
            FailedPrecondition: it can't be continued.
        """
        chain = await self._store.chain(id, owner)
        most = self._limits
        if not chain.is_whole:
            raise FailedPrecondition(
                "An earlier response of this conversation was deleted or has expired. Send the "
                "conversation as input."
            )
        if chain.response_count >= most.most_responses or chain.size_bytes >= most.most_bytes:
            raise FailedPrecondition(
                f"This conversation is too long to be continued: {chain.response_count} responses "
                f"of {chain.size_bytes} bytes; the limits are {most.most_responses} and "
                f"{most.most_bytes}. Begin a new one."
            )
        return await self._store.conversation(id, owner)

    async def input_items(
        self, id: str, owner: str, *, size: int, token: str, after: str, descending: bool
    ) -> Listing:
        """Lists what a response was made from.

        Raises:
            NotFound: there is no such response.
            InvalidArgument: the page can't be told.
        """
        size = min(size or _DEFAULT_PAGE, _LARGEST_PAGE)
        query = [id, "desc" if descending else "asc"]
        window = Window(size + 1, descending, _spot(decode(token, query)), after)
        found = await self._store.input_items(id, owner, window)
        items = [item for _, item in found[:size]]
        if len(found) <= size:
            return Listing(items, "")
        last, _ = found[size - 1]
        return Listing(items, encode(Place(f"{last.turn}.{last.position}"), query))

    async def items(self, ids: Sequence[str], owner: str) -> Sequence[Item]:
        """Gets items by ID, in that order. Raises `NotFound`."""
        found = {item.id: item for item in await self._store.items(ids, owner)}
        for number, id in enumerate(ids):
            if id not in found:
                raise NotFound(f"There is no item {id[:_SHOWN]!r}.", field=f"item_ids[{number}]")
        return [found[id] for id in ids]

    async def keep_swept(self, interval_s: float) -> None:
        """Deletes what has expired, from time to time, until cancelled."""
        while True:
            pause = interval_s
            try:
                while await self._store.sweep():
                    pass
            except DomainError as error:
                _log.warning("expired responses could not be deleted: %s", error.message)
                pause = min(interval_s, _RETRY_S)
            except Exception:
                # What nobody thought of must not end the loop.
                _log.exception("expired responses could not be deleted")
                pause = min(interval_s, _RETRY_S)
            await asyncio.sleep(pause)


def _check_object(text: str, field: str) -> None:
    try:
        msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, RecursionError):
        raise InvalidArgument(f"'{field}': must be a JSON object.", field=field) from None


def _spot(place: Place) -> Spot | None:
    if not place.id:
        return None
    parts = _SPOT.fullmatch(place.id)
    if parts is None:
        raise no_token()
    return Spot(int(parts[1]), int(parts[2]))
