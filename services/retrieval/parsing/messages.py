"""What the service and its reading processes say to each other, over pipes."""

import struct

import msgspec

HEADER = struct.Struct(">Q")
"""Length of the message that follows."""


class Task(msgspec.Struct, frozen=True, array_like=True):
    """A document to read."""

    format: str
    charset: str
    text: str | None
    """The content, when it is text; else it is `data`."""
    data: bytes
    max_characters: int
    cpu_s: int


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """What was read; or why it was not."""

    text: str = ""
    title: str = ""
    refusal: str = ""
    field: str = ""
    is_out_of_memory: bool = False


_encoder = msgspec.msgpack.Encoder()
_tasks = msgspec.msgpack.Decoder(Task)
_answers = msgspec.msgpack.Decoder(Answer)


def packed(message: Task | Answer) -> tuple[bytes, bytes]:
    """Returns the header and the body of a message."""
    body = _encoder.encode(message)
    return HEADER.pack(len(body)), body


def task_of(body: bytes) -> Task:
    """Reads a task."""
    return _tasks.decode(body)


def answer_of(body: bytes) -> Answer:
    """Reads an answer."""
    return _answers.decode(body)
