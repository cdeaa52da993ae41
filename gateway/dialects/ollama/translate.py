"""Requests of the dialect, translated into requests of the services. No I/O."""

from collections.abc import Sequence

from penstock.embedding.v1 import embedding_pb2, embedding_service_pb2
from penstock.inference.v1 import inference_service_pb2 as inference_pb2
from penstock.inference.v1 import message_pb2, sampling_pb2

from gateway.dialects.ollama import schema
from gateway.dialects.ollama.conversation import images, to_messages, to_tools
from gateway.errors import Problem, ProblemError, invalid, unsupported
from gateway.raw_json import json_object, raw_json
from gateway.spelling import Rule, Spelling, rules, spelling

_OPTIONS: Sequence[Rule] = rules(
    (r"^sampling\.logprobs$", "top_logprobs"),
    (r"^sampling\.max_tokens$", "options.num_predict"),
    (r"^sampling\.repetition_penalty$", "options.repeat_penalty"),
    (r"^sampling\.(.+)$", r"options.\1"),
    (r"^guide.*$", "format"),
    (r"^reasoning$", "think"),
)
_CHAT = (
    *rules(
        (r"^(messages\[\d+\])\.parts\[\d+\]\.image.*$", r"\1.images"),
        (r"^(messages\[\d+\])\.parts.*$", r"\1.content"),
        (r"^(messages\[\d+\]\.tool_calls\[\d+\])\.name$", r"\1.function.name"),
        (r"^(messages\[\d+\]\.tool_calls\[\d+\])\.arguments_json$", r"\1.function.arguments"),
        (r"^(tools\[\d+\])\.parameters_json(?![\w])", r"\1.function.parameters"),
        (r"^(tools\[\d+\])\.(name|description)$", r"\1.function.\2"),
    ),
    *_OPTIONS,
)
_GENERATE = (
    *rules((r"^messages\[\d+\]\.parts\[\d+\]\.image.*$", "images"), (r"^messages.*$", "prompt")),
    *rules((r"^prompts.*$", "prompt")),
    *_OPTIONS,
)
_INPUTS = rules((r"^inputs(\[\d+\])?.*$", r"input\1"))

chat_spelling = spelling(_CHAT, "messages")
generate_spelling = spelling(_GENERATE, "prompt")
catalogue_spelling = spelling(rules((r"^name$", "model")))
embeddings_spelling = spelling(rules((r"^inputs.*$", "prompt")), "prompt")


def to_chat_request(body: schema.OllamaChatRequest) -> inference_pb2.ChatRequest:
    """Translates a chat.

    Raises:
        ProblemError: a message lacks what its role needs, or a field is not supported.
    """
    return inference_pb2.ChatRequest(
        model=body.model,
        messages=to_messages(body.messages or ()),
        tools=to_tools(body.tools or ()),
        sampling=_sampling(body),
        guide=_guide(body),
        reasoning=_reasoning(body),
    )


def to_answer_request(body: schema.OllamaGenerateRequest) -> inference_pb2.ChatRequest:
    """Translates a prompt that the model's template is put around.

    Raises:
        ProblemError: a field is not supported.
    """
    _refuse_unsupported(body)
    messages: list[message_pb2.Message] = []
    if body.system:
        part = message_pb2.Part(text=body.system)
        messages.append(message_pb2.Message(role=message_pb2.ROLE_SYSTEM, parts=[part]))
    parts = [message_pb2.Part(text=body.prompt or "")]
    parts += [message_pb2.Part(image=image) for image in images(body.images or (), "images")]
    messages.append(message_pb2.Message(role=message_pb2.ROLE_USER, parts=parts))
    return inference_pb2.ChatRequest(
        model=body.model,
        messages=messages,
        sampling=_sampling(body),
        guide=_guide(body),
        reasoning=_reasoning(body),
    )


def to_complete_request(body: schema.OllamaGenerateRequest) -> inference_pb2.CompleteRequest:
    """Translates a prompt that is continued as it is.

    Raises:
        ProblemError: a field is not supported.
    """
    _refuse_unsupported(body)
    if body.think:
        if continues(body):
            raise unsupported("think", "what is continued as it is has no thoughts before it")
        raise ProblemError(thoughtless(body.model))
    for name, value in (("system", body.system), ("images", body.images)):
        if value:
            raise unsupported(name, "a prompt that is continued as it is has no place for it")
    return inference_pb2.CompleteRequest(
        model=body.model,
        prompts=[inference_pb2.Prompt(text=body.prompt or "")],
        suffix=body.suffix or "",
        sampling=_sampling(body),
        guide=_guide(body),
    )


def continues(body: schema.OllamaGenerateRequest) -> bool:
    """Tells whether a request wants its prompt continued as it is."""
    return bool(body.raw or body.suffix)


def may_continue(body: schema.OllamaGenerateRequest, problem: Problem) -> bool:
    """Tells whether a model that only completes text may continue a prompt it can't answer.

    Such a model has no template, so there is nothing to put around the prompt.
    """
    wrong_kind = problem.reason == "INVALID_ARGUMENT" and problem.param == "model"
    return wrong_kind and not body.system and not body.images


def refuses_thoughts(problem: Problem) -> bool:
    """Tells whether a model was asked to think, and can't."""
    return problem.reason == "UNSUPPORTED_PARAMETER" and problem.param == "reasoning"


def thoughtless(model: str) -> Problem:
    """The problem of a model that can't think, in the words that clients look for."""
    return Problem("UNSUPPORTED_PARAMETER", f'"{model}" does not support thinking')


def to_embed_request(
    body: schema.OllamaEmbedRequest,
) -> embedding_service_pb2.EmbedRequest:
    """Translates a request for vectors, which are scaled to length 1 as Ollama does."""
    texts = [body.input] if isinstance(body.input, str) else body.input
    request = _embed_request(body.model, texts, keep=body.truncate is not False)
    request.normalize = True
    if body.dimensions is not None:
        request.dimensions = body.dimensions
    return request


def to_embeddings_request(
    body: schema.OllamaEmbeddingsRequest,
) -> embedding_service_pb2.EmbedRequest:
    """Translates a request for the vector of one text, as the model makes it."""
    return _embed_request(body.model, [body.prompt or ""], keep=True)


def embed_spelling(body: schema.OllamaEmbedRequest) -> Spelling:
    """The spelling for one request for vectors."""
    known = rules((r"^inputs.*$", "input")) if isinstance(body.input, str) else _INPUTS
    return spelling(known, "input")


def _embed_request(
    model: str, texts: Sequence[str], *, keep: bool
) -> embedding_service_pb2.EmbedRequest:
    kept = embedding_pb2.TRUNCATION_KEEP_START if keep else embedding_pb2.TRUNCATION_REFUSE
    inputs = [embedding_pb2.EmbeddingInput(text=text) for text in texts]
    return embedding_service_pb2.EmbedRequest(model=model, inputs=inputs, truncation=kept)


def _refuse_unsupported(body: schema.OllamaGenerateRequest) -> None:
    if body.template:
        raise unsupported("template", "a model's template can't be replaced")
    if raw_json(body.context) not in (b"", b"[]"):
        raise unsupported("context", "send the conversation to /api/chat")


def _reasoning(body: schema.TextFields) -> bool | None:
    """Models think as much as they do: all levels are one."""
    return None if body.think is None else bool(body.think)


def _guide(body: schema.TextFields) -> sampling_pb2.Guide | None:
    form = raw_json(body.format).strip()
    if form in (b"", b'""'):
        return None
    if form == b'"json"':
        return sampling_pb2.Guide(json_object=True)
    if not form.startswith(b"{"):
        raise invalid("Invalid 'format': expected 'json' or a JSON Schema.", "format")
    return sampling_pb2.Guide(json_schema=json_object(body.format, "format"))


def _sampling(body: schema.TextFields) -> sampling_pb2.Sampling:
    """What is left out is the model's to choose, as what a Modelfile says is in Ollama."""
    given = body.options or schema.OllamaOptions()
    stop = [given.stop] if isinstance(given.stop, str) else given.stop or []
    if body.top_logprobs and not body.logprobs:
        raise invalid("Invalid 'top_logprobs': it needs 'logprobs' to be true.", "top_logprobs")
    return sampling_pb2.Sampling(
        temperature=given.temperature,
        top_k=None if given.top_k is None else max(given.top_k, 0),
        top_p=given.top_p,
        min_p=given.min_p,
        typical_p=given.typical_p or None,
        seed=None if given.seed == -1 else given.seed,  # -1 draws one, there
        max_tokens=_limit(given.num_predict),
        stop=[text for text in stop if text],
        repetition_penalty=given.repeat_penalty or None,  # 0 is off, as 1 is
        repeat_last_n=given.repeat_last_n,
        presence_penalty=given.presence_penalty,
        frequency_penalty=given.frequency_penalty,
        mirostat=given.mirostat,
        mirostat_tau=given.mirostat_tau,
        mirostat_eta=given.mirostat_eta,
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
    )


def _limit(num_predict: int | None) -> int | None:
    """-1 has no limit and -2 fills the context, which is the same here."""
    return num_predict if num_predict is not None and num_predict > 0 else None
