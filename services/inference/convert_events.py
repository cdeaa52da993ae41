"""Writes events and answers: from the dataclasses of the domain to the messages of
`penstock.inference.v1`."""

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from penstock.inference.v1 import event_pb2 as event_pb
from penstock.inference.v1 import inference_service_pb2 as pb
from penstock.inference.v1 import message_pb2 as message_pb
from penstock.inference.v1 import usage_pb2 as usage_pb

from services.inference.events import (
    Answer,
    ChoiceAnswer,
    Delta,
    Done,
    Event,
    Finished,
    ReasoningDelta,
    Started,
    Timings,
    TokenLogprob,
    ToolDelta,
    Usage,
)


def from_chat_event(event: Event) -> event_pb.ChatEvent:
    """Writes one event of a streamed chat."""
    match event:
        case Delta():
            return event_pb.ChatEvent(delta=_from_delta(event))
        case ReasoningDelta():
            return event_pb.ChatEvent(
                reasoning_delta=event_pb.ReasoningDelta(index=event.index, text=event.text)
            )
        case ToolDelta():
            return event_pb.ChatEvent(
                tool_delta=event_pb.ToolDelta(
                    index=event.index,
                    call_index=event.call_index,
                    id=event.id,
                    name=event.name,
                    arguments_json=event.arguments_json,
                )
            )
        case Finished():
            return event_pb.ChatEvent(finished=_from_finished(event))
        case Started():
            return event_pb.ChatEvent(started=_from_started(event))
        case Done():
            return event_pb.ChatEvent(done=_from_done(event))


def from_complete_event(event: Event) -> event_pb.CompleteEvent:
    """Writes one event of a streamed completion."""
    match event:
        case Delta():
            return event_pb.CompleteEvent(delta=_from_delta(event))
        case Finished():
            return event_pb.CompleteEvent(finished=_from_finished(event))
        case Started():
            return event_pb.CompleteEvent(started=_from_started(event))
        case Done():
            return event_pb.CompleteEvent(done=_from_done(event))
        case ToolDelta() | ReasoningDelta():
            raise TypeError("Completions call no tools, and tell no thoughts apart.")


def from_chat_answer(answer: Answer) -> pb.ChatResponse:
    """Writes a whole chat."""
    return pb.ChatResponse(
        id=answer.started.id,
        model=answer.started.model,
        fingerprint=answer.started.fingerprint,
        create_time=_timestamp(answer.started.create_time),
        choices=[_from_chat_choice(choice) for choice in answer.choices],
        usage=from_usage(answer.usage),
        timings=_from_timings(answer.timings),
    )


def from_complete_answer(answer: Answer) -> pb.CompleteResponse:
    """Writes a whole completion."""
    return pb.CompleteResponse(
        id=answer.started.id,
        model=answer.started.model,
        fingerprint=answer.started.fingerprint,
        create_time=_timestamp(answer.started.create_time),
        choices=[
            event_pb.CompleteChoice(
                index=choice.index,
                text=choice.text,
                finish_reason=_reason(choice.finish_reason.value),
                stop_sequence=choice.stop_sequence,
                logprobs=[_from_logprob(entry) for entry in choice.logprobs],
                token_ids=choice.token_ids,
            )
            for choice in answer.choices
        ],
        usage=from_usage(answer.usage),
        timings=_from_timings(answer.timings),
    )


def from_usage(usage: Usage) -> usage_pb.Usage:
    """Writes token counts."""
    return usage_pb.Usage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.total_tokens,
        cached_tokens=usage.cached_tokens,
        reasoning_tokens=usage.reasoning_tokens,
    )


def duration(seconds: float) -> Duration:
    """Writes a span of time."""
    return Duration(seconds=int(seconds), nanos=int(seconds % 1 * 1e9))


def _from_started(started: Started) -> event_pb.Started:
    return event_pb.Started(
        id=started.id,
        model=started.model,
        fingerprint=started.fingerprint,
        create_time=_timestamp(started.create_time),
        prompt_tokens=started.prompt_tokens,
    )


def _from_delta(delta: Delta) -> event_pb.Delta:
    if not delta.logprobs:
        return event_pb.Delta(index=delta.index, text=delta.text, token_ids=delta.token_ids)
    return event_pb.Delta(
        index=delta.index,
        text=delta.text,
        token_ids=delta.token_ids,
        logprobs=[_from_logprob(entry) for entry in delta.logprobs],
    )


def _from_logprob(entry: TokenLogprob) -> event_pb.TokenLogprob:
    return event_pb.TokenLogprob(
        token=entry.token,
        token_id=entry.token_id,
        logprob=entry.logprob,
        bytes=entry.piece,
        top=[_from_logprob(other) for other in entry.top],
    )


def _from_finished(finished: Finished) -> event_pb.Finished:
    return event_pb.Finished(
        index=finished.index,
        reason=_reason(finished.reason.value),
        stop_sequence=finished.stop_sequence,
    )


def _reason(value: int) -> event_pb.FinishReason.ValueType:
    return event_pb.FinishReason.ValueType(value)


def _from_done(done: Done) -> event_pb.Done:
    return event_pb.Done(usage=from_usage(done.usage), timings=_from_timings(done.timings))


def _from_timings(timings: Timings) -> event_pb.Timings:
    return event_pb.Timings(
        queue=duration(timings.queue_s),
        prefill=duration(timings.prefill_s),
        decode=duration(timings.decode_s),
    )


def _from_chat_choice(choice: ChoiceAnswer) -> event_pb.ChatChoice:
    parts = [message_pb.Part(text=choice.text)] if choice.text or not choice.tool_calls else []
    return event_pb.ChatChoice(
        index=choice.index,
        message=message_pb.Message(
            role=message_pb.ROLE_ASSISTANT,
            parts=parts,
            tool_calls=[
                message_pb.ToolCall(id=call.id, name=call.name, arguments_json=call.arguments_json)
                for call in choice.tool_calls
            ],
            reasoning=choice.reasoning,
        ),
        finish_reason=_reason(choice.finish_reason.value),
        stop_sequence=choice.stop_sequence,
        logprobs=[_from_logprob(entry) for entry in choice.logprobs],
    )


def _timestamp(seconds: float) -> Timestamp:
    return Timestamp(seconds=int(seconds), nanos=int(seconds % 1 * 1e9))
