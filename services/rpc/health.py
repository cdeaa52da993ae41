"""Tells load balancers and people what serves: grpc.health.v1, per service and per model."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.errors import NotFound

_Status = health_pb2.HealthCheckResponse


class HealthRegistry:
    """What serves at the moment. The name "" stands for the whole process.

    Names are those of services (`penstock.model.v1.ModelService`) and of models
    (`models/penstock-starter`).
    """

    def __init__(self) -> None:
        self._serving: dict[str, bool] = {}
        self._draining = False
        self._changed = asyncio.Event()

    def set(self, name: str, serving: bool) -> None:
        """Tells whether a service or model serves. Nothing serves again once the process drains."""
        self._serving[name] = serving and not self._draining
        self._notify()

    def remove(self, name: str) -> None:
        """Forgets a model that is no longer deployed."""
        self._serving.pop(name, None)
        self._notify()

    def drain(self) -> None:
        """Tells for good that nothing serves, and lets watchers go."""
        self._draining = True
        for name in self._serving:
            self._serving[name] = False
        self._notify()

    @property
    def draining(self) -> bool:
        """Whether the process drains."""
        return self._draining

    def serving(self, name: str) -> bool | None:
        """Returns whether a service or model serves; None for one never heard of."""
        return self._serving.get(name)

    def next_change(self) -> asyncio.Event:
        """Returns the event that is set at the next change of anything."""
        return self._changed

    def _notify(self) -> None:
        # Whoever waits holds the old event; who comes later waits on the new one.
        self._changed.set()
        self._changed = asyncio.Event()


class HealthServicer(health_pb2_grpc.HealthServicer):
    """grpc.health.v1 over a registry."""

    def __init__(self, registry: HealthRegistry) -> None:
        self._registry = registry

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Tells whether a service serves; NOT_FOUND for one never heard of."""
        serving = self._registry.serving(request.service)
        if serving is None:
            raise NotFound(f"Nothing here is called '{request.service}'.")
        return _Status(status=_status(serving))

    async def Watch(self, request: Any, context: Any) -> AsyncGenerator[Any, None]:  # noqa: N802
        """Streams the status of a service: now, and whenever it changes. Ends when the server
        drains."""
        last: int | None = None
        while True:
            # Taken before the status is read, so that no change falls between the two.
            change = self._registry.next_change()
            draining = self._registry.draining
            status = _status(self._registry.serving(request.service))
            if status != last:
                last = status
                yield _Status(status=status)
            if draining:
                return
            await change.wait()


def _status(serving: bool | None) -> Any:
    if serving is None:
        return _Status.SERVICE_UNKNOWN
    return _Status.SERVING if serving else _Status.NOT_SERVING
