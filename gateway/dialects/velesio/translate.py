"""Completions in llama.cpp's form, translated into requests of the inference service. No I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import msgspec
from penstock.inference.v1 import inference_service_pb2 as inference_pb2
from penstock.inference.v1 import sampling_pb2

from gateway.dialects.velesio import schema
from gateway.errors import ProblemError, invalid, unsupported
from gateway.raw_json import AnyJson, json_object, load_json, raw_json

MOST_TEXTS = 256
"""Texts of a request that are made tokens on the way."""

_MOST_PROMPTS = 2048
_MOST_BIASES = 1024
_NEVER = -100.0
"""The bias that keeps a token away."""

_NEUTRAL: Mapping[str, Sequence[object]] = {
    "dynatemp_range": (0,),
    "dry_multiplier": (0,),
    "xtc_probability": (0,),
    "top_n_sigma": (0, -1),
    "t_max_predict_ms": (0, -1),
    "n_indent": (0,),
    "min_keep": (0, 1),
    "n_cmpl": (1,),
    "post_sampling_probs": (False,),
    "timings_per_token": (False,),
    "return_progress": (False,),
    "lora": ([],),
    "image_data": ([],),
}
"""Fields that no engine honours, with the values that ask for nothing."""


@dataclass(frozen=True, slots=True)
class Text:
    """A text that stands for its tokens; the first of a prompt gets the model's own before it."""

    text: str
    first: bool = False


@dataclass(frozen=True, slots=True)
class PromptParts:
    """One prompt, as it was given."""

    parts: Sequence[str | int]

    @property
    def is_text(self) -> bool:
        """Whether it is one text and nothing else."""
        return len(self.parts) == 1 and isinstance(self.parts[0], str)

    def texts(self) -> list[Text]:
        """The texts among its parts."""
        return [
            Text(part, first=position == 0)
            for position, part in enumerate(self.parts)
            if isinstance(part, str)
        ]


def refuse_unsupported(body: schema.LlamaCompletionRequest) -> None:
    """Refuses what no engine does.

    Raises:
        ProblemError: the body asks for such a thing.
    """
    for name, neutral in _NEUTRAL.items():
        value = getattr(body, name)
        if value is not None and value not in neutral:
            raise unsupported(name, "no engine of this platform does that")


def prompts_of(prompt: schema.Prompt) -> tuple[list[PromptParts], bool]:
    """Returns the prompts, and whether they were given as a list of prompts.

    Numbers, and texts among numbers, are one prompt; a list of texts or of lists is many.

    Raises:
        ProblemError: there are too many.
    """
    if isinstance(prompt, str):
        return [PromptParts((prompt,))], False
    if not any(isinstance(item, list) for item in prompt):
        parts = cast("list[str | int]", prompt)
        if any(isinstance(item, int) for item in parts):
            return [PromptParts(parts)], False
    if len(prompt) > _MOST_PROMPTS:
        raise invalid(
            f"Invalid 'prompt': array too long. Expected at most {_MOST_PROMPTS} prompts, but got "
            f"{len(prompt)} instead.",
            "prompt",
            "array_above_max_length",
        )
    return [_one_of_many(number, item) for number, item in enumerate(prompt)], True


def _one_of_many(number: int, item: str | int | list[str | int]) -> PromptParts:
    path = f"prompt[{number}]"
    if isinstance(item, int):
        raise invalid(
            f"Invalid type for '{path}': expected a string or an array, like the prompts beside "
            "it, but got an integer instead.",
            path,
            "invalid_type",
        )
    return PromptParts((item,) if isinstance(item, str) else item)


def check_text_count(count: int) -> None:
    """Refuses more texts than are made tokens on the way.

    Raises:
        ProblemError: there are more.
    """
    if count > MOST_TEXTS:
        raise invalid(
            f"Invalid 'prompt': {count} texts in several prompts, or among token IDs, are more "
            f"than the {MOST_TEXTS} that are taken. Send token IDs, or fewer texts.",
            "prompt",
            "array_above_max_length",
        )


def to_complete_request(
    body: schema.LlamaCompletionRequest,
    prompts: Sequence[inference_pb2.Prompt],
    sampling: sampling_pb2.Sampling,
) -> inference_pb2.CompleteRequest:
    """Translates a completion whose prompts were prepared. Its model is set already.

    Raises:
        ProblemError: the form of the answer is no form.
    """
    hint = inference_pb2.CacheHint(
        slot=body.id_slot, keep_token_count=body.n_keep, reuse=body.cache_prompt
    )
    return inference_pb2.CompleteRequest(
        model=body.model or "",
        prompts=prompts,
        sampling=sampling,
        guide=guide_of(body),
        cache_hint=hint,
    )


def token_prompt(ids: Sequence[int]) -> inference_pb2.Prompt:
    """A prompt of tokens."""
    return inference_pb2.Prompt(token_ids=inference_pb2.TokenIds(ids=ids))


def guide_of(body: schema.LlamaCompletionRequest) -> sampling_pb2.Guide | None:
    """The form of the answer.

    Raises:
        ProblemError: there are two, or one is no JSON Schema.
    """
    described = _schema_text(body.json_schema)
    if body.grammar and described:
        raise invalid("Either 'json_schema' or 'grammar' can be given, but not both.", "grammar")
    if body.grammar:
        return sampling_pb2.Guide(gbnf=body.grammar)
    return sampling_pb2.Guide(json_schema=described) if described else None


def _schema_text(raw: AnyJson) -> str:
    data = raw_json(raw)
    if data.startswith(b'"'):
        text = msgspec.json.decode(data, type=str).strip()
        raw = msgspec.Raw(text.encode()) if text else msgspec.UNSET
    return json_object(raw, "json_schema")


def biases_of(raw: AnyJson) -> tuple[dict[int, float], list[tuple[str, float]]]:
    """Returns biases by token, and those of texts, whose tokens have to be found.

    Raises:
        ProblemError: it is not a list of pairs, nor an object, of tokens and biases.
    """
    data = raw_json(raw)
    value = load_json(data, "logit_bias") if data else None
    pairs: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        given = cast("dict[str, Any]", value)
        pairs = [(_token_of(key), bias) for key, bias in given.items()]
    elif isinstance(value, list):
        for item in cast("list[Any]", value):
            if not isinstance(item, list) or len(cast("list[Any]", item)) != 2:
                raise _bad_bias()
            token, bias = cast("list[Any]", item)
            pairs.append((token, bias))
    elif value is not None:
        raise _bad_bias()
    if len(pairs) > _MOST_BIASES:
        raise invalid(
            f"Invalid 'logit_bias': expected at most {_MOST_BIASES} biases, but got {len(pairs)}.",
            "logit_bias",
            "array_above_max_length",
        )
    tokens: dict[int, float] = {}
    texts: list[tuple[str, float]] = []
    for token, bias in pairs:
        if isinstance(token, str) and token:
            texts.append((token, _bias(bias)))
        elif type(token) is int and 0 <= token <= schema.INT32_MAX:
            tokens[token] = _bias(bias)
        else:
            raise _bad_bias()
    return tokens, texts


def _token_of(key: str) -> str | int:
    return int(key) if key.isascii() and key.isdigit() and len(key) <= 10 else key


def _bias(value: object) -> float:
    if value is False:
        return _NEVER
    if type(value) not in (int, float):
        raise _bad_bias()
    number = cast("float", value)
    if not -100 <= number <= 100:
        raise invalid(
            "Invalid 'logit_bias': a bias must be in the range from -100 to 100, or false.",
            "logit_bias",
        )
    return float(number)


def _bad_bias() -> ProblemError:
    return invalid(
        "Invalid 'logit_bias': expected pairs of a token ID (or a text) and a bias, such as "
        "[[15043, 1.0], [306, false]], or an object of them.",
        "logit_bias",
    )
