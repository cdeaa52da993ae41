"""Completions in llama.cpp's form: whole answers and what streams share with them. No I/O."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import msgspec
import orjson
from google.protobuf.duration_pb2 import Duration
from penstock.inference.v1 import event_pb2, usage_pb2
from penstock.inference.v1 import inference_service_pb2 as inference_pb2

from gateway.dialects.velesio import answer_schema as answers
from gateway.dialects.velesio.frames import unsplit
from gateway.json_values import finite

SLOT = 0
"""Sequences have no lasting slots here; clients want to be told one."""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A prompt, as an answer tells it."""

    text: str
    token_count: int | None = None
    """Where there are several prompts: the usage tells only their sum."""


def completions(
    response: inference_pb2.CompleteResponse,
    prompts: Sequence[Evaluated],
    settings: Mapping[str, Any],
    *,
    with_tokens: bool,
) -> list[answers.LlamaCompletion]:
    """Renders one answer for each prompt.

    Several prompts run as one request, so what is told of the time and of the cache is of all.
    """
    single = len(prompts) == 1
    return [
        answers.LlamaCompletion(
            index=choice.index,
            content=choice.text,
            tokens=list(choice.token_ids) if with_tokens else [],
            stop=True,
            model=response.model,
            prompt=prompts[choice.index].text,
            stop_type=stop_type(choice.finish_reason, choice.stop_sequence),
            stopping_word=choice.stop_sequence,
            tokens_predicted=_predicted(choice, response.usage, single=single),
            tokens_evaluated=_evaluated(prompts[choice.index], response.usage),
            tokens_cached=response.usage.cached_tokens,
            truncated=False,
            generation_settings=dict(settings),
            timings=timings(response.usage, response.timings),
            completion_probabilities=(
                probabilities(choice.logprobs) if settings["n_probs"] else msgspec.UNSET
            ),
            id_slot=SLOT,
            slot_id=SLOT,
            multimodal=False,
        )
        for choice in response.choices
    ]


def body_of(
    found: Sequence[answers.LlamaCompletion], fields: Sequence[str] | None, *, listed: bool
) -> bytes:
    """Writes answers, or what is wanted of them."""
    shown: list[Any] = [selected(msgspec.to_builtins(answer), fields) for answer in found]
    return unsplit(orjson.dumps(shown if listed else shown[0]))


def selected(answer: dict[str, Any], fields: Sequence[str] | None) -> dict[str, Any]:
    """Picks the wanted fields; one inside another is written with a slash, and keeps that name."""
    if not fields:
        return answer
    found: dict[str, Any] = {}
    for path in fields:
        value: Any = answer
        for name in path.split("/"):
            if not isinstance(value, dict) or name not in value:
                break
            value = cast("dict[str, Any]", value)[name]
        else:
            found[path] = value
    return found


def stop_type(reason: int, stop_sequence: str) -> answers.StopType:
    """Tells why a text ended."""
    if stop_sequence:
        return "word"
    return "limit" if reason == event_pb2.FINISH_REASON_LENGTH else "eos"


def probabilities(
    tokens: Iterable[event_pb2.TokenLogprob],
) -> list[answers.TokenProbability]:
    """Renders tokens with the most probable ones in their places."""
    return [
        answers.TokenProbability(
            token.token_id,
            token.token,
            list(token.bytes),
            finite(token.logprob),
            [
                answers.TopProbability(
                    top.token_id, top.token, list(top.bytes), finite(top.logprob)
                )
                for top in token.top
            ],
        )
        for token in tokens
    ]


def timings(usage: usage_pb2.Usage, spent: event_pb2.Timings) -> answers.Timings:
    """Renders where the time went; the queue counts for neither prompt nor answer."""
    prompt_n = usage.prompt_tokens - usage.cached_tokens
    prompt_ms, predicted_ms = _milliseconds(spent.prefill), _milliseconds(spent.decode)
    predicted_n = usage.completion_tokens
    return answers.Timings(
        cache_n=usage.cached_tokens,
        prompt_n=prompt_n,
        prompt_ms=prompt_ms,
        prompt_per_token_ms=_share(prompt_ms, prompt_n),
        prompt_per_second=_share(prompt_n * 1000, prompt_ms),
        predicted_n=predicted_n,
        predicted_ms=predicted_ms,
        predicted_per_token_ms=_share(predicted_ms, predicted_n),
        predicted_per_second=_share(predicted_n * 1000, predicted_ms),
    )


def _predicted(choice: event_pb2.CompleteChoice, usage: usage_pb2.Usage, *, single: bool) -> int:
    if single:
        return usage.completion_tokens
    ended_itself = stop_type(choice.finish_reason, choice.stop_sequence) == "eos"
    return len(choice.token_ids) + ended_itself


def _evaluated(prompt: Evaluated, usage: usage_pb2.Usage) -> int:
    return usage.prompt_tokens if prompt.token_count is None else prompt.token_count


def _milliseconds(span: Duration) -> float:
    return round(span.ToNanoseconds() / 1e6, 3)


def _share(amount: float, of: float) -> float:
    return round(amount / of, 3) if of else 0.0
