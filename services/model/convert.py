"""Protos to records and back."""

from collections.abc import Iterable, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from penstock.model.v1 import model_pb2 as pb
from penstock.model.v1 import model_service_pb2 as service_pb

from services.errors import InvalidArgument
from services.model.names import (
    check_text,
    config_name,
    model_name,
    parse_revision_name,
    revision_name,
)
from services.model.records import (
    Capabilities,
    DeployRequest,
    Entry,
    LoadOptions,
    Model,
    ModelConfig,
    ModelKind,
    ModelState,
    Observation,
    ObservedState,
    Revision,
    ServiceState,
)
from services.model.reports import Service
from services.model.watches import Changed, Deleted, Heartbeat, Snapshot, WatchEvent

KINDS = {kind: pb.ModelKind.Value(f"MODEL_KIND_{kind.name}") for kind in ModelKind}
STATES = {state: pb.Model.State.Value(f"STATE_{state.name}") for state in ModelState}
OBSERVED = {state: pb.Observation.State.Value(f"STATE_{state.name}") for state in ObservedState}
SERVICE_STATES = {
    state: service_pb.GetStatusResponse.Service.State.Value(f"STATE_{state.name}")
    for state in ServiceState
}
_KIND_OF = {value: kind for kind, value in KINDS.items()}
_OBSERVED_OF = {value: state for state, value in OBSERVED.items()}
# What counts where a process has a revision twice, one loading while the other drains.
_RANK = {
    state: rank
    for rank, state in enumerate(
        (
            ObservedState.READY,
            ObservedState.LOADING,
            ObservedState.FAILED,
            ObservedState.DRAINING,
            ObservedState.UNLOADED,
        )
    )
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
CONFIG_FIELDS = tuple(field.name for field in fields(ModelConfig))


def kinds(values: Iterable[pb.ModelKind.ValueType]) -> list[ModelKind]:
    """Reads kinds."""
    return [kind(value, "kinds") for value in values]


def kind(value: pb.ModelKind.ValueType, field: str) -> ModelKind:
    """Reads a kind."""
    if value not in _KIND_OF:
        raise InvalidArgument(f"There is no model kind {value}.", field=field)
    return _KIND_OF[value]


def deploy_request(request: service_pb.DeployModelRequest, source: str) -> DeployRequest:
    """Reads what is asked for, with the source as it was resolved."""
    options = request.load_options
    return DeployRequest(
        model_id=request.model_id,
        source=source,
        kind=kind(request.kind, "kind"),
        display_name=request.display_name,
        base_model=request.base_model,
        owned_by=request.owned_by,
        load_options=LoadOptions(
            context_length=options.context_length,
            dimensions=options.dimensions,
            quantization=options.quantization,
            replicas=options.replicas,
            engine=options.engine,
        ),
        config=ModelConfig(**config_values(request.config, CONFIG_FIELDS))
        if request.HasField("config")
        else None,
        aliases=tuple(request.aliases),
        allow_update=request.allow_update,
    )


def config_values(config: pb.ModelConfig, names: Iterable[str]) -> dict[str, Any]:
    """Reads the named settings; None where they are unset."""
    values: dict[str, Any] = {}
    for name in names:
        value: Any = getattr(config, name)
        if name in _OPTIONAL:
            value = value if config.HasField(name) else None  # pyright: ignore[reportArgumentType]
            # Floats travel in 32 bits: 0.7 shall not come back as 0.699999988.
            values[name] = float(f"{value:.7g}") if isinstance(value, float) else value
        else:
            values[name] = value if isinstance(value, str) else tuple(value)
    return values


def config_changes(request: service_pb.UpdateModelConfigRequest) -> dict[str, Any]:
    """Reads the settings that the mask names, or those that are set when it is empty."""
    paths = list(request.update_mask.paths)
    if not paths:
        given = config_values(request.config, CONFIG_FIELDS)
        return {name: value for name, value in given.items() if value not in (None, "", ())}
    if paths == ["*"]:
        return config_values(request.config, CONFIG_FIELDS)
    for path in paths:
        if path not in CONFIG_FIELDS:
            raise InvalidArgument(
                f"{path!r} is no setting. There are {', '.join(CONFIG_FIELDS)}.",
                field="update_mask",
            )
    return config_values(request.config, paths)


def observations(request: service_pb.ReportModelStateRequest, now: datetime) -> list[Observation]:
    """Reads a report."""
    for field in ("reporter", "service", "address"):
        check_text(getattr(request, field), field)
    found: dict[tuple[str, int], Observation] = {}
    for index, item in enumerate(request.observations):
        field = f"observations[{index}]"
        if item.reporter != request.reporter:
            raise InvalidArgument(
                f"{item.reporter!r} is not the reporter of this report.", field=f"{field}.reporter"
            )
        if item.state not in _OBSERVED_OF:
            raise InvalidArgument("An observation needs a state.", field=f"{field}.state")
        model_id, number = parse_revision_name(item.revision, f"{field}.revision")
        other = found.get((model_id, number))
        if other is not None and _RANK[other.state] <= _RANK[_OBSERVED_OF[item.state]]:
            continue
        found[model_id, number] = Observation(
            reporter=item.reporter,
            model_id=model_id,
            revision=number,
            state=_OBSERVED_OF[item.state],
            report_time=now,
            message=item.message,
            progress=item.progress,
            capabilities=_capabilities(item.capabilities)
            if item.HasField("capabilities")
            else None,
            parameter_count=item.parameter_count,
            template_name=check_text(item.template_name, f"{field}.template_name"),
            address=check_text(item.address, f"{field}.address"),
        )
    return list(found.values())


def _capabilities(able: pb.Capabilities) -> Capabilities:
    values: dict[str, Any] = {f.name: getattr(able, f.name) for f in fields(Capabilities)}
    values["sampling_fields"] = tuple(able.sampling_fields)
    return Capabilities(**values)


def model_proto(model: Model, *, whole: bool) -> pb.Model:
    """Writes a model. Unless whole, without what only those who manage models may see."""
    entry = model.entry
    message = pb.Model(
        name=model_name(entry.id),
        uid=entry.uid,
        display_name=entry.display_name,
        kind=KINDS[entry.kind],
        state=STATES[model.state],
        state_message=model.state_message,
        create_time=_timestamp(entry.create_time),
        update_time=_timestamp(entry.update_time),
        owned_by=entry.owned_by,
        base_model=entry.base_model,
        aliases=entry.aliases,
        revision=revision_proto(entry.revision, whole=whole),
        serving_revisions=[revision_name(entry.id, number) for number in model.serving],
        capabilities=None if model.capabilities is None else _able(model.capabilities),
        deployed_by_api=entry.deployed_by_api,
        parameter_count=model.parameter_count,
        template_name=model.template_name,
    )
    if whole:
        message.config.CopyFrom(config_proto(entry))
        message.observations.extend(_observation_proto(o) for o in model.observations)
    return message


def revision_proto(revision: Revision, *, whole: bool) -> pb.Revision:
    """Writes a revision."""
    options = revision.load_options
    return pb.Revision(
        name=revision_name(revision.model_id, revision.number),
        source=revision.source if whole else "",
        create_time=_timestamp(revision.create_time),
        load_options=pb.LoadOptions(
            context_length=options.context_length,
            dimensions=options.dimensions,
            quantization=options.quantization,
            replicas=options.replicas,
            engine=options.engine,
        ),
    )


def config_proto(entry: Entry) -> pb.ModelConfig:
    """Writes the settings of a model."""
    return pb.ModelConfig(
        name=config_name(entry.id),
        etag=str(entry.config_version),
        **{name: getattr(entry.config, name) for name in CONFIG_FIELDS},
    )


def services_proto(services: Sequence[Service], version: str) -> service_pb.GetStatusResponse:
    """Writes how the platform stands."""
    return service_pb.GetStatusResponse(
        services=[
            service_pb.GetStatusResponse.Service(
                name=service.reporter.service,
                state=SERVICE_STATES[service.state],
                reporter=service.reporter.id,
                address=service.reporter.address,
            )
            for service in services
        ],
        version=version,
    )


def event_proto(
    event: WatchEvent, *, whole: bool, heartbeat_s: float
) -> service_pb.WatchModelsEvent:
    """Writes one word of a watch."""
    message = service_pb.WatchModelsEvent(sequence=event.sequence)
    match event:
        case Snapshot():
            message.snapshot.models.extend(model_proto(m, whole=whole) for m in event.models)
            message.snapshot.SetInParent()
        case Changed():
            message.changed.CopyFrom(model_proto(event.model, whole=whole))
        case Deleted():
            message.deleted = model_name(event.model_id)
        case Heartbeat():
            message.heartbeat.FromMicroseconds(round(heartbeat_s * 1e6))
    return message


def _observation_proto(observation: Observation) -> pb.Observation:
    able = observation.capabilities
    return pb.Observation(
        reporter=observation.reporter,
        revision=revision_name(observation.model_id, observation.revision),
        state=OBSERVED[observation.state],
        message=observation.message,
        progress=observation.progress,
        capabilities=None if able is None else _able(able),
        parameter_count=observation.parameter_count,
        template_name=observation.template_name,
        report_time=_timestamp(observation.report_time),
        address=observation.address,
    )


def _able(able: Capabilities) -> pb.Capabilities:
    return pb.Capabilities(**{f.name: getattr(able, f.name) for f in fields(Capabilities)})


def _timestamp(instant: datetime) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(instant.astimezone(UTC))
    return message
