"""The catalogue over gRPC: what `catalogue` promises, done by ModelService."""

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any, Generic, TypeVar

import grpc
from penstock.model.v1 import model_pb2 as pb
from penstock.model.v1 import model_service_pb2 as service_pb
from penstock.model.v1.model_service_pb2_grpc import ModelServiceStub

from services.rpc.errors import from_rpc_error
from services.serving.catalogue import (
    CatalogueEvent,
    Changed,
    Deleted,
    Heartbeat,
    LoadKey,
    Observation,
    ObservedState,
    Snapshot,
    WantedModel,
)
from services.serving.models import ModelKind, ModelSettings, Served
from services.serving.registry import RESOURCE_PREFIX

S = TypeVar("S", bound=Served[Any])
Describe = Callable[[S, pb.Observation], None]
"""Writes into an observation what a served model can do."""

_REPORT_TIMEOUT_S = 10.0
_STATES = {
    ObservedState.LOADING: pb.Observation.STATE_LOADING,
    ObservedState.READY: pb.Observation.STATE_READY,
    ObservedState.FAILED: pb.Observation.STATE_FAILED,
    ObservedState.DRAINING: pb.Observation.STATE_DRAINING,
}
_OPTIONAL = (
    "default_temperature",
    "default_top_p",
    "default_max_tokens",
    "max_tokens_limit",
    "max_batch_size",
    "max_choices",
    "default_steps",
    "default_cfg_scale",
)


class ModelServiceCatalogue(Generic[S]):
    """The catalogue that ModelService keeps. `channel` carries the service token."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        *,
        service: str,
        reporter: str,
        address: str,
        describe: Describe[S],
    ) -> None:
        """Takes what this process is called: its service, its own name among those that serve the
        same, and where it is reached."""
        self._stub = ModelServiceStub(channel)
        self._service = service
        self._describe = describe
        self._reporter = reporter
        self._address = address

    async def watch(self, after: int) -> AsyncGenerator[CatalogueEvent, None]:
        """Streams models of all kinds: those of other services are known here by name."""
        call = self._stub.WatchModels(service_pb.WatchModelsRequest(resume_sequence=after))
        try:
            async for event in call:
                word = to_event(event)
                if word is not None:
                    yield word
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None
        finally:
            call.cancel()

    async def report(self, observations: Sequence[Observation[S]]) -> float:
        """Tells all that this process has."""
        request = service_pb.ReportModelStateRequest(
            reporter=self._reporter,
            service=self._service,
            address=self._address,
            observations=[self._observation(one) for one in observations],
        )
        try:
            response = await self._stub.ReportModelState(request, timeout=_REPORT_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None
        return max(0.1, response.next_report.ToNanoseconds() / 1e9)

    def _observation(self, one: Observation[S]) -> pb.Observation:
        observation = pb.Observation(
            reporter=self._reporter,
            revision=one.revision,
            state=_STATES[one.state],
            message=one.message,
            progress=one.progress,
            address=self._address,
        )
        if one.served is not None:
            self._describe(one.served, observation)
        return observation


def to_wanted(model: pb.Model) -> WantedModel:
    """Reads a model that is to be served."""
    revision = model.revision
    options = revision.load_options
    return WantedModel(
        id=model.name.removeprefix(RESOURCE_PREFIX),
        kind=ModelKind(model.kind),
        load=LoadKey(
            uid=model.uid,
            revision=revision.name,
            source=revision.source,
            context_length=options.context_length,
            dtype=options.quantization or "auto",
            engine=options.engine,
            base=model.base_model,
            dimensions=options.dimensions,
        ),
        aliases=tuple(model.aliases),
        settings=to_settings(model.config),
    )


def to_settings(config: pb.ModelConfig) -> ModelSettings:
    """Reads the settings that may change while a model serves."""
    given = {field.name: value for field, value in config.ListFields() if field.name in _OPTIONAL}
    return ModelSettings(**given, system_prompt=config.system_prompt, stop=tuple(config.stop))


def to_event(event: service_pb.WatchModelsEvent) -> CatalogueEvent | None:
    """Reads one word of the catalogue; None for one of a kind that is not known here."""
    match event.WhichOneof("event"):
        case "snapshot":
            models = [to_wanted(model) for model in event.snapshot.models if _is_wanted(model)]
            return Snapshot(event.sequence, models)
        case "changed":
            if _is_wanted(event.changed):
                return Changed(event.sequence, to_wanted(event.changed))
            return Deleted(event.sequence, event.changed.name.removeprefix(RESOURCE_PREFIX))
        case "deleted":
            return Deleted(event.sequence, event.deleted.removeprefix(RESOURCE_PREFIX))
        case "heartbeat":
            return Heartbeat(event.sequence)
        case None:
            return None


def _is_wanted(model: pb.Model) -> bool:
    return model.state != pb.Model.STATE_STOPPED and model.kind != pb.MODEL_KIND_UNSPECIFIED
