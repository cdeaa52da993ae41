"""The store port: where responses are kept. Nobody sees another owner's, or what has expired."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from services.inference.response_records import Chain, Item, NewResponse, Response, Spot, Window


class ResponseStore(Protocol):
    """Keeps responses. Safe to use from several processes at once."""

    async def keep(
        self, new: NewResponse, owner: str, *, create_time: datetime, expire_time: datetime
    ) -> Response:
        """Keeps one. Raises `AlreadyExists` where its ID is taken, and `NotFound` where the one
        before it is gone."""
        ...

    async def response(self, id: str, owner: str) -> Response:
        """Gets one. Raises `NotFound`."""
        ...

    async def remove(self, id: str, owner: str) -> None:
        """Deletes one. Raises `NotFound`."""
        ...

    async def chain(self, id: str, owner: str) -> Chain:
        """Measures the conversation that ends with a response. Raises `NotFound`."""
        ...

    async def conversation(self, id: str, owner: str) -> Sequence[Item]:
        """Gets all items up to and including those of a response. Raises `NotFound`."""
        ...

    async def input_items(self, id: str, owner: str, window: Window) -> Sequence[tuple[Spot, Item]]:
        """Lists all items before the output of a response. Raises `NotFound`, and
        `InvalidArgument` where there is no item `window.after_id`."""
        ...

    async def items(self, ids: Sequence[str], owner: str) -> Sequence[Item]:
        """Gets those of the items that there are, each the latest of its ID, in no order."""
        ...

    async def sweep(self) -> int:
        """Deletes some of what has expired; tells how many responses that were."""
        ...
