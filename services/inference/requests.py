"""What callers ask of InferenceService, free of any transport.

Fields, ranges and defaults are those of `protos/penstock/inference/v1`; an optional field that is
None was not given.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from services.inference.engine import Priority
from services.metering import Work


class Speaker(Enum):
    """Who speaks; values are the names that chat templates know."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class Image:
    """An image given by its bytes."""

    data: bytes
    mime_type: str = ""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that an assistant makes."""

    id: str
    name: str
    arguments_json: str


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation; its parts are texts and images."""

    speaker: Speaker
    parts: tuple[str | Image, ...] = ()
    name: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    reasoning: str = ""
    """What an assistant thought before."""

    @property
    def text(self) -> str:
        """The texts among its parts, one a line."""
        return "\n".join(part for part in self.parts if isinstance(part, str))


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call."""

    name: str
    description: str = ""
    parameters_json: str = ""
    strict: bool = False


class ToolMode(Enum):
    """Which tools may or must be called."""

    UNSPECIFIED = 0
    NONE = 1
    AUTO = 2
    REQUIRED = 3
    NAMED = 4


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """A mode, with the tool's name for NAMED."""

    mode: ToolMode = ToolMode.UNSPECIFIED
    name: str = ""


class GuideKind(Enum):
    """Form that output is held to; values are the fields of `Guide` and of the capabilities."""

    JSON_OBJECT = "json_object"
    JSON_SCHEMA = "json_schema"
    GBNF = "gbnf"
    REGEX = "regex"


@dataclass(frozen=True, slots=True)
class Guide:
    """A form and its description (empty for JSON_OBJECT)."""

    kind: GuideKind
    source: str = ""
    strict: bool = False
    """A JSON_SCHEMA is read by OpenAI's strict rules."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen and when generation ends."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    typical_p: float | None = None
    repetition_penalty: float | None = None
    repeat_last_n: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    mirostat: int | None = None
    mirostat_tau: float | None = None
    mirostat_eta: float | None = None
    seed: int | None = None
    max_tokens: int | None = None
    min_tokens: int | None = None
    n: int | None = None
    best_of: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    logit_bias: Mapping[int, float] = field(default_factory=dict[int, float])
    logprobs: int | None = None


@dataclass(frozen=True, slots=True)
class CacheHint:
    """Hints about reuse of attention state; never an error, never part of the result.

    No engine has lasting slots or overflowing contexts, so only `reuse` has something to change.
    """

    slot: int | None = None
    keep_token_count: int | None = None
    reuse: bool | None = None


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """Asks for an answer to a conversation."""

    model: str
    messages: tuple[Message, ...]
    sampling: Sampling = Sampling()
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    parallel_tool_calls: bool | None = None
    guide: Guide | None = None
    user: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    priority: Priority = Priority.NORMAL
    request_id: str = ""
    reasoning: bool | None = None


@dataclass(frozen=True, slots=True)
class CompleteRequest:
    """Asks for continuations of prompts, each a text or token IDs."""

    model: str
    prompts: tuple[str | tuple[int, ...], ...]
    sampling: Sampling = Sampling()
    echo: bool = False
    suffix: str = ""
    guide: Guide | None = None
    cache_hint: CacheHint = CacheHint()
    user: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    priority: Priority = Priority.NORMAL
    request_id: str = ""


GenerationRequest = ChatRequest | CompleteRequest


@dataclass(frozen=True, slots=True)
class Caller:
    """On whose behalf, and until when, a request runs."""

    principal: str = ""
    may_hurry: bool = False
    """Whether the caller may ask for priority HIGH."""
    deadline: float | None = None
    """On the event loop's clock."""
    request_id: str = ""
    work: Work | None = None
    """What the account is told of the request, but for the model and the tokens. None: none is
    kept."""
