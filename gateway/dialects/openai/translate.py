"""Requests of the dialect, translated into requests of the inference service. No I/O."""

from penstock.inference.v1 import inference_service_pb2 as inference_pb2
from penstock.inference.v1 import sampling_pb2

from gateway.dialects.openai import schema
from gateway.dialects.openai.conversation import to_messages, to_tool_choice, to_tools
from gateway.errors import invalid, unsupported
from gateway.raw_json import json_object, raw_json
from gateway.validation import missing

NO_EFFORT = "none"
"""The effort of a model that shall not think."""

_DEFAULT_COMPLETION_TOKENS = 16
_MOST_PROMPTS = 2048


def to_chat_request(body: schema.ChatCompletionRequest) -> inference_pb2.ChatRequest:
    """Translates a chat completion.

    Raises:
        ProblemError: fields contradict each other, or one is not supported.
    """
    _refuse_unsupported(body)
    _check_stream(body)
    sampling = _sampling(body)
    limit = body.max_completion_tokens
    limit = body.max_tokens if limit is None else limit
    if limit is not None:
        sampling.max_tokens = limit
    if body.top_logprobs is not None and not body.logprobs:
        raise invalid("Invalid 'top_logprobs': it needs 'logprobs' to be true.", "top_logprobs")
    if body.logprobs:
        sampling.logprobs = body.top_logprobs or 0
    request = inference_pb2.ChatRequest(
        model=model_of(body),
        messages=to_messages(body.messages),
        sampling=sampling,
        guide=_guide(body.response_format),
        user=body.user or body.safety_identifier or "",
        metadata=body.metadata or {},
        reasoning=_reasoning(body),
    )
    _add_tools(request, body)
    return request


def to_complete_request(body: schema.CompletionRequest) -> inference_pb2.CompleteRequest:
    """Translates a completion.

    Raises:
        ProblemError: fields contradict each other, or one is not supported.
    """
    _check_stream(body)
    sampling = _sampling(body)
    sampling.max_tokens = _DEFAULT_COMPLETION_TOKENS if body.max_tokens is None else body.max_tokens
    if body.logprobs is not None:
        sampling.logprobs = body.logprobs
    n = body.n or 1
    if body.best_of is not None:
        if body.best_of < n:
            raise invalid(f"Invalid 'best_of': expected a value >= n ({n}).", "best_of")
        if body.stream and body.best_of > n:
            raise invalid("'best_of' greater than 'n' can't be streamed.", "best_of")
        sampling.best_of = body.best_of
    return inference_pb2.CompleteRequest(
        model=model_of(body),
        prompts=_prompts(body),
        sampling=sampling,
        echo=bool(body.echo),
        suffix=body.suffix or "",
        user=body.user or "",
    )


def model_of(body: schema.SamplingFields) -> str:
    """The model that was asked for.

    Raises:
        ProblemError: none was.
    """
    model = body.model if body.model is not None else body.deployment_id
    if model is None:
        raise missing("model")
    return model


def wants_usage(body: schema.SamplingFields) -> bool:
    """Tells whether the stream shall end with usage."""
    return body.stream_options is not None and bool(body.stream_options.include_usage)


def reasoning_switches(body: schema.ChatCompletionRequest) -> dict[str, bool]:
    """Whether the model shall think, by the field that says so."""
    given = body.chat_template_kwargs or schema.TemplateSwitches()
    switches = {
        "chat_template_kwargs.enable_thinking": given.enable_thinking,
        "chat_template_kwargs.thinking": given.thinking,
        "reasoning_effort": False if body.reasoning_effort == NO_EFFORT else None,
    }
    return {name: wanted for name, wanted in switches.items() if wanted is not None}


def _reasoning(body: schema.ChatCompletionRequest) -> bool | None:
    switches = reasoning_switches(body)
    if not switches:
        return None
    (first, wanted), *others = switches.items()
    for name, other in others:
        if other != wanted:
            raise invalid(f"'{name}' and '{first}' contradict each other.", name)
    return wanted


def _check_stream(body: schema.SamplingFields) -> None:
    if body.stream_options is not None and not body.stream:
        raise invalid(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
            "stream_options",
        )


def _refuse_unsupported(body: schema.ChatCompletionRequest) -> None:
    if body.modalities is not None and body.modalities != ["text"]:
        raise unsupported("modalities", "the output is text only")
    if raw_json(body.audio):
        raise unsupported("audio", "the output is text only")
    if raw_json(body.web_search_options):
        raise unsupported("web_search_options", "there is no web search")


def _sampling(body: schema.SamplingFields) -> sampling_pb2.Sampling:
    sampling = sampling_pb2.Sampling(
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=None if body.top_k is None else max(body.top_k, 0),
        min_p=body.min_p,
        repetition_penalty=body.repetition_penalty,
        presence_penalty=body.presence_penalty,
        frequency_penalty=body.frequency_penalty,
        seed=body.seed,
        min_tokens=body.min_tokens,
        n=body.n,
        stop_token_ids=body.stop_token_ids,
        ignore_eos=bool(body.ignore_eos),
    )
    stop = [body.stop] if isinstance(body.stop, str) else body.stop or []
    sampling.stop.extend(text for text in stop if text)
    for key, bias in (body.logit_bias or {}).items():
        sampling.logit_bias[_token_id(key)] = bias
    return sampling


def _token_id(key: str) -> int:
    # At most ten digits, so that no text becomes a number of millions of digits.
    if not key.isascii() or not key.isdigit() or len(key) > 10 or int(key) > schema.INT32_MAX:
        raise invalid(
            "Invalid 'logit_bias': its keys must be token IDs, as texts of whole numbers >= 0.",
            "logit_bias",
        )
    return int(key)


def _guide(form: schema.ResponseFormat | None) -> sampling_pb2.Guide | None:
    if form is None or form.type == "text":
        return None
    if form.type == "json_object":
        return sampling_pb2.Guide(json_object=True)
    if form.json_schema is None:
        raise missing("response_format.json_schema")
    path = "response_format.json_schema.schema"
    return sampling_pb2.Guide(
        json_schema=json_object(form.json_schema.schema, path) or "{}",
        strict=bool(form.json_schema.strict),
    )


def _add_tools(request: inference_pb2.ChatRequest, body: schema.ChatCompletionRequest) -> None:
    if body.tools and body.functions:
        raise invalid("'functions' and 'tools' can't be used together.", "functions")
    if body.functions:
        request.tools.extend(to_tools(body.functions, "functions[{}]"))
        request.parallel_tool_calls = False
    else:
        functions = [tool.function for tool in body.tools or ()]
        request.tools.extend(to_tools(functions, "tools[{}].function"))
        if body.parallel_tool_calls is not None and request.tools:
            request.parallel_tool_calls = body.parallel_tool_calls
    if body.function_call is not None and body.tool_choice is None:
        choice = to_tool_choice(body.function_call, "function_call", request.tools)
    else:
        choice = to_tool_choice(body.tool_choice, "tool_choice", request.tools)
    if choice is not None:
        request.tool_choice.CopyFrom(choice)


def _prompts(body: schema.CompletionRequest) -> list[inference_pb2.Prompt]:
    prompt = body.prompt
    if isinstance(prompt, str):
        return [inference_pb2.Prompt(text=prompt)]
    if isinstance(prompt[0], int):
        ids = [item for item in prompt if isinstance(item, int)]
        if len(ids) == len(prompt):
            return [_tokens(ids)]
    elif isinstance(prompt[0], str):
        texts = [item for item in prompt if isinstance(item, str)]
        if len(texts) == len(prompt):
            return _few([inference_pb2.Prompt(text=text) for text in texts])
    else:
        lists = [item for item in prompt if isinstance(item, list)]
        if len(lists) == len(prompt):
            return _few([_tokens(ids) for ids in lists])
    raise invalid(
        "Invalid type for 'prompt': expected a string, or an array of only strings, only token IDs "
        "or only arrays of token IDs.",
        "prompt",
        "invalid_type",
    )


def _tokens(ids: list[int]) -> inference_pb2.Prompt:
    return inference_pb2.Prompt(token_ids=inference_pb2.TokenIds(ids=ids))


def _few(prompts: list[inference_pb2.Prompt]) -> list[inference_pb2.Prompt]:
    if len(prompts) > _MOST_PROMPTS:
        raise invalid(
            f"Invalid 'prompt': array too long. Expected an array with maximum length "
            f"{_MOST_PROMPTS}, but got an array with length {len(prompts)} instead.",
            "prompt",
            "array_above_max_length",
        )
    return prompts
