"""Requests about models, translated into requests of the catalogue. No I/O."""

import difflib
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec
from google.protobuf import field_mask_pb2
from penstock.model.v1 import model_pb2
from penstock.model.v1 import model_service_pb2 as service_pb2

from gateway.dialects.botserver import model_schema as schema
from gateway.dialects.botserver.spelling import SHOWN, respelled
from gateway.errors import Problem, ProblemError, invalid
from gateway.validation import decode

MODELS = "models/"
KINDS: Mapping[schema.Kind, model_pb2.ModelKind.ValueType] = {
    "chat": model_pb2.MODEL_KIND_CHAT,
    "completion": model_pb2.MODEL_KIND_COMPLETION,
    "embedding": model_pb2.MODEL_KIND_EMBEDDING,
    "image": model_pb2.MODEL_KIND_IMAGE,
    "rerank": model_pb2.MODEL_KIND_RERANK,
    "tensor": model_pb2.MODEL_KIND_TENSOR,
}

_FIELDS: Mapping[str, str] = {
    "name": "",  # it stands in the path
    "model_id": "name",
    "kind": "type",
    "load_options.context_length": "context_length",
    "load_options.dimensions": "dimensions",
    "load_options.quantization": "quantization",
    "load_options.replicas": "replicas",
    "config.name": "",
    "config.etag": "version",
    "config.default_temperature": "default_temperature",
    "config.default_top_p": "default_top_p",
    "config.default_max_tokens": "default_max_tokens",
    "config.max_batch_size": "max_batch_size",
    "config.system_prompt": "system_prompt",
    "config.stop": "stop",
}
_ETAG = re.compile(r'(?:W/)?"([^"]*)"')
_ANY = msgspec.json.Decoder(dict[str, Any])
_WRAPPED = msgspec.json.Decoder(schema.ConfigUpdate)
_BARE = msgspec.json.Decoder(schema.ConfigChange)
_OUTER = schema.ConfigUpdate.__struct_fields__
_SETTINGS = schema.ConfigChange.__struct_fields__


def to_deploy_request(
    body: schema.ModelDeploy, request_id: str = ""
) -> service_pb2.DeployModelRequest:
    """Translates what shall be served."""
    request = service_pb2.DeployModelRequest(
        model_id=body.name,
        source=body.source,
        kind=KINDS[body.type],
        base_model=body.base_model or "",
        load_options=model_pb2.LoadOptions(
            context_length=body.context_length or 0,
            dimensions=body.dimensions or 0,
            quantization=body.quantization or "",
            replicas=body.replicas or 0,
        ),
        wait=body.wait is True,
        request_id=request_id,
    )
    if body.default_temperature is not None:
        request.config.default_temperature = body.default_temperature
    return request


def parse_config(data: bytes) -> schema.ConfigUpdate:
    """Reads settings to change, whether they stand in `config` or bare.

    Raises:
        ProblemError: the body is broken, or there is a setting that isn't known.
    """
    values = decode(_ANY, data)
    if "config" not in values:
        _refuse_unknown(values, _SETTINGS, "")
        return schema.ConfigUpdate(config=decode(_BARE, data))
    _refuse_unknown(values, _OUTER, "")
    update = decode(_WRAPPED, data)
    _refuse_unknown(values["config"], _SETTINGS, "config.")
    return update


def to_update_request(
    change: schema.ConfigChange, model: model_pb2.Model, etag: str
) -> service_pb2.UpdateModelConfigRequest:
    """Translates settings to change.

    Raises:
        ProblemError: the context of a model can't be changed while it is deployed.
    """
    config = model_pb2.ModelConfig(name=f"{model.name}/config", etag=etag)
    wanted = change.context_length
    if wanted is not None and wanted != context_length(model):
        message = (
            "Unsupported value for 'context_length': it belongs to what is deployed. "
            "Deploy the model anew to change it."
        )
        raise ProblemError(Problem("UNSUPPORTED_PARAMETER", message, param="context_length"))
    paths: list[str] = []
    for name in _SETTINGS:
        value: Any = getattr(change, name)
        if value is None or name == "context_length":
            continue
        if isinstance(value, list):
            config.stop.extend(change.stop or ())
        else:
            setattr(config, name, value)
        paths.append(name)
    mask = field_mask_pb2.FieldMask(paths=paths)
    return service_pb2.UpdateModelConfigRequest(config=config, update_mask=mask)


def etag_of(if_match: str | None, version: int | None) -> str:
    """The state that settings must have to be changed; empty is any. The header goes first."""
    if if_match is None or not if_match.strip():
        return "" if version is None else str(version)
    given = if_match.strip()
    if given == "*":
        return ""
    quoted = _ETAG.fullmatch(given)
    return quoted[1] if quoted else given


def context_length(model: model_pb2.Model) -> int:
    """Most tokens of prompt and answer; 0 where that isn't known."""
    return model.capabilities.context_length or model.revision.load_options.context_length


def spelled(problem: Problem) -> Problem:
    """Spells the field of a problem as the dialect does."""
    return respelled(problem, _FIELDS)


def unknown_model(problem: Problem, model_id: str) -> Problem:
    """Says that there is no such model, where that is the problem.

    An ID that can't be one is unknown, too.
    """
    is_malformed = problem.reason == "INVALID_ARGUMENT" and problem.param in ("name", "config.name")
    if problem.reason not in ("MODEL_NOT_FOUND", "NOT_FOUND") and not is_malformed:
        return spelled(problem)
    message = f"There is no model '{model_id[:SHOWN]}'."
    return replace(problem, reason="MODEL_NOT_FOUND", message=message, param=None, code=None)


def _refuse_unknown(values: Mapping[str, Any], known: tuple[str, ...], prefix: str) -> None:
    for name in values:
        if name in known:
            continue
        shown = name[:SHOWN].encode("unicode_escape").decode("ascii")
        near = difflib.get_close_matches(name[:SHOWN], known, 1)
        hint = f"Did you mean '{near[0]}'?" if near else f"Known are: {', '.join(known)}."
        path = prefix + shown
        raise invalid(f"Unknown setting '{path}'. {hint}", path)
