"""Checks a request against the model that shall serve it, and settles how it samples.

Nothing is ignored: what the engine can't honour is refused by its field's path, as the proto
spells it.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from services.errors import (
    ContextLengthExceeded,
    DomainError,
    InvalidArgument,
    PermissionDenied,
    UnsupportedParameter,
)
from services.inference.engine import EngineCapabilities, Priority, SamplingParams
from services.inference.registry import ServedModel
from services.inference.requests import Caller, Guide, GuideKind, Sampling
from services.serving.models import ModelSettings

_NEUTRAL = SamplingParams(max_tokens=0, seed=0)
_TUNABLE = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "typical_p",
    "repetition_penalty",
    "repeat_last_n",
    "presence_penalty",
    "frequency_penalty",
    "min_tokens",
    "ignore_eos",
)
"""Fields of Sampling that are fields of SamplingParams under the same name."""


@dataclass(frozen=True, slots=True)
class SamplingPlan:
    """How every choice of a request samples; only seed and room differ between them."""

    base: SamplingParams
    stops: tuple[str, ...]
    n: int
    width: int
    """Choices to generate for each prompt: `best_of`, or n."""
    asked_tokens: int | None
    """`max_tokens` as the request gave it."""
    settings: ModelSettings
    context_length: int

    def max_tokens(self, prompt_length: int, prompt: str) -> int:
        """Tokens that may be generated after a prompt of this length.

        `prompt` is the field that holds it. Raises ContextLengthExceeded or InvalidArgument.
        """
        room = self.context_length - prompt_length
        asked = self.asked_tokens
        if room < (1 if asked is None else asked):
            raise context_exceeded(self.context_length, prompt_length, asked or 0, prompt)
        limits = (self.settings.default_max_tokens, self.settings.max_tokens_limit)
        most = min((room, *(limit for limit in limits if limit is not None)))
        allowed = most if asked is None else asked
        if self.base.min_tokens > allowed:
            raise InvalidArgument(
                f"'sampling.min_tokens': {self.base.min_tokens} is more than the {allowed} tokens "
                "that may be generated.",
                field="sampling.min_tokens",
            )
        return allowed


def context_exceeded(
    context_length: int, prompt_length: int, asked: int, field: str
) -> ContextLengthExceeded:
    """The error that tells what doesn't fit."""
    wanted = f", and {asked} for the completion" if asked else ""
    return ContextLengthExceeded(
        f"This model's maximum context length is {context_length} tokens. However, your prompt has "
        f"{prompt_length} tokens{wanted}. Please reduce the length of the prompt or completion.",
        field=field,
        metadata={
            "context_length": str(context_length),
            "prompt_tokens": str(prompt_length),
            "max_tokens": str(asked),
        },
    )


def unsupported(field: str, why: str = "") -> UnsupportedParameter:
    """The error for a field that the model can't honour."""
    return UnsupportedParameter(
        f"'{field}' is not supported by this model{': ' + why if why else ''}.", field=field
    )


def plan_sampling(
    sampling: Sampling, served: ServedModel, *, streamed: bool, prompt_logprobs: bool
) -> SamplingPlan:
    """Merges a request's sampling with the model's settings and checks it.

    Raises:
        UnsupportedParameter: the engine can't do it.
        InvalidArgument: fields contradict each other or the model's vocabulary.
    """
    info = served.loaded.engine.info
    settings = served.settings
    _check_supported(sampling, info.capabilities, prompt_logprobs=prompt_logprobs)
    n, width = _widths(sampling, info.capabilities, settings, streamed=streamed)
    _check_tokens(sampling, settings, info.vocabulary_size)
    ranked = width > n and sampling.logprobs is None
    seed = sampling.seed if sampling.seed is not None else random.getrandbits(63)
    values = {name: getattr(sampling, name) for name in _TUNABLE}
    if sampling.temperature is None:
        values["temperature"] = settings.default_temperature
    if sampling.top_p is None:
        values["top_p"] = settings.default_top_p
    base = SamplingParams(
        max_tokens=0,
        seed=seed,
        stop_token_ids=frozenset(sampling.stop_token_ids),
        logit_bias=dict(sampling.logit_bias),
        logprobs=0 if ranked else sampling.logprobs,
        **{name: value for name, value in values.items() if value is not None},
    )
    return SamplingPlan(
        base=base,
        stops=tuple(dict.fromkeys((*sampling.stop, *settings.stop))),
        n=n,
        width=width,
        asked_tokens=sampling.max_tokens,
        settings=settings,
        context_length=info.context_length,
    )


def check_guide(guide: Guide | None, capabilities: EngineCapabilities) -> None:
    """Refuses a form that the engine can't hold output to."""
    if guide is None:
        return
    able = {
        GuideKind.JSON_OBJECT: capabilities.json_object,
        GuideKind.JSON_SCHEMA: capabilities.json_schema,
        GuideKind.GBNF: capabilities.gbnf,
        GuideKind.REGEX: capabilities.regex,
    }
    if not able[guide.kind]:
        raise unsupported(f"guide.{guide.kind.value}", "its engine has no guided decoding")
    if guide.strict and guide.kind is not GuideKind.JSON_SCHEMA:
        raise InvalidArgument("'guide.strict': is for JSON schemas only.", field="guide.strict")


def check_priority(priority: Priority, caller: Caller) -> None:
    """Refuses HIGH to callers who may not overtake others."""
    if priority is Priority.HIGH and not caller.may_hurry:
        raise PermissionDenied(
            "Priority HIGH needs the role 'admin'. Leave it out, or use a key that has it.",
            field="priority",
        )


def check_vocabulary(ids: Sequence[int], vocabulary_size: int, field: str) -> None:
    """Refuses token IDs that the model doesn't have."""
    wrong = next((id for id in ids if not 0 <= id < vocabulary_size), None)
    if wrong is not None:
        raise InvalidArgument(
            f"'{field}': token ID {wrong} is outside the model's vocabulary of {vocabulary_size}.",
            field=field,
        )


def wrapped_seed(seed: int, offset: int) -> int:
    """Returns seed + offset within 64 signed bits."""
    return (seed + offset + 2**63) % 2**64 - 2**63


def _check_supported(
    sampling: Sampling, capabilities: EngineCapabilities, *, prompt_logprobs: bool
) -> None:
    able = capabilities.sampling_fields
    for name in _TUNABLE:
        value = getattr(sampling, name)
        if value is not None and value != getattr(_NEUTRAL, name) and name not in able:
            raise unsupported(f"sampling.{name}")
    if sampling.mirostat:
        raise unsupported("sampling.mirostat")
    if sampling.logit_bias and "logit_bias" not in able:
        raise unsupported("sampling.logit_bias")
    if sampling.logprobs is not None:
        if "logprobs" not in able:
            raise unsupported("sampling.logprobs")
        if sampling.logprobs > capabilities.max_top_logprobs:
            most = capabilities.max_top_logprobs
            raise unsupported("sampling.logprobs", f"it reports at most {most} alternatives")
        if prompt_logprobs and not capabilities.prompt_logprobs:
            raise unsupported("echo", "its engine does not score prompts")


def _widths(
    sampling: Sampling,
    capabilities: EngineCapabilities,
    settings: ModelSettings,
    *,
    streamed: bool,
) -> tuple[int, int]:
    n = sampling.n or 1
    width = sampling.best_of or n
    if width < n:
        raise _invalid("best_of", f"must be at least 'n', which is {n}")
    for name, value in (("n", n), ("best_of", width)):
        if value > settings.max_choices:
            raise _invalid(name, f"this model allows at most {settings.max_choices} choices")
    if width > n:
        if streamed:
            raise _invalid("best_of", "can't be streamed: choices are compared when they are whole")
        if "logprobs" not in capabilities.sampling_fields:
            raise unsupported("sampling.best_of")
    return n, width


def _check_tokens(sampling: Sampling, settings: ModelSettings, vocabulary_size: int) -> None:
    check_vocabulary(tuple(sampling.logit_bias), vocabulary_size, "sampling.logit_bias")
    check_vocabulary(sampling.stop_token_ids, vocabulary_size, "sampling.stop_token_ids")
    asked = sampling.max_tokens
    limit = settings.max_tokens_limit
    if asked is not None and limit is not None and asked > limit:
        raise _invalid("max_tokens", f"this model allows at most {limit} tokens")


def _invalid(name: str, why: str) -> DomainError:
    field = f"sampling.{name}"
    return InvalidArgument(f"'{field}': {why}.", field=field)
