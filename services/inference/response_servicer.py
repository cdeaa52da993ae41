"""ResponseService over gRPC: translates, and leaves the deciding to the domain."""
# ruff: noqa: N802 - methods bear the names of their RPCs

from collections.abc import Iterable
from typing import Any

from google.protobuf.empty_pb2 import Empty
from penstock.inference.v1 import response_pb2 as response_pb
from penstock.inference.v1 import response_service_pb2 as pb
from penstock.inference.v1.response_service_pb2_grpc import ResponseServiceServicer

from services.inference.response_records import Item, NewResponse, Response
from services.inference.responses import Responses
from services.rpc.access import Role, principal, requires

Context = Any
"""A `grpc.aio.ServicerContext`; its type parameters say nothing here."""

_NAMES = "responses/"
_ASCENDING = "create_time"


class ResponseServicer(ResponseServiceServicer):
    """Serves each caller its own responses."""

    def __init__(self, responses: Responses) -> None:
        self._responses = responses

    @requires(Role.USER)
    async def StoreResponse(
        self, request: pb.StoreResponseRequest, context: Context
    ) -> response_pb.Response:
        """Keeps a response."""
        given = request.response
        new = NewResponse(
            id=_id(given.name),
            previous=_id(given.previous_response) or None,
            input=_to_items(given.input_items),
            output=_to_items(given.output_items),
            json=given.response_json,
        )
        return _from_response(await self._responses.keep(new, principal().id))

    @requires(Role.USER)
    async def GetResponse(
        self, request: pb.GetResponseRequest, context: Context
    ) -> response_pb.Response:
        """Gets a response."""
        return _from_response(await self._responses.get(_id(request.name), principal().id))

    @requires(Role.USER)
    async def DeleteResponse(self, request: pb.DeleteResponseRequest, context: Context) -> Empty:
        """Deletes a response."""
        await self._responses.delete(_id(request.name), principal().id)
        return Empty()

    @requires(Role.USER)
    async def ListInputItems(
        self, request: pb.ListInputItemsRequest, context: Context
    ) -> pb.ListInputItemsResponse:
        """Lists what a response was made from."""
        page = await self._responses.input_items(
            _id(request.parent),
            principal().id,
            size=request.page_size,
            token=request.page_token,
            after=request.after,
            descending=request.order_by != _ASCENDING,
        )
        return pb.ListInputItemsResponse(
            input_items=_from_items(page.items), next_page_token=page.next_page_token
        )

    @requires(Role.USER)
    async def GetConversation(
        self, request: pb.GetConversationRequest, context: Context
    ) -> pb.Conversation:
        """Gets a conversation."""
        items = await self._responses.conversation(_id(request.name), principal().id)
        return pb.Conversation(items=_from_items(items))

    @requires(Role.USER)
    async def BatchGetItems(
        self, request: pb.BatchGetItemsRequest, context: Context
    ) -> pb.BatchGetItemsResponse:
        """Gets items."""
        items = await self._responses.items(request.item_ids, principal().id)
        return pb.BatchGetItemsResponse(items=_from_items(items))


def _id(name: str) -> str:
    return name.removeprefix(_NAMES)


def _to_items(items: Iterable[response_pb.ResponseItem]) -> tuple[Item, ...]:
    return tuple(Item(item.item_id, item.item_json) for item in items)


def _from_items(items: Iterable[Item]) -> list[response_pb.ResponseItem]:
    return [response_pb.ResponseItem(item_id=item.id, item_json=item.json) for item in items]


def _from_response(response: Response) -> response_pb.Response:
    written = response_pb.Response(
        name=f"{_NAMES}{response.id}",
        previous_response=f"{_NAMES}{response.previous}" if response.previous else "",
        output_items=_from_items(response.output),
        response_json=response.json,
    )
    written.create_time.FromDatetime(response.create_time)
    written.expire_time.FromDatetime(response.expire_time)
    return written
