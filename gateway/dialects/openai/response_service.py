"""Stored responses, as the endpoints use them: what is kept, and what conversations go on from."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import msgspec
from google.protobuf.empty_pb2 import Empty
from penstock.inference.v1 import response_pb2
from penstock.inference.v1 import response_service_pb2 as service_pb2

from gateway.clients import Clients, Method, ask
from gateway.context import RequestContext
from gateway.dialects.openai import response_answer_schema as answers
from gateway.dialects.openai.response_items import REFERENCE, Entry, kind_of, numbered
from gateway.dialects.openai.response_schema import InputItem, InputItemsQuery, ResponseCreate
from gateway.dialects.openai.response_translate import entries_of, unknown_response
from gateway.errors import Problem, ProblemError
from gateway.settings import Settings
from gateway.validation import missing

_ID = re.compile("resp_[0-9A-Za-z]{24}")
_NAMES = "responses/"
_MOST_REFERENCES = 1000
_SHOWN = 64
_PREVIOUS = "previous_response_id"

Request = TypeVar("Request")
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a request goes on from, and what it adds."""

    before: Sequence[Entry]
    taken: Sequence[str]
    """IDs of the items before."""
    new: Sequence[Entry]
    """With stored items in place of references to them."""

    @property
    def entries(self) -> list[Entry]:
        """All of it, in order."""
        return [*self.before, *self.new]


class StoredResponses:
    """The service that keeps responses, with its errors in the dialect's words."""

    def __init__(self, settings: Settings, clients: Clients) -> None:
        self._timeout_s = settings.request_timeout_s
        self._stub = clients.responses
        self._decoder = msgspec.json.Decoder(InputItem)
        self._encoder = msgspec.json.Encoder()

    async def conversation(self, body: ResponseCreate, context: RequestContext) -> Conversation:
        """Finds what a request goes on from.

        Raises:
            ProblemError: it is not stored, or can't be continued.
        """
        before: list[Entry] = []
        taken: list[str] = []
        if body.previous_response_id is not None:
            found = await self._previous(body.previous_response_id, context)
            for item in found.items:
                before.append(Entry(self._read(item), _PREVIOUS))
                taken.append(item.item_id)
        new = await self._resolved(entries_of(body), context)
        return Conversation(before, taken, new)

    async def keep(
        self,
        response: answers.Response,
        conversation: Conversation,
        context: RequestContext,
    ) -> None:
        """Keeps a response.

        Raises:
            ProblemError: it could not be kept.
        """
        stored = response_pb2.Response(name=_NAMES + response.id)
        if response.previous_response_id is not None:
            stored.previous_response = _NAMES + response.previous_response_id
        for item in numbered(conversation.new, conversation.taken):
            content = self._encoder.encode(item).decode()
            stored.input_items.add(item_id=item.id or "", item_json=content)
        for item in response.output:
            content = self._encoder.encode(item).decode()
            stored.output_items.add(item_id=item.id, item_json=content)
        rest = msgspec.structs.replace(response, output=[])
        stored.response_json = self._encoder.encode(rest).decode()
        request = service_pb2.StoreResponseRequest(response=stored)
        await ask(self._stub.StoreResponse, request, context, timeout_s=self._timeout_s)

    async def get(self, response_id: str, context: RequestContext) -> bytes:
        """Gets a response, as it was answered.

        Raises:
            ProblemError: it is not stored.
        """
        request = service_pb2.GetResponseRequest(name=_name(response_id))
        found = await self._ask(self._stub.GetResponse, request, context, response_id)
        told = msgspec.json.decode(found.response_json, type=dict[str, msgspec.Raw])
        output = b",".join(item.item_json.encode() for item in found.output_items)
        told["output"] = msgspec.Raw(b"[" + output + b"]")
        return self._encoder.encode(told)

    async def delete(self, response_id: str, context: RequestContext) -> Empty:
        """Deletes a response.

        Raises:
            ProblemError: it is not stored.
        """
        request = service_pb2.DeleteResponseRequest(name=_name(response_id))
        return await self._ask(self._stub.DeleteResponse, request, context, response_id)

    async def input_items(
        self, response_id: str, query: InputItemsQuery, context: RequestContext
    ) -> service_pb2.ListInputItemsResponse:
        """Lists what a response was made from.

        Raises:
            ProblemError: it is not stored, or the page can't be told.
        """
        request = service_pb2.ListInputItemsRequest(
            parent=_name(response_id),
            page_size=query.limit,
            after=query.after or "",
            order_by="create_time" if query.order == "asc" else "create_time desc",
        )
        return await self._ask(self._stub.ListInputItems, request, context, response_id)

    async def _previous(
        self, response_id: str, context: RequestContext
    ) -> service_pb2.Conversation:
        try:
            name = _name(response_id)
            request = service_pb2.GetConversationRequest(name=name)
            return await ask(
                self._stub.GetConversation, request, context, timeout_s=self._timeout_s
            )
        except ProblemError as error:
            raise ProblemError(_unlinked(error.problem, response_id)) from None

    async def _resolved(self, entries: Sequence[Entry], context: RequestContext) -> list[Entry]:
        """Puts stored items in place of references to them."""
        wanted: dict[str, str] = {}
        for entry in entries:
            if kind_of(entry.item, entry.path) == REFERENCE:
                if not entry.item.id:
                    raise missing(f"{entry.path}.id")
                wanted[entry.item.id] = entry.path
        if not wanted:
            return list(entries)
        found = await self._items(wanted, context)
        return [
            Entry(found[entry.item.id], entry.path) if entry.item.id in wanted else entry
            for entry in entries
        ]

    async def _items(
        self, wanted: dict[str, str], context: RequestContext
    ) -> dict[str | None, InputItem]:
        ids = list(wanted)
        found: dict[str | None, InputItem] = {}
        for start in range(0, len(ids), _MOST_REFERENCES):
            some = ids[start : start + _MOST_REFERENCES]
            request = service_pb2.BatchGetItemsRequest(item_ids=some)
            try:
                page = await ask(
                    self._stub.BatchGetItems, request, context, timeout_s=self._timeout_s
                )
            except ProblemError as error:
                raise ProblemError(_unreferred(error.problem, some)) from None
            found |= {item.item_id: self._read(item) for item in page.items}
        return found

    async def _ask(
        self,
        method: Method[Request, Answer],
        request: Request,
        context: RequestContext,
        response_id: str,
    ) -> Answer:
        try:
            return await ask(method, request, context, timeout_s=self._timeout_s)
        except ProblemError as error:
            if error.problem.reason == "NOT_FOUND":
                raise unknown_response(response_id) from None
            raise

    def _read(self, item: response_pb2.ResponseItem) -> InputItem:
        return self._decoder.decode(item.item_json)


def _name(response_id: str) -> str:
    if not _ID.fullmatch(response_id):
        raise unknown_response(response_id)
    return _NAMES + response_id


def _unlinked(problem: Problem, response_id: str) -> Problem:
    """Spells why a conversation can't be continued."""
    if problem.reason == "NOT_FOUND":
        message = f"Previous response with id '{response_id[:_SHOWN]}' not found."
        return Problem(
            "INVALID_ARGUMENT", message, param=_PREVIOUS, code="previous_response_not_found"
        )
    if problem.reason == "FAILED_PRECONDITION":
        return replace(problem, param=_PREVIOUS)
    return problem


def _unreferred(problem: Problem, ids: Sequence[str]) -> Problem:
    """Spells which item can't be found."""
    place = re.fullmatch(r"item_ids\[(\d+)\]", problem.param or "")
    if place is None:
        return problem
    message = (
        f"Item with id '{ids[int(place[1])][:_SHOWN]}' not found. Items are kept only of responses "
        "that are stored: send the item itself."
    )
    return Problem("NOT_FOUND", message, param="input")
