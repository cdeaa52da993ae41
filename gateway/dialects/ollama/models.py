"""Models of the catalogue, as Ollama lists them. No I/O."""

import hashlib
from collections.abc import Iterator

from google.protobuf.timestamp_pb2 import Timestamp
from penstock.inference.v1 import inference_service_pb2 as inference_pb2
from penstock.model.v1 import model_pb2

from gateway.default_models import model_id
from gateway.dialects.ollama import answer_schema as answers
from gateway.dialects.ollama.answers import moment

KINDS = (
    model_pb2.MODEL_KIND_CHAT,
    model_pb2.MODEL_KIND_COMPLETION,
    model_pb2.MODEL_KIND_EMBEDDING,
)
"""What these clients can use."""

TEXT_KINDS = KINDS[:2]

_NEVER = moment(Timestamp(seconds=253402300799))
"""Models stay until somebody removes them."""

_SIZES = ((1_000_000_000, "B", 1), (1_000_000, "M", 2), (1_000, "K", 2))


def listed(model: model_pb2.Model) -> answers.OllamaModel:
    """Renders a model of the list."""
    name = model_id(model)
    return answers.OllamaModel(
        name=name,
        model=name,
        modified_at=moment(model.update_time),
        size=0,
        digest=_digest(model),
        details=_details(model),
    )


def running(model: model_pb2.Model) -> answers.OllamaRunningModel:
    """Renders a model that is loaded."""
    name = model_id(model)
    return answers.OllamaRunningModel(
        name=name,
        model=name,
        size=0,
        digest=_digest(model),
        details=_details(model),
        expires_at=_NEVER,
        size_vram=0,
        context_length=_context_length(model),
    )


def shown(model: model_pb2.Model, runtime: inference_pb2.RuntimeInfo | None) -> answers.OllamaShown:
    """Renders all that is told of a model; `runtime` is how it is served, where text is."""
    details = _details(model)
    family = details.family or "unknown"
    about: dict[str, str | int] = {"general.architecture": family}
    if model.parameter_count:
        about["general.parameter_count"] = model.parameter_count
    if _context_length(model):
        about[f"{family}.context_length"] = _context_length(model)
    if model.capabilities.dimensions:
        about[f"{family}.embedding_length"] = model.capabilities.dimensions
    return answers.OllamaShown(
        modelfile=f"# Penstock serves this model.\nFROM {model_id(model)}\n",
        parameters="\n".join(_parameters(model.config)),
        template=runtime.chat_template if runtime is not None else "",
        details=details,
        model_info=about,
        capabilities=list(_capabilities(model)),
        modified_at=moment(model.update_time),
    )


def _details(model: model_pb2.Model) -> answers.OllamaModelDetails:
    family = model.template_name
    return answers.OllamaModelDetails(
        parent_model=model.base_model,
        format="",
        family=family,
        families=[family] if family else [],
        parameter_size=_size(model.parameter_count),
        quantization_level=model.revision.load_options.quantization,
    )


def _capabilities(model: model_pb2.Model) -> Iterator[str]:
    able = model.capabilities
    if model.kind == model_pb2.MODEL_KIND_EMBEDDING:
        yield "embedding"
        return
    yield "completion"
    if able.tools:
        yield "tools"
    if able.infill:
        yield "insert"
    if able.image_input:
        yield "vision"
    if able.reasoning:
        yield "thinking"


def _parameters(config: model_pb2.ModelConfig) -> Iterator[str]:
    for field, name in (
        ("default_temperature", "temperature"),
        ("default_top_p", "top_p"),
        ("default_max_tokens", "num_predict"),
    ):
        if config.HasField(field):  # pyright: ignore[reportArgumentType]
            yield f"{name:<30} {getattr(config, field):g}"
    for text in config.stop:
        yield f'{"stop":<30} "{text}"'


def _digest(model: model_pb2.Model) -> str:
    """Changes whenever other weights are served."""
    return hashlib.sha256(f"{model.uid} {model.revision.name}".encode()).hexdigest()


def _context_length(model: model_pb2.Model) -> int:
    return model.capabilities.context_length or model.revision.load_options.context_length


def _size(parameter_count: int) -> str:
    for unit, word, digits in _SIZES:
        if parameter_count >= unit:
            return f"{parameter_count / unit:.{digits}f}{word}"
    return str(parameter_count) if parameter_count else ""
