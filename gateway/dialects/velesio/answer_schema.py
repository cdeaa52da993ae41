"""Answers of Velesio's text routes."""

from typing import Any, Literal

import msgspec

StopType = Literal["eos", "limit", "word"]


class ErrorDetail(msgspec.Struct):
    """What went wrong."""

    code: str
    message: str
    details: str


class VelesioError(msgspec.Struct):
    """Body of every error."""

    error: ErrorDetail


class TopProbability(msgspec.Struct):
    """A token that might have been."""

    id: int
    token: str
    bytes: list[int]
    logprob: float


class TokenProbability(msgspec.Struct):
    """A token of the answer, and the most probable ones in its place."""

    id: int
    token: str
    bytes: list[int]
    logprob: float
    top_logprobs: list[TopProbability]


class Timings(msgspec.Struct):
    """Where the time went, in milliseconds, and how fast tokens were."""

    cache_n: int
    prompt_n: int
    prompt_ms: float
    prompt_per_token_ms: float
    prompt_per_second: float
    predicted_n: int
    predicted_ms: float
    predicted_per_token_ms: float
    predicted_per_second: float


class LlamaCompletion(msgspec.Struct, kw_only=True):
    """Body of the answer of `POST /completion` in llama.cpp's form."""

    index: int
    content: str
    tokens: list[int]
    id_slot: int
    slot_id: int
    stop: bool
    multimodal: bool
    model: str
    prompt: str
    stop_type: StopType
    stopping_word: str
    tokens_predicted: int
    tokens_evaluated: int
    tokens_cached: int
    truncated: bool
    generation_settings: dict[str, Any]
    timings: Timings
    completion_probabilities: list[TokenProbability] | msgspec.UnsetType = msgspec.UNSET


class TemplateName(msgspec.Struct):
    """Body of the answer of `/template`: a family that LLM for Unity knows, and the Jinja text."""

    template: str
    chat_template: str
    model: str


class TokenPiece(msgspec.Struct):
    """A token and its text; where that is no text on its own, its bytes."""

    id: int
    piece: str | list[int]


class Tokens(msgspec.Struct):
    """Body of the answer of `POST /tokenize`."""

    tokens: list[int | TokenPiece]


class Content(msgspec.Struct):
    """Body of the answer of `POST /detokenize`."""

    content: str


class PropSettings(msgspec.Struct):
    """The default settings of generation."""

    n_ctx: int
    id: int
    is_processing: bool
    params: dict[str, Any]


class Modalities(msgspec.Struct):
    """What a model takes beside text."""

    vision: bool
    audio: bool


class Props(msgspec.Struct):
    """Body of the answer of `/props`."""

    default_generation_settings: PropSettings
    total_slots: int
    model_alias: str
    model_path: str
    modalities: Modalities
    chat_template: str
    bos_token: str
    eos_token: str
    build_info: str


class SlotFile(msgspec.Struct):
    """Body of the answer of `POST /slots`."""

    filename: str


class ContentVector(msgspec.Struct):
    """Vectors of `content`: one for a text, a list of them for a list of texts."""

    embedding: list[float | list[float]]


class ContentVectors(msgspec.Struct):
    """The vectors of one text of `content`."""

    index: int
    embedding: list[list[float]]


class TextModel(msgspec.Struct):
    """A model of texts."""

    name: str
    size: str
    type: Literal["chat", "completion", "embedding"]
    loaded: bool


class ImageModel(msgspec.Struct):
    """A model of images."""

    name: str
    type: Literal["checkpoint", "lora", "vae"]
    loaded: bool


class Models(msgspec.Struct):
    """Body of the answer of `GET /models`."""

    text_models: list[TextModel]
    image_models: list[ImageModel]


class Worker(msgspec.Struct):
    """One engine, pipeline or training job. A job is named only where there is but one."""

    id: str
    type: Literal["llm", "sd", "embed", "train"]
    status: Literal["busy", "idle", "offline"]
    current_job: str | msgspec.UnsetType = msgspec.UNSET


class Queue(msgspec.Struct):
    """Body of the answer of `GET /queue/status`."""

    queue_depth: int
    active_workers: int
    pending_jobs: int
    completed_jobs_24h: int
    workers: list[Worker]


class Banner(msgspec.Struct):
    """Body of the answer of `GET /`."""

    message: str
    status: str
    version: str
    endpoints: list[str]
