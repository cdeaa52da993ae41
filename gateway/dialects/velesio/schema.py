"""Requests of Velesio's text routes, in the form of llama.cpp's server.

An optional field that is null is absent, and so is an empty text where none makes sense: some
clients send every field that they know. Unknown fields are ignored.
"""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from gateway.raw_json import AnyJson

INT32_MAX = 2**31 - 1
MOST_TOKENS = 2**20
"""More than any context holds; keeps bodies of nothing but numbers from costing seconds."""

ModelId = Annotated[str, Meta(min_length=1, max_length=256)]
TokenId = Annotated[int, Meta(ge=0, le=INT32_MAX)]
Slot = Annotated[int, Meta(ge=-(2**31), le=INT32_MAX)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Share = Annotated[float, Meta(ge=0, le=1)]
Pieces = Annotated[list[str | TokenId], Meta(min_length=1, max_length=MOST_TOKENS)]
Prompt = str | Annotated[list[str | TokenId | Pieces], Meta(min_length=1, max_length=MOST_TOKENS)]


class LlamaCompletionRequest(msgspec.Struct, kw_only=True):
    """Body of `POST /completion`, where it has a key of llama.cpp's own."""

    prompt: Prompt
    model: ModelId | None = None
    n_predict: Annotated[int, Meta(ge=-2, le=INT32_MAX)] | None = None
    stream: bool | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_k: Annotated[int, Meta(ge=-1, le=INT32_MAX)] | None = None
    top_p: Share | None = None
    min_p: Share | None = None
    typical_p: Share | None = None
    repeat_penalty: Annotated[float, Meta(ge=0, le=10)] | None = None
    repeat_last_n: Annotated[int, Meta(ge=-1, le=INT32_MAX)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    mirostat: Annotated[int, Meta(ge=0, le=2)] | None = None
    mirostat_tau: Annotated[float, Meta(ge=0, le=100)] | None = None
    mirostat_eta: Share | None = None
    stop: str | Annotated[list[str], Meta(max_length=64)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    ignore_eos: bool | None = None
    logit_bias: AnyJson = msgspec.UNSET
    """Pairs of a token and a bias, or an object of them."""
    n_probs: Annotated[int, Meta(ge=0, le=20)] | None = None
    grammar: str | None = None
    json_schema: AnyJson = msgspec.UNSET
    """An object, or its JSON as a text."""
    return_tokens: bool | None = None
    response_fields: Annotated[list[str], Meta(max_length=64)] | None = None
    # Hints: nothing of the answer depends on them.
    n_keep: Slot | None = None
    id_slot: Slot | None = None
    cache_prompt: bool | None = None
    # What no engine does is refused, unless it says that it shall not be done.
    dynatemp_range: float | None = None
    dry_multiplier: float | None = None
    xtc_probability: float | None = None
    top_n_sigma: float | None = None
    t_max_predict_ms: float | None = None
    n_indent: int | None = None
    min_keep: int | None = None
    n_cmpl: int | None = None
    post_sampling_probs: bool | None = None
    timings_per_token: bool | None = None
    return_progress: bool | None = None
    lora: Annotated[list[Any], Meta(max_length=64)] | None = None
    image_data: Annotated[list[Any], Meta(max_length=64)] | None = None


class LlamaKeys(msgspec.Struct, kw_only=True):
    """The keys by which a completion is known to be in llama.cpp's form."""

    n_predict: AnyJson = msgspec.UNSET
    id_slot: AnyJson = msgspec.UNSET
    n_keep: AnyJson = msgspec.UNSET
    cache_prompt: AnyJson = msgspec.UNSET
    n_probs: AnyJson = msgspec.UNSET
    repeat_penalty: AnyJson = msgspec.UNSET
    repeat_last_n: AnyJson = msgspec.UNSET
    mirostat: AnyJson = msgspec.UNSET
    penalize_nl: AnyJson = msgspec.UNSET
    typical_p: AnyJson = msgspec.UNSET
    grammar: AnyJson = msgspec.UNSET
    json_schema: AnyJson = msgspec.UNSET
    return_tokens: AnyJson = msgspec.UNSET
    response_fields: AnyJson = msgspec.UNSET


class InputKey(msgspec.Struct, kw_only=True):
    """The key by which a request for embeddings is known to be in OpenAI's form."""

    input: AnyJson = msgspec.UNSET


class StreamKey(msgspec.Struct, kw_only=True):
    """The key by which it is known to want an array, where it is in another form."""

    stream: AnyJson = msgspec.UNSET


class ContentEmbeddingRequest(msgspec.Struct, kw_only=True):
    """Body of `POST /embedding` and `POST /embeddings` without `input`."""

    content: (
        str
        | Annotated[
            list[str | TokenId | Annotated[list[TokenId], Meta(min_length=1)]],
            Meta(min_length=1, max_length=MOST_TOKENS),
        ]
    )
    model: ModelId | None = None
    stream: bool | None = None
    """No vector is streamed: that it is there says in which form the answer is wanted."""
    embd_normalize: int | None = None


class AnyModel(msgspec.Struct, kw_only=True):
    """What routes take that tell about a model: in a query string, or in a body."""

    model: ModelId | None = None


class TokenizeBody(msgspec.Struct, kw_only=True):
    """Body of `POST /tokenize`."""

    content: str
    add_special: bool | None = None
    parse_special: bool | None = None
    with_pieces: bool | None = None
    model: ModelId | None = None


class DetokenizeBody(msgspec.Struct, kw_only=True):
    """Body of `POST /detokenize`."""

    tokens: Annotated[list[TokenId], Meta(max_length=MOST_TOKENS)]
    model: ModelId | None = None


class SlotBody(msgspec.Struct, kw_only=True):
    """Body of `POST /slots`."""

    action: str
    filepath: Annotated[str, Meta(max_length=4096)]
    id_slot: Slot | None = None
