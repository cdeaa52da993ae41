"""Calls for callers who may leave before the answer comes."""

import asyncio
from collections.abc import Sequence
from typing import TypeVar

from starlette.types import Receive

from gateway.bodies import disconnected
from gateway.clients import Method, ask
from gateway.context import RequestContext

Request = TypeVar("Request")
Answer = TypeVar("Answer")


async def ask_while_there(
    method: Method[Request, Answer],
    request: Request,
    context: RequestContext,
    receive: Receive,
    timeout_s: float,
) -> Answer:
    """Makes a unary call; it is cancelled when the client leaves. The body must be read before.

    Raises:
        ProblemError: the call failed.
        ClientGoneError: the client left.
    """
    gone = asyncio.get_running_loop().create_task(disconnected(receive))
    try:
        return await ask(method, request, context, timeout_s=timeout_s, gone=gone)
    finally:
        gone.cancel()


async def ask_each_while_there(
    method: Method[Request, Answer],
    requests: Sequence[Request],
    context: RequestContext,
    receive: Receive,
    timeout_s: float,
) -> list[Answer]:
    """Makes several unary calls at once, like `ask_while_there`; the first that fails ends all."""
    loop = asyncio.get_running_loop()
    gone = loop.create_task(disconnected(receive))
    tasks = [
        loop.create_task(ask(method, request, context, timeout_s=timeout_s, gone=gone))
        for request in requests
    ]
    try:
        return await asyncio.gather(*tasks)
    finally:
        gone.cancel()
        for task in tasks:
            task.cancel()
