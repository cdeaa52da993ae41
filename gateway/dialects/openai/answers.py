"""Answers of the inference service, translated into the dialect's. No I/O."""

import codecs
import time
from collections.abc import Iterable, Sequence

from google.protobuf.timestamp_pb2 import Timestamp
from penstock.inference.v1 import event_pb2, message_pb2, usage_pb2
from penstock.inference.v1 import inference_service_pb2 as inference_pb2

from gateway.dialects.openai import answer_schema as answers
from gateway.dialects.openai import schema, translate
from gateway.json_values import finite

FINISH_REASONS: dict[int, answers.Finish] = {
    event_pb2.FINISH_REASON_UNSPECIFIED: "stop",
    event_pb2.FINISH_REASON_STOP: "stop",
    event_pb2.FINISH_REASON_LENGTH: "length",
    event_pb2.FINISH_REASON_TOOL_CALLS: "tool_calls",
    event_pb2.FINISH_REASON_CONTENT_FILTER: "content_filter",
    event_pb2.FINISH_REASON_CANCELLED: "stop",
}
"""The dialect knows no other words."""


def chat_completion(
    response: inference_pb2.ChatResponse, body: schema.ChatCompletionRequest
) -> answers.ChatCompletion:
    """Renders a whole chat for its request."""
    legacy_functions = bool(body.functions)
    scored = bool(body.logprobs)
    return answers.ChatCompletion(
        id=response.id,
        object="chat.completion",
        created=seconds(response.create_time),
        model=translate.model_of(body),
        choices=[
            answers.ChatChoice(
                index=choice.index,
                message=_message(choice.message, legacy_functions),
                logprobs=answers.ChatLogprobs(chat_logprobs(choice.logprobs)) if scored else None,
                finish_reason=finish_reason(choice.finish_reason, legacy_functions),
            )
            for choice in response.choices
        ],
        usage=usage(response.usage),
        service_tier="default",
        system_fingerprint=response.fingerprint,
    )


def completion(
    response: inference_pb2.CompleteResponse, body: schema.CompletionRequest
) -> answers.Completion:
    """Renders whole texts for their request."""
    scored = body.logprobs is not None
    return answers.Completion(
        id=response.id,
        object="text_completion",
        created=seconds(response.create_time),
        model=translate.model_of(body),
        system_fingerprint=response.fingerprint,
        choices=[
            answers.CompletionChoice(
                text=choice.text,
                index=choice.index,
                logprobs=TextLogprobs().feed(choice.logprobs) if scored else None,
                finish_reason=finish_reason(choice.finish_reason),
            )
            for choice in response.choices
        ],
        usage=usage(response.usage),
    )


def usage(counts: usage_pb2.Usage) -> answers.Usage:
    """Renders token counts."""
    return answers.Usage(
        prompt_tokens=counts.prompt_tokens,
        completion_tokens=counts.completion_tokens,
        total_tokens=counts.total_tokens,
        prompt_tokens_details=answers.PromptDetails(cached_tokens=counts.cached_tokens),
        completion_tokens_details=answers.CompletionDetails(
            reasoning_tokens=counts.reasoning_tokens
        ),
    )


def finish_reason(reason: int, legacy_functions: bool = False) -> answers.Finish:
    """Renders why a choice ended."""
    word = FINISH_REASONS.get(reason, "stop")
    return "function_call" if legacy_functions and word == "tool_calls" else word


def chat_logprobs(tokens: Iterable[event_pb2.TokenLogprob]) -> list[answers.TokenLogprob]:
    """Renders the tokens of a message."""
    return [
        answers.TokenLogprob(
            token=token.token,
            logprob=finite(token.logprob),
            bytes=list(token.bytes),
            top_logprobs=[
                answers.TopLogprob(top.token, finite(top.logprob), list(top.bytes))
                for top in token.top
            ],
        )
        for token in tokens
    ]


class TextLogprobs:
    """Renders the tokens of a text, piece by piece; offsets count characters of the whole text."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._offset = 0

    def feed(self, tokens: Sequence[event_pb2.TokenLogprob]) -> answers.CompletionLogprobs:
        """Renders the next tokens."""
        logprobs = answers.CompletionLogprobs([], [], [], [])
        for token in tokens:
            logprobs.tokens.append(token.token)
            logprobs.text_offset.append(self._offset)
            self._offset += len(self._decoder.decode(token.bytes))
            if not token.HasField("logprob"):
                logprobs.token_logprobs.append(None)
                logprobs.top_logprobs.append(None)
                continue
            logprobs.token_logprobs.append(finite(token.logprob))
            top = {item.token: finite(item.logprob) for item in token.top}
            top.setdefault(token.token, finite(token.logprob))
            logprobs.top_logprobs.append(top)
        return logprobs


def seconds(moment: Timestamp) -> int:
    """Renders a moment."""
    return moment.seconds or int(time.time())


def _message(message: message_pb2.Message, legacy_functions: bool) -> answers.AnswerMessage:
    text = "".join(part.text for part in message.parts)
    answer = answers.AnswerMessage(role="assistant", content=text)
    if message.reasoning:
        answer.reasoning_content = message.reasoning
    calls = message.tool_calls
    if calls:
        answer.content = text or None
        if legacy_functions:
            answer.function_call = answers.Function(calls[0].name, calls[0].arguments_json)
        else:
            answer.tool_calls = [
                answers.MessageToolCall(
                    call.id, "function", answers.Function(call.name, call.arguments_json)
                )
                for call in calls
            ]
    return answer
