"""What the catalogue holds, as plain frozen data. Names and meanings are those of `model.proto`."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class ModelKind(StrEnum):
    """What a model does."""

    CHAT = "chat"
    COMPLETION = "completion"
    EMBEDDING = "embedding"
    IMAGE = "image"
    RERANK = "rerank"
    TENSOR = "tensor"


class ModelState(StrEnum):
    """Where a model stands."""

    DEPLOYING = "deploying"
    READY = "ready"
    FAILED = "failed"
    STOPPED = "stopped"


class ObservedState(StrEnum):
    """What a serving process has of a revision."""

    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"
    DRAINING = "draining"
    UNLOADED = "unloaded"


class ServiceState(StrEnum):
    """What a serving process can do now."""

    READY = "ready"
    LOADING = "loading"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How weights are loaded. Zero and empty leave the choice to the weights or the service."""

    context_length: int = 0
    dimensions: int = 0
    quantization: str = ""
    replicas: int = 0
    engine: str = ""


@dataclass(frozen=True, slots=True)
class Revision:
    """Immutable weights of a model."""

    model_id: str
    number: int
    source: str
    create_time: datetime
    load_options: LoadOptions = LoadOptions()


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Settings that may change while a model serves. None and empty take the service's own."""

    default_temperature: float | None = None
    default_top_p: float | None = None
    default_max_tokens: int | None = None
    max_tokens_limit: int | None = None
    max_batch_size: int | None = None
    max_choices: int | None = None
    system_prompt: str = ""
    stop: tuple[str, ...] = ()
    default_steps: int | None = None
    default_cfg_scale: float | None = None


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a model can do, as its engine reports."""

    tools: bool = False
    json_object: bool = False
    json_schema: bool = False
    regex: bool = False
    gbnf: bool = False
    logprobs: bool = False
    max_top_logprobs: int = 0
    seed: bool = False
    lora: bool = False
    image_input: bool = False
    infill: bool = False
    shortening: bool = False
    context_length: int = 0
    dimensions: int = 0
    sampling_fields: tuple[str, ...] = ()
    prompt_logprobs: bool = False
    image_to_image: bool = False
    reasoning: bool = False


@dataclass(frozen=True, slots=True)
class Observation:
    """What one serving process reports of one revision."""

    reporter: str
    model_id: str
    revision: int
    state: ObservedState
    report_time: datetime
    message: str = ""
    progress: float = 0.0
    capabilities: Capabilities | None = None
    parameter_count: int = 0
    template_name: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True)
class Reporter:
    """A serving process that reports."""

    id: str
    service: str
    address: str
    report_time: datetime


@dataclass(frozen=True, slots=True)
class Entry:
    """A model as it is wanted, with what is reported of it."""

    id: str
    uid: str
    kind: ModelKind
    display_name: str
    owned_by: str
    base_model: str
    aliases: tuple[str, ...]
    revision: Revision
    config: ModelConfig
    config_version: int
    """Sequence of the catalogue at which the config last changed: never the same twice, not even
    for an ID that is used again."""
    seed: str
    """The entry of the configuration file that it comes from, as JSON. Empty: made by a call."""
    stopped: bool
    first_revision: int
    """Revisions from this one on are its own; earlier ones belonged to a model that had its ID."""
    create_time: datetime
    update_time: datetime
    observations: tuple[Observation, ...] = ()
    """Of every reporter, silent ones included: `services.model.states` tells which count."""

    @property
    def deployed_by_api(self) -> bool:
        """Whether a call made it, not the configuration file."""
        return not self.seed


@dataclass(frozen=True, slots=True)
class Model:
    """A model as users see it: what is wanted, and where that stands."""

    entry: Entry
    state: ModelState
    state_message: str
    serving: tuple[int, ...]
    """Revisions that live processes serve, newest first."""
    observations: tuple[Observation, ...]
    """Those of live processes."""
    capabilities: Capabilities | None
    parameter_count: int
    template_name: str

    @property
    def id(self) -> str:
        """ID of the model."""
        return self.entry.id


@dataclass(frozen=True, slots=True)
class Change:
    """One line of the change log: which model changed, not how."""

    sequence: int
    model_id: str
    kind: ModelKind


@dataclass(frozen=True, slots=True)
class DeployRequest:
    """A model, or a revision of one, that is asked for."""

    model_id: str
    source: str
    kind: ModelKind
    display_name: str = ""
    base_model: str = ""
    owned_by: str = ""
    load_options: LoadOptions = LoadOptions()
    config: ModelConfig | None = None
    aliases: tuple[str, ...] = ()
    allow_update: bool = False


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a repeatable call made the first time."""

    key: str
    """Who called, and the request ID."""
    fingerprint: str
    """Of what the call asked for."""
    uid: str
    revision: int
    create_time: datetime
