"""The catalogue over gRPC: what `catalogue` promises, done by ModelService."""

from collections.abc import AsyncGenerator, Sequence

import grpc
from penstock.model.v1 import model_pb2 as pb
from penstock.model.v1 import model_service_pb2 as service_pb
from penstock.model.v1.model_service_pb2_grpc import ModelServiceStub

from services.inference.catalogue import (
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
from services.inference.registry import RESOURCE_PREFIX, ModelKind, ModelSettings, ServedModel
from services.rpc.errors import from_rpc_error

SERVICE = "inference"
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
)


class ModelServiceCatalogue:
    """The catalogue that ModelService keeps. `channel` carries the service token."""

    def __init__(self, channel: grpc.aio.Channel, *, reporter: str, address: str) -> None:
        self._stub = ModelServiceStub(channel)
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

    async def report(self, observations: Sequence[Observation]) -> float:
        """Tells all that this process has."""
        request = service_pb.ReportModelStateRequest(
            reporter=self._reporter,
            service=SERVICE,
            address=self._address,
            observations=[self._observation(one) for one in observations],
        )
        try:
            response = await self._stub.ReportModelState(request, timeout=_REPORT_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None
        return max(0.1, response.next_report.ToNanoseconds() / 1e9)

    def _observation(self, one: Observation) -> pb.Observation:
        observation = pb.Observation(
            reporter=self._reporter,
            revision=one.revision,
            state=_STATES[one.state],
            message=one.message,
            progress=one.progress,
            address=self._address,
        )
        if one.served is not None:
            _describe(one.served, observation)
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
        ),
        aliases=tuple(model.aliases),
        settings=to_settings(model.config),
    )


def to_settings(config: pb.ModelConfig) -> ModelSettings:
    """Reads the settings that may change while a model serves."""
    given = {field.name: value for field, value in config.ListFields() if field.name in _OPTIONAL}
    return ModelSettings(**given, system_prompt=config.system_prompt, stop=tuple(config.stop))


def to_capabilities(served: ServedModel) -> pb.Capabilities:
    """Writes what a served model can do."""
    info = served.loaded.engine.info
    able = info.capabilities
    fields = able.sampling_fields | {"seed", "max_tokens", "n", "stop", "stop_token_ids"}
    if "logprobs" in able.sampling_fields:
        fields |= {"best_of"}
    return pb.Capabilities(
        tools=served.tools is not None,
        json_object=able.json_object,
        json_schema=able.json_schema,
        regex=able.regex,
        gbnf=able.gbnf,
        logprobs="logprobs" in able.sampling_fields,
        max_top_logprobs=able.max_top_logprobs,
        seed=True,
        lora=able.lora,
        image_input=able.image_input,
        infill=able.infill,
        context_length=info.context_length,
        sampling_fields=sorted(fields),
        prompt_logprobs=able.prompt_logprobs,
    )


def _describe(served: ServedModel, observation: pb.Observation) -> None:
    observation.capabilities.CopyFrom(to_capabilities(served))
    observation.parameter_count = served.loaded.engine.info.parameter_count
    observation.template_name = served.loaded.text.template_name


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
