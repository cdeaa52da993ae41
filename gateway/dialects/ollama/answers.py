"""Answers of the services, translated into the dialect's. No I/O."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TypeVar

import orjson
from google.protobuf.timestamp_pb2 import Timestamp
from msgspec import UNSET
from penstock.embedding.v1 import embedding_service_pb2
from penstock.inference.v1 import event_pb2, message_pb2, usage_pb2
from penstock.inference.v1 import inference_service_pb2 as inference_pb2

from gateway.dialects.ollama import answer_schema as answers
from gateway.dialects.ollama import schema
from gateway.json_values import finite, object_of
from gateway.vectors import numbers

Ended = TypeVar("Ended", bound=answers.OllamaEnd)


def chat(
    response: inference_pb2.ChatResponse, body: schema.OllamaChatRequest
) -> answers.OllamaChatAnswer:
    """Renders a whole chat for its request."""
    choice = response.choices[0]
    answer = answers.OllamaChatAnswer(
        model=body.model,
        created_at=moment(response.create_time),
        message=said(
            "".join(part.text for part in choice.message.parts),
            "" if body.think is False else choice.message.reasoning,
        ),
        done=True,
    )
    if choice.message.tool_calls:
        answer.message.tool_calls = list(calls(choice.message.tool_calls))
    if body.logprobs:
        answer.logprobs = logprobs(choice.logprobs)
    return ended(answer, choice.finish_reason, response.usage, response.timings)


def generated(
    response: inference_pb2.ChatResponse | inference_pb2.CompleteResponse,
    body: schema.OllamaGenerateRequest,
) -> answers.OllamaGenerateAnswer:
    """Renders whole text for its request."""
    choice = response.choices[0]
    thought = ""
    if isinstance(choice, event_pb2.ChatChoice):
        text = "".join(part.text for part in choice.message.parts)
        thought = choice.message.reasoning
    else:
        text = choice.text
    answer = answers.OllamaGenerateAnswer(
        model=body.model, created_at=moment(response.create_time), response=text, done=True
    )
    if thought and body.think is not False:
        answer.thinking = thought
    if body.logprobs:
        answer.logprobs = logprobs(choice.logprobs)
    return ended(answer, choice.finish_reason, response.usage, response.timings)


def nothing_said(model: str, reason: answers.DoneReason) -> answers.OllamaChatAnswer:
    """Renders the answer to a chat without messages."""
    return answers.OllamaChatAnswer(
        model=model, created_at=_now(), message=said(""), done=True, done_reason=reason
    )


def nothing_generated(model: str, reason: answers.DoneReason) -> answers.OllamaGenerateAnswer:
    """Renders the answer to an empty prompt."""
    return answers.OllamaGenerateAnswer(
        model=model, created_at=_now(), response="", done=True, done_reason=reason
    )


def ended(answer: Ended, reason: int, usage: usage_pb2.Usage, timings: event_pb2.Timings) -> Ended:
    """Puts in what is told at the end. Time in the queue is the time until the model was ours."""
    queue, prefill, decode = (
        span.ToNanoseconds() for span in (timings.queue, timings.prefill, timings.decode)
    )
    answer.done_reason = "length" if reason == event_pb2.FINISH_REASON_LENGTH else "stop"
    answer.total_duration = queue + prefill + decode
    answer.load_duration = queue
    answer.prompt_eval_count = usage.prompt_tokens
    answer.prompt_eval_duration = prefill
    answer.eval_count = usage.completion_tokens
    answer.eval_duration = decode
    return answer


def said(text: str, thought: str = "") -> answers.OllamaAnswerMessage:
    """Renders what the assistant says, and what it thought before, if anything."""
    return answers.OllamaAnswerMessage("assistant", text, thought or UNSET)


def calls(
    made: Iterable[message_pb2.ToolCall], first: int = 0
) -> Iterator[answers.OllamaAnswerCall]:
    """Renders calls of tools, counted from `first`."""
    for index, call in enumerate(made, start=first):
        function = answers.OllamaCalledFunction(index, call.name, object_of(call.arguments_json))
        yield answers.OllamaAnswerCall(call.id, function)


def logprobs(tokens: Iterable[event_pb2.TokenLogprob]) -> list[answers.OllamaLogprob]:
    """Renders the tokens of an answer."""
    return [
        answers.OllamaLogprob(
            token=token.token,
            logprob=finite(token.logprob),
            bytes=list(token.bytes),
            top_logprobs=[
                answers.OllamaTokenScore(top.token, finite(top.logprob), list(top.bytes))
                for top in token.top
            ],
        )
        for token in tokens
    ]


def moment(time: Timestamp) -> str:
    """Writes a time as the dialect does."""
    when = datetime.fromtimestamp(time.seconds, UTC)
    return f"{when:%Y-%m-%dT%H:%M:%S}.{time.nanos:09d}Z"


def embedded(
    response: embedding_service_pb2.EmbedResponse, body: schema.OllamaEmbedRequest
) -> Iterator[bytes]:
    """Renders vectors for their request, in pieces of the body."""
    yield b'{"model":' + orjson.dumps(body.model) + b',"embeddings":['
    for number, item in enumerate(response.embeddings):
        yield (b"," if number else b"") + numbers(item.values)
    queue = response.queue_duration.ToNanoseconds()
    total = queue + response.compute_duration.ToNanoseconds()
    counted = (total, queue, response.usage.prompt_tokens)
    yield b'],"total_duration":%d,"load_duration":%d,"prompt_eval_count":%d}' % counted


def vector(response: embedding_service_pb2.EmbedResponse) -> bytes:
    """Renders the vector of one text."""
    values: Sequence[bytes] = [item.values for item in response.embeddings]
    return b'{"embedding":%s}' % (numbers(values[0]) if values else b"[]")


def _now() -> str:
    now = Timestamp()
    now.GetCurrentTime()
    return moment(now)
