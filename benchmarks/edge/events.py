"""The events and answers of the stand-in engine."""

import time

from google.protobuf import timestamp_pb2
from penstock.inference.v1 import event_pb2, message_pb2, usage_pb2
from penstock.inference.v1 import inference_service_pb2 as inference_pb2

from benchmarks.edge.pacing import WORDS

MODEL = "paced"
ANSWER = "".join(WORDS[:16]).lstrip()
"""The whole answer of a call that is not streamed."""

_ID = "chatcmpl-0123456789abcdefghijABCD"
_FINGERPRINT = "fp_0123456789"
_PROMPT_TOKENS = 12


def started() -> event_pb2.ChatEvent:
    """A stream's first event."""
    return event_pb2.ChatEvent(
        started=event_pb2.Started(id=_ID, model=MODEL, fingerprint=_FINGERPRINT, create_time=_now())
    )


def delta(text: str) -> event_pb2.ChatEvent:
    """One token."""
    return event_pb2.ChatEvent(delta=event_pb2.Delta(text=text))


def finished() -> event_pb2.ChatEvent:
    """The end of the only choice."""
    return event_pb2.ChatEvent(finished=event_pb2.Finished(reason=event_pb2.FINISH_REASON_LENGTH))


def done(token_count: int) -> event_pb2.ChatEvent:
    """A stream's last event."""
    return event_pb2.ChatEvent(done=event_pb2.Done(usage=_usage(token_count)))


def answer() -> inference_pb2.ChatResponse:
    """A whole answer."""
    message = message_pb2.Message(
        role=message_pb2.ROLE_ASSISTANT, parts=[message_pb2.Part(text=ANSWER)]
    )
    choice = event_pb2.ChatChoice(message=message, finish_reason=event_pb2.FINISH_REASON_STOP)
    return inference_pb2.ChatResponse(
        id=_ID,
        model=MODEL,
        fingerprint=_FINGERPRINT,
        create_time=_now(),
        choices=[choice],
        usage=_usage(16),
    )


def _usage(token_count: int) -> usage_pb2.Usage:
    return usage_pb2.Usage(
        prompt_tokens=_PROMPT_TOKENS,
        completion_tokens=token_count,
        total_tokens=_PROMPT_TOKENS + token_count,
    )


def _now() -> timestamp_pb2.Timestamp:
    return timestamp_pb2.Timestamp(seconds=int(time.time()))
