"""What the engine and its worker process say to each other: frames of MessagePack.

A frame is its length in four bytes, then the message.
"""

from typing import TypeVar

import msgspec

_LENGTH = 4
BLOCK = 32
"""Tokens of one block of attention memory on processors."""

_M = TypeVar("_M")


class Start(msgspec.Struct, frozen=True):
    """To the worker, first: what to run."""

    folder: str
    precision: str
    """Number type of activations and attention memory, OpenVINO's names: `f32`, `bf16`, `f16`."""
    slots: int
    step_tokens: int
    blocks: int
    """Blocks of attention memory."""
    prefix_caching: bool
    threads: int


class Add(msgspec.Struct, frozen=True, tag=True):
    """To the worker: a sequence to run."""

    key: int
    prompt: list[int]
    max_tokens: int
    min_tokens: int = 0
    stops: tuple[int, ...] = ()
    """Tokens that end it."""
    seed: int = 0
    greedy: bool = True
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    scored: bool = False
    """Whether tokens come with their log-probabilities."""


class Drop(msgspec.Struct, frozen=True, tag=True):
    """To the worker: sequences that are over."""

    keys: list[int]


class Hold(msgspec.Struct, frozen=True, tag=True):
    """To the worker: sequences nobody waits for just now, or no longer so.

    OpenVINO can't leave one sequence out of a step. While all are held, there is no step.
    """

    keys: list[int]
    held: bool


class Ready(msgspec.Struct, frozen=True, tag=True):
    """From the worker, first: the model is loaded."""


class Broken(msgspec.Struct, frozen=True, tag=True):
    """From the worker: loading or a step failed, and with it everything that ran."""

    why: str


class Gained(msgspec.Struct, frozen=True, array_like=True):
    """What one sequence gained in a step."""

    key: int
    tokens: list[int]
    logprobs: list[float]
    """One for each token if they were asked for, else none."""
    over: bool
    """Nothing more comes for it."""
    why: str = ""
    """Why it failed, if it did."""


class Stepped(msgspec.Struct, frozen=True, tag=True):
    """From the worker: one step is done."""

    gained: list[Gained]


ToWorker = Add | Drop | Hold
FromWorker = Ready | Broken | Stepped

_encoder = msgspec.msgpack.Encoder()


def frame(message: msgspec.Struct) -> bytes:
    """A message as it goes over the line."""
    body = _encoder.encode(message)
    return len(body).to_bytes(_LENGTH, "little") + body


class Frames:
    """Cuts what arrived into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """Takes what arrived."""
        self._buffer += data

    def next(self) -> bytes | None:
        """The body of the next whole message, if there is one."""
        if len(self._buffer) < _LENGTH:
            return None
        end = _LENGTH + int.from_bytes(self._buffer[:_LENGTH], "little")
        if len(self._buffer) < end:
            return None
        body = bytes(self._buffer[_LENGTH:end])
        del self._buffer[:end]
        return body
