"""Answers of the catalogue, translated. No I/O."""

from collections.abc import Mapping

from penstock.model.v1 import model_pb2

from gateway.dialects.botserver import model_schema as schema
from gateway.dialects.botserver.model_translate import KINDS, MODELS, context_length
from gateway.dialects.botserver.moments import moment

_KIND_WORDS: Mapping[int, schema.Kind] = {kind: word for word, kind in KINDS.items()}
_STATUSES: Mapping[int, schema.ModelWord] = {
    model_pb2.Model.STATE_DEPLOYING: "deploying",
    model_pb2.Model.STATE_READY: "ready",
    model_pb2.Model.STATE_FAILED: "failed",
    model_pb2.Model.STATE_STOPPED: "stopped",
}


def model_id_of(model: model_pb2.Model) -> str:
    """The ID that requests name a model by."""
    return model.name.removeprefix(MODELS)


def model_item(model: model_pb2.Model) -> schema.ModelItem:
    """Renders a model."""
    dimensions = model.capabilities.dimensions or model.revision.load_options.dimensions
    return schema.ModelItem(
        id=model_id_of(model),
        name=model.display_name or model_id_of(model),
        type=_KIND_WORDS.get(model.kind),
        status=_STATUSES.get(model.state),
        version=model.revision.name.rpartition("/")[2],
        context_length=context_length(model) or None,
        dimensions=dimensions or None,
        loaded=bool(model.serving_revisions),
        created_at=moment(model.create_time),
        base_model=model.base_model or None,
    )


def model_config(model: model_pb2.Model, config: model_pb2.ModelConfig) -> schema.ModelConfig:
    """Renders the settings of a model."""
    return schema.ModelConfig(
        model_id=model_id_of(model),
        version=int(config.etag) if config.etag.isdecimal() else 0,
        config=schema.ConfigValues(
            context_length=context_length(model) or None,
            default_temperature=_shortest(config.default_temperature)
            if config.HasField("default_temperature")
            else None,
            default_top_p=_shortest(config.default_top_p)
            if config.HasField("default_top_p")
            else None,
            default_max_tokens=config.default_max_tokens
            if config.HasField("default_max_tokens")
            else None,
            max_batch_size=config.max_batch_size if config.HasField("max_batch_size") else None,
            system_prompt=config.system_prompt,
            stop=list(config.stop),
        ),
    )


def _shortest(value: float) -> float:
    """Floats travel in 32 bits: 0.7 shall not come back as 0.699999988."""
    return float(f"{value:.7g}")
