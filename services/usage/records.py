"""Records of what requests used, one a line of JSON."""

import hashlib
import secrets
import time
from dataclasses import dataclass

import msgspec

from services.metering import Used, Work

_LONGEST = {
    "principal": 256,
    "request_id": 128,
    "method": 256,
    "model": 256,
    "dialect": 32,
    "user": 512,
}
"""What the ledger keeps of texts, in characters."""


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one request used. Names are those of `penstock.access.v1.UsageRecord`."""

    id: str
    principal: str
    request_id: str
    method: str
    model: str
    dialect: str
    outcome: str
    start_us: int
    """Microseconds since 1970, as are those of the other times."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    images: int = 0
    queued_us: int = 0
    ran_us: int = 0
    user: str = ""


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Record)


@dataclass(frozen=True, slots=True)
class Begun:
    """A request that was admitted, and when."""

    work: Work
    start_us: int

    @classmethod
    def now(cls, work: Work) -> "Begun":
        """A request that begins at this moment."""
        return cls(work, time.time_ns() // 1000)

    def record(self, used: Used) -> Record:
        """What it used, as it is kept."""
        work = self.work
        return Record(
            id=record_id(work),
            principal=_text("principal", work.principal.id),
            request_id=_text("request_id", work.request_id),
            method=_text("method", work.method),
            model=_text("model", work.model),
            dialect=_text("dialect", work.dialect),
            outcome=used.outcome.value,
            start_us=self.start_us,
            prompt_tokens=used.prompt_tokens,
            completion_tokens=used.completion_tokens,
            cached_tokens=used.cached_tokens,
            images=used.images,
            queued_us=_micros(used.queued_s),
            ran_us=_micros(used.ran_s),
            user=_text("user", work.user),
        )


def record_id(work: Work) -> str:
    """Names the record of a request: a retry, with the same ID and the same content, has the same.

    Work without a digest can't be told from other work of its ID, so it has a name of its own.
    """
    if not work.digest:
        return secrets.token_hex(20)
    parts = (work.principal.id, work.request_id, work.method, work.digest)
    return hashlib.blake2b(msgspec.json.encode(parts), digest_size=20).hexdigest()


def content_digest(content: bytes) -> str:
    """Digests what a request asks for, for `Work.digest`."""
    return hashlib.blake2b(content, digest_size=20).hexdigest()


def to_line(record: Record) -> bytes:
    """Writes a record as a line."""
    return _encoder.encode(record) + b"\n"


def from_line(line: bytes) -> Record | None:
    """Reads a line; None where it holds no record, as a torn one does."""
    try:
        return _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _text(name: str, value: str) -> str:
    # A database takes no NUL, and what is refused once would be sent for ever.
    return value.replace("\0", "")[: _LONGEST[name]]


def _micros(seconds: float) -> int:
    return max(0, round(seconds * 1_000_000))
