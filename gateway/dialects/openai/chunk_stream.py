"""What OpenAI's two kinds of text streams share: the head and tail of every chunk, and the end."""

from collections.abc import Callable, Sequence

import msgspec
import orjson
from penstock.inference.v1 import event_pb2

from gateway.dialects.openai.answers import seconds, usage
from gateway.dialects.openai.fields import Spelling
from gateway.errors import Problem
from gateway.sse import DONE, line_safe


class ChunkStream:
    """One stream: state, no I/O.

    `text_head` and `text_tail` enclose the text within a choice that holds nothing but text;
    `failed` makes the frame of a failure.
    """

    def __init__(
        self,
        kind: str,
        model: str,
        *,
        text_head: bytes,
        text_tail: bytes,
        include_usage: bool,
        scored: bool,
        spelling: Spelling | None,
        failed: Callable[[Problem], bytes],
    ) -> None:
        self.finished = False
        self._kind = kind
        self._model = model
        self._include_usage = include_usage
        self._scored = scored
        self._spelling = spelling
        self._failed = failed
        self._head = b""
        self._tail = b',"usage":null}\n\n' if include_usage else b"}\n\n"
        self._text_head = text_head
        self._text_tail = text_tail + self._tail

    def text(self, text: str) -> bytes:
        """Makes the frame of text added to choice 0."""
        return self._text_head + line_safe(orjson.dumps(text)) + self._text_tail

    def fail(self, problem: Problem) -> bytes:
        """Makes the frame of a failure."""
        self.finished = True
        return self._failed(problem if self._spelling is None else self._spelling(problem))

    def _start(self, started: event_pb2.Started) -> None:
        head = orjson.dumps(
            {
                "id": started.id,
                "object": self._kind,
                "created": seconds(started.create_time),
                "model": self._model,
                "system_fingerprint": started.fingerprint,
            }
        )
        self._head = b"data: " + head[:-1] + b',"choices":['
        self._text_head = self._head + self._text_head

    def _done(self, done: event_pb2.Done) -> Sequence[bytes]:
        self.finished = True
        if not self._include_usage:
            return (DONE,)
        counts = msgspec.json.encode(usage(done.usage))
        return (self._head + b'],"usage":' + counts + b"}\n\n", DONE)
