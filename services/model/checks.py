"""What a deployment and its settings must look like, whoever asks."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import msgspec

from services.errors import InvalidArgument
from services.model.names import check_model_id, check_text
from services.model.records import DeployRequest, LoadOptions, ModelConfig

MAX_ALIASES = 64
MAX_REPLICAS = 1024


def check_deploy(request: DeployRequest) -> None:
    """Raises `InvalidArgument` where a deployment can't be asked for like this."""
    check_model_id(request.model_id, "model_id")
    check_aliases(request.aliases, request.model_id)
    check_load_options(request.load_options)
    for field in ("display_name", "base_model", "owned_by"):
        if len(check_text(getattr(request, field), field)) > 256:
            raise InvalidArgument(f"{field} has at most 256 characters.", field=field)
    check_text(request.source, "source")
    if request.config is not None:
        check_config(request.config, "config")


def check_aliases(aliases: Sequence[str], model_id: str) -> tuple[str, ...]:
    """Returns the aliases, or raises `InvalidArgument`."""
    if len(aliases) > MAX_ALIASES:
        raise InvalidArgument(f"A model has at most {MAX_ALIASES} aliases.", field="aliases")
    for index, alias in enumerate(aliases):
        field = f"aliases[{index}]"
        check_model_id(alias, field)
        if alias == model_id:
            raise InvalidArgument(f"{alias!r} is the model's own ID.", field=field)
        if alias in aliases[:index]:
            raise InvalidArgument(f"{alias!r} is named twice.", field=field)
    return tuple(aliases)


def check_load_options(options: LoadOptions) -> None:
    """Raises `InvalidArgument` where weights can't be loaded like this."""
    if options.replicas > MAX_REPLICAS:
        raise InvalidArgument(
            f"At most {MAX_REPLICAS} processes can load a model.", field="load_options.replicas"
        )
    if len(check_text(options.engine, "load_options.engine")) > 64:
        raise InvalidArgument(
            "No engine has a name of more than 64 characters.", field="load_options.engine"
        )


def check_config(config: ModelConfig, field: str) -> None:
    """Raises `InvalidArgument` where settings contradict each other."""
    check_text(config.system_prompt, f"{field}.system_prompt")
    for index, stop in enumerate(config.stop):
        check_text(stop, f"{field}.stop[{index}]")
    default, limit = config.default_max_tokens, config.max_tokens_limit
    if default is not None and limit is not None and default > limit:
        raise InvalidArgument(
            f"default_max_tokens ({default}) is above max_tokens_limit ({limit}).",
            field=f"{field}.default_max_tokens",
        )


def fingerprint(request: DeployRequest) -> str:
    """Returns the same text for requests that ask for the same, and only for those."""
    content = msgspec.json.encode(replace(request, aliases=tuple(sorted(request.aliases))))
    return hashlib.sha256(content).hexdigest()


def receipt_key(caller: str, request_id: str) -> str:
    """Returns what a caller's repeatable call is kept under."""
    return hashlib.sha256(f"{caller}\n{request_id}".encode()).hexdigest()
