"""The engine port: what InferenceService needs of whatever runs the model.

An engine speaks tokens. Templates, text, stop strings and tool calls belong to the domain
(`generation`), so that they are the same on every engine.

Threads: every method here, and every call of a sink, happens on the event loop's thread. An
engine that owns a device thread hands over with one `call_soon_threadsafe` per step.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

from telemetry.tally import Figures

NO_OPTIONS: Mapping[str, Any] = {}


class EndReason(Enum):
    """Why the engine ended a sequence by itself."""

    EOS = "eos"  # the model's own end-of-sequence token
    STOP_TOKEN = "stop_token"  # one of the request's `stop_token_ids`
    LENGTH = "length"  # `max_tokens` or the context was used up


class Priority(Enum):
    """Order of admission; within one priority, principals share fairly."""

    LOW = 1
    NORMAL = 2
    HIGH = 3


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How one sequence's tokens are chosen. Ranges and meanings: `sampling.proto`."""

    max_tokens: int
    seed: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    typical_p: float = 1.0
    repetition_penalty: float = 1.0
    repeat_last_n: int = -1
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    min_tokens: int = 0
    ignore_eos: bool = False
    stop_token_ids: frozenset[int] = frozenset()
    logit_bias: Mapping[int, float] = field(default_factory=dict[int, float])
    logprobs: int | None = None
    """Alternatives to report per token; None reports no log-probabilities at all."""

    @property
    def greedy(self) -> bool:
        """True when the most probable token is always taken."""
        return self.temperature == 0 or self.top_p == 0 or self.top_k == 1


class GrammarKind(Enum):
    """Ways to describe a form."""

    JSON_OBJECT = "json_object"
    JSON_SCHEMA = "json_schema"
    REGEX = "regex"
    GBNF = "gbnf"
    TOOLS = "tools"


@dataclass(frozen=True, slots=True)
class Tag:
    """One tool's call: `begin`, its arguments as a JSON object, `end`."""

    begin: str
    end: str
    schema: str = ""
    """JSON Schema of the arguments; empty takes any JSON object."""
    strict: bool = False
    """The schema is read by the strict rules (see `Grammar.strict`)."""
    field: str = ""
    """Where the schema stands in the request; errors name it. Not part of the form."""


@dataclass(frozen=True, slots=True)
class Grammar:
    """A form that output is held to; `Engine.compile` makes it ready."""

    kind: GrammarKind
    source: str = ""
    """JSON Schema, regular expression or GBNF; empty for the other kinds."""
    strict: bool = False
    """The schema is read by OpenAI's strict rules: objects are closed and all properties required,
    and what says otherwise is refused."""
    field: str = "guide"
    """Where the form stands in the request; errors name it. Not part of the form."""
    tags: tuple[Tag, ...] = ()
    """TOOLS: the calls to choose from."""
    separator: str = ""
    """TOOLS: text between two calls."""
    required: bool = False
    """TOOLS: at least one call, and nothing in front of it."""
    several: bool = False
    """TOOLS: more than one call may come."""
    trigger: str = ""
    """TOOLS, not required: the text that no free text may hold, because it begins a call. Empty
    where nothing marks calls: then free text may not begin as they do."""
    text: Grammar | None = None
    """TOOLS, not required: the form of an answer without calls; None leaves text free."""


@dataclass(frozen=True, slots=True)
class SequenceRequest:
    """One sequence to generate: one choice of one request."""

    prompt: Sequence[int]
    params: SamplingParams
    grammar: object | None = None
    """What `compile` of the same engine made. Then the end-of-sequence and stop tokens come only
    where the form is complete, and always where nothing else can follow, whatever `min_tokens`
    says; `ignore_eos` can't be combined with it. A form that leaves no token fails the group."""
    prompt_logprobs: bool = False
    """Score the prompt: needs `params.logprobs`; reported once as `PromptScored`."""


@dataclass(frozen=True, slots=True)
class GroupRequest:
    """Sequences that are admitted together or not at all."""

    sequences: Sequence[SequenceRequest]
    principal: str = ""
    priority: Priority = Priority.NORMAL
    deadline: float | None = None
    """On the event loop's clock (`loop.time()`). Applies in the queue and while running."""
    request_id: str = ""
    reuse: bool = True
    """Whether attention state may be shared with other sequences, by taking it and by leaving it.
    Never changes the result."""
    adapter: str = ""
    """Adapter that all sequences run with, as the engine names it; empty for the base. Set by what
    `Engine.attach` returns, not by callers."""


@dataclass(frozen=True, slots=True)
class TokenScore:
    """Natural log-probability of a token before sampling filters, and the best alternatives."""

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Admitted:
    """The group left the queue. First event of every group that isn't failed in the queue."""


@dataclass(frozen=True, slots=True)
class Reused:
    """Sequence `index` begins with attention state that was there. Comes before its first token;
    without it, nothing was reused."""

    index: int
    cached_tokens: int
    """Prompt tokens that need not be computed."""


@dataclass(frozen=True, slots=True)
class PromptScored:
    """Scores of the prompt's tokens after its first. Comes before the sequence's first token."""

    index: int
    scores: Sequence[TokenScore]
    """`len(prompt) - 1` entries: entry i scores prompt token i + 1."""


@dataclass(frozen=True, slots=True)
class Token:
    """One token of sequence `index`. An ending EOS or stop token is not reported as a Token."""

    index: int
    token_id: int
    score: TokenScore | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """Sequence `index` ended; nothing more comes for it."""

    index: int
    reason: EndReason
    cached_tokens: int = 0
    """Prompt tokens whose attention state was reused, as in `Reused`."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The whole group failed; nothing more comes. `error` is a `services.errors.DomainError`
    or an unforeseen exception, which callers see as an internal error."""

    error: Exception


EngineEvent = Admitted | Reused | PromptScored | Token | Ended | Failed
Sink = Callable[[Sequence[EngineEvent]], None]
"""Takes the events of one engine step for one group. Must not raise and must not block."""


class GroupHandle(Protocol):
    """Controls a submitted group. All methods are idempotent and never raise."""

    def finish(self, index: int) -> None:
        """Ends one sequence now (a stop string was found). No `Ended` follows for it; tokens that
        were already on their way may still come and are to be ignored by the caller."""
        ...

    def cancel(self) -> None:
        """Ends the group: frees queue place and memory within one step. No event follows."""
        ...

    def pause(self) -> None:
        """Stops stepping the group's sequences (a reader is slow). They keep their memory unless
        others need it; then it is computed again after `resume`."""
        ...

    def resume(self) -> None:
        """Steps them again."""
        ...


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """Counts at this moment."""

    running: int
    """Sequences that hold memory."""
    waiting: int
    """Sequences in the queue."""
    completed_24h: int
    """Groups that ended without failure during the last 24 hours."""
    kv_usage: float | None = None
    """Share of the attention memory that running sequences hold, in [0, 1]. None: it can't tell."""
    figures: Figures | None = None
    """What it has counted since it began. None where another engine counts it too, or nothing
    does."""


@dataclass(frozen=True, slots=True)
class EngineCapabilities:
    """What the engine honours. What is absent is refused by name before it is submitted."""

    sampling_fields: frozenset[str]
    """Names of `SamplingParams` fields beside max_tokens, seed and the stops."""
    max_top_logprobs: int = 0
    prompt_logprobs: bool = False
    json_object: bool = False
    json_schema: bool = False
    regex: bool = False
    gbnf: bool = False
    lora: bool = False
    image_input: bool = False
    infill: bool = False


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What the engine is; fixed while it lives."""

    name: str
    """`torch`, `echo`, …"""
    device: str
    dtype: str
    context_length: int
    slots: int
    vocabulary_size: int
    parameter_count: int
    capabilities: EngineCapabilities
    build: str
    """Identifies library versions and weights; part of the fingerprint."""


class Engine(Protocol):
    """Runs one model."""

    @property
    def info(self) -> EngineInfo:
        """What it is."""
        ...

    def submit(self, group: GroupRequest, sink: Sink) -> GroupHandle:
        """Queues a group; returns at once and never calls the sink before it has returned.

        Raises:
            QueueFull: too many sequences wait; with `retry_after_s` from the measured rate.
            ContextLengthExceeded: a prompt leaves no room for one token.
            InvalidArgument: a token ID is outside the vocabulary, a prompt is empty, or there are
                no sequences or more than the engine could ever queue.
            Unavailable: the engine is closing or has stopped.
        """
        ...

    async def compile(self, grammar: Grammar) -> object:
        """Makes a form ready for `SequenceRequest.grammar`, off the event loop. The same form is
        made once and kept for a while.

        Raises:
            InvalidArgument: the form is broken, too large, or uses what the engine can't hold
                output to; `field` is the path of the construct.
            UnsupportedParameter: the engine has no guided decoding.
            Unavailable: the engine is closing or has stopped.
        """
        ...

    def status(self) -> EngineStatus:
        """Counts at this moment."""
        ...

    async def probe(self) -> None:
        """Runs one real forward pass; raises when the model can't answer."""
        ...

    async def attach(self, name: str, folder: Path) -> Engine:
        """Loads a LoRA adapter beside the model.

        Its sequences share forward passes with the model's own and with other adapters'; `status`
        counts each one's apart. Closing what is returned fails what runs with the adapter and frees
        it; closing this engine ends both.

        Args:
            name: whose adapter it is, in messages. One of the same name may be there already, until
                this one has taken over.
            folder: what PEFT saved.

        Raises:
            FailedPrecondition: the engine has no LoRA, or no room for one more adapter, or the
                folder is broken, or holds what does not fit the model; the message says which.
            Unavailable: the engine is closing or has stopped.
        """
        ...

    async def close(self) -> None:
        """Fails what runs with `Unavailable`, frees the device and ends its thread."""
        ...


class TextDecoder(Protocol):
    """Turns a growing list of tokens into text, never splitting a character."""

    def feed(self, token_id: int) -> str:
        """Returns the text that became certain; empty while a character is incomplete."""
        ...

    def flush(self) -> str:
        """Returns what is left, with U+FFFD for bytes that never became a character."""
        ...


class TextCodec(Protocol):
    """The text side of a model: tokenizer and chat template."""

    @property
    def template_name(self) -> str:
        """Family of the chat template: `chatml`, `llama3 chat`, …; empty without one."""
        ...

    @property
    def chat_template(self) -> str:
        """The template, in Jinja; empty without one."""
        ...

    @property
    def bos_token(self) -> str:
        """Text of the beginning-of-sequence token; empty without one."""
        ...

    @property
    def eos_token(self) -> str:
        """Text of the end-of-sequence token; empty without one."""
        ...

    def encode(self, text: str, *, add_special: bool = False) -> list[int]:
        """Tokens of a text. Special tokens' texts inside it are recognised (templates need it)."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Text of tokens, special ones included."""
        ...

    def piece(self, token_id: int) -> bytes:
        """Exact bytes of a token. Raises InvalidArgument for an ID outside the vocabulary."""
        ...

    def decoder(
        self, prompt: Sequence[int] = (), *, keep: frozenset[str] = frozenset()
    ) -> TextDecoder:
        """A fresh decoder for what follows `prompt`; special tokens give no text, but for those
        whose text is in `keep`."""
        ...

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = True,
    ) -> str:
        """The prompt of a conversation. Messages and tools in the Hugging Face (OpenAI-like) form:
        `{"role", "content", "tool_calls": [{"id","type","function":{"name","arguments": dict}}]}`.

        Raises:
            InvalidArgument: the template refuses the conversation, or there is no template.
        """
        ...

    def prompt(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]],
        *,
        opening: str = "",
        options: Mapping[str, Any] = NO_OPTIONS,
    ) -> list[int]:
        """Tokens of what `render` gives, opened for an answer that begins with `opening`.
        `options` are variables of the template; engines without one ignore them.

        Only the template's own text and `opening` become special tokens: where a string of the
        conversation spells one, it is tokenised as the text it is.

        Raises:
            InvalidArgument: as `render`.
        """
        ...


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What is to be loaded."""

    model: str
    """The model's ID."""
    revision: str
    source: Path
    context_length: int = 0
    """0 takes what the weights say."""
    dtype: str = "auto"
    max_batch_size: int = 0
    """0 takes the engine's setting."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that runs: its engine and its text side."""

    engine: Engine
    text: TextCodec

    async def probe(self) -> None:
        """Runs one real forward pass; raises when the model can't answer."""
        await self.engine.probe()

    async def close(self) -> None:
        """Closes the engine."""
        await self.engine.close()


@dataclass(frozen=True, slots=True)
class RemoteModel(LoadedModel):
    """A model that runs in another server, where it may be lost."""

    gone: Callable[[], Awaitable[Exception]]

    async def lost(self) -> Exception:
        """Waits until it is gone there, or closed; returns why. Then it has to be loaded anew."""
        return await self.gone()


class EngineLoader(Protocol):
    """Loads models with one kind of engine."""

    async def load(self, spec: ModelSpec, progress: Callable[[float], None]) -> LoadedModel:
        """Loads off the event loop and reports its share done, in [0, 1].

        Raises:
            FailedPrecondition: the folder is missing, broken, not safetensors, or wants remote
                code; the message says which and what to do.
        """
        ...
