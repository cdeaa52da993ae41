"""Where models stand by the word of the processes that run now, not of those before them."""

import asyncio
import time
from collections.abc import AsyncGenerator, Collection, Sequence
from dataclasses import dataclass

import grpc
from grpc import aio
from penstock.model.v1 import model_pb2, model_service_pb2
from penstock.model.v1.model_service_pb2_grpc import ModelServiceStub

from services.cli.catalog import SERVED_BY, state_name

RECONNECT_S = 0.2
_PASSING = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
}
_STATES = {
    model_pb2.Observation.STATE_READY: "ready",
    model_pb2.Observation.STATE_FAILED: "failed",
    model_pb2.Observation.STATE_LOADING: "loading",
}


@dataclass(frozen=True)
class Standing:
    """A model, and where it stands."""

    model: model_pb2.Model
    state: str
    """`ready`, `failed`, `loading`, `deploying`, `stopped`."""
    has_service: bool = True
    """Whether a service for its kind runs here."""

    @property
    def is_settled(self) -> bool:
        """Tells whether there is nothing to wait for."""
        return not self.has_service or self.state in {"ready", "failed", "stopped"}


class Standings:
    """Judges models by what was reported since their service was started last.

    The catalogue remembers a dead process's report for a while; right after a restart that would
    call a model ready that isn't loaded yet.
    """

    def __init__(self, services: Collection[str]) -> None:
        self._since = dict.fromkeys(services, time.time())

    def restarted(self, service: str) -> None:
        """Forgets what this service reported so far."""
        self._since[service] = time.time()

    def judge(self, models: Sequence[model_pb2.Model]) -> list[Standing]:
        """Tells where models stand."""
        return [self._judge(model) for model in models]

    def _judge(self, model: model_pb2.Model) -> Standing:
        since = self._since.get(SERVED_BY.get(model.kind, ""))
        if since is None:
            return Standing(model, state_name(model), has_service=False)
        if model.state == model_pb2.Model.STATE_STOPPED or (
            model.state == model_pb2.Model.STATE_FAILED and not model.observations
        ):
            return Standing(model, state_name(model))
        fresh = {
            seen.state
            for seen in model.observations
            if seen.revision == model.revision.name
            and seen.report_time.ToMilliseconds() / 1000 >= since
        }
        return Standing(model, next((_STATES[s] for s in _STATES if s in fresh), "deploying"))


async def follow_models(channel: aio.Channel) -> AsyncGenerator[list[model_pb2.Model], None]:
    """Yields all models, and again whenever one changes; outlives the model service's restarts."""
    stub = ModelServiceStub(channel)
    while True:
        models: dict[str, model_pb2.Model] = {}
        call = stub.WatchModels(model_service_pb2.WatchModelsRequest())
        try:
            async for event in call:
                match event.WhichOneof("event"):
                    case "snapshot":
                        models = {model.name: model for model in event.snapshot.models}
                    case "changed":
                        models[event.changed.name] = event.changed
                    case "deleted":
                        models.pop(event.deleted, None)
                    case _:
                        continue
                yield [models[name] for name in sorted(models)]
        except aio.AioRpcError as error:
            if error.code() not in _PASSING:
                raise
        finally:
            call.cancel()
        await asyncio.sleep(RECONNECT_S)
