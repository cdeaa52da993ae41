"""Whole answers on their way over a step stream: in pieces, so that none holds up the others."""

from collections import deque
from typing import Any

from penstock.inference.v1 import inference_service_pb2 as inference_pb

from services.errors import MessageTooLarge
from services.inference.convert_events import from_chat_answer, from_complete_answer
from services.inference.events import Answer
from services.inference.prompts import off_loop
from services.rpc.transport import MAX_MESSAGE_BYTES

PIECE_BYTES = 64 * 1024
"""Largest piece of an answer."""
SHARE_BYTES = 256 * 1024
"""A message takes no further piece when it has so much of them."""

_LOGPROB_CHARACTERS = 256
"""What writing the scores of a token costs, in characters of text."""


async def written(answer: Answer, kind: str) -> bytes:
    """Writes an answer as the unary RPC for requests of this kind does.

    Raises `MessageTooLarge` when that RPC could not send it.
    """
    length = sum(
        len(choice.text) + len(choice.reasoning) + _LOGPROB_CHARACTERS * len(choice.logprobs)
        for choice in answer.choices
    )
    data = await off_loop(length, lambda: _message(answer, kind).SerializeToString())
    if len(data) > MAX_MESSAGE_BYTES:
        raise MessageTooLarge(
            f"The answer has {len(data)} bytes, more than the {MAX_MESSAGE_BYTES} of a message. "
            "Ask for fewer choices or log-probabilities, or stream it."
        )
    return data


class AnswersOut:
    """Answers that are being sent, a piece of each in turn."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, bytes, int, Any]] = deque()

    def __bool__(self) -> bool:
        """Tells whether anything is left to send."""
        return bool(self._waiting)

    def put(self, stream_id: int, data: bytes, tokens: Any = None) -> None:
        """Takes the answer of a request, and what its first update tells of the caller's tokens."""
        self._waiting.append((stream_id, data, 0, tokens))

    def drop(self, stream_id: int) -> None:
        """Sends no more of an answer."""
        self._waiting = deque(entry for entry in self._waiting if entry[0] != stream_id)

    def clear(self) -> None:
        """Sends no more of any."""
        self._waiting.clear()

    def fill(self, updates: Any) -> None:
        """Adds to a message's updates what it may carry."""
        room = SHARE_BYTES
        while self._waiting and room > 0:
            stream_id, data, start, tokens = self._waiting.popleft()
            end = start + PIECE_BYTES
            if end >= len(data):
                updates.add(stream_id=stream_id, answer=data[start:], tokens=tokens)
            else:
                updates.add(stream_id=stream_id, piece=data[start:end], tokens=tokens)
                self._waiting.append((stream_id, data, end, None))
            room -= min(end, len(data)) - start


def _message(
    answer: Answer, kind: str
) -> inference_pb.ChatResponse | inference_pb.CompleteResponse:
    return from_chat_answer(answer) if kind == "chat" else from_complete_answer(answer)
