"""Waits until what was started serves."""

import asyncio
import http.client
import json
from typing import Any, cast

import grpc
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.cli.ports import connectable, parse_address

POLL_S = 0.05
CALL_TIMEOUT_S = 5.0
_AWAY = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}


async def is_serving(
    channel: aio.Channel, timeout_s: float, *, wait_for_ready: bool = False
) -> bool:
    """Asks the service behind the channel, by grpc.health.v1, whether it serves."""
    stub = cast("Any", health_pb2_grpc).HealthStub(channel)  # the package has no types
    request = cast("Any", health_pb2).HealthCheckRequest()
    reply = await stub.Check(request, timeout=timeout_s, wait_for_ready=wait_for_ready)
    return reply.status == cast("Any", health_pb2).HealthCheckResponse.SERVING


async def until_serving(channel: aio.Channel) -> None:
    """Returns once the service behind the channel says that it serves."""
    while True:
        try:
            if await is_serving(channel, CALL_TIMEOUT_S, wait_for_ready=True):
                return
        except aio.AioRpcError as error:
            if error.code() not in _AWAY:
                raise
        await asyncio.sleep(POLL_S)


async def until_answering(address: str) -> None:
    """Returns once the edge answers HTTP, and says that it can tell keys."""
    while True:
        if await asyncio.to_thread(_answers, address):
            return
        await asyncio.sleep(POLL_S)


def _answers(address: str) -> bool:
    where = connectable(parse_address(address))
    connection = http.client.HTTPConnection(where.host, where.port, timeout=CALL_TIMEOUT_S)
    try:
        connection.request("GET", "/health")
        told: Any = json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError):
        return False
    finally:
        connection.close()
    return isinstance(told, dict) and cast("dict[str, Any]", told).get("ready") is True
