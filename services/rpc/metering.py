"""Metering: tokens within their limits, and an exact record of what was used."""

import asyncio
from typing import Protocol

from google.protobuf.message import Message

from services.errors import StorageFull
from services.metering import Metered, Outcome, TokenAllowance, Used, Work
from services.rpc import call
from services.settings import ServiceName, Settings, SettingsError
from services.usage.journal import Journal
from services.usage.records import Begun, content_digest
from telemetry import tracing
from telemetry import work as worked
from telemetry.tracing import UNRECORDED, Span

_OFF_LOOP_BYTES = 1024 * 1024
_FULL = (
    "The server can't write down what requests use, and takes none until it can. Try again later; "
    "its operator has to make room."
)


class TokenReservation(Protocol):
    """Tokens that are held for a request."""

    @property
    def allowance(self) -> TokenAllowance | None:
        """What is left after it. None where there is no limit."""
        ...

    def settle(self, total_tokens: int) -> None:
        """Gives back what was not used, or takes what was used beyond it."""
        ...


class TokenLimiter(Protocol):
    """Keeps principals within their limits of tokens."""

    async def admit(self, work: Work) -> TokenReservation:
        """Holds what the work may use. Raises `RateLimited`."""
        ...


class Metering:
    """The `Meter` of a process that serves models."""

    def __init__(
        self, journal: Journal, limiter: TokenLimiter | None = None, *, refuses: bool = False
    ) -> None:
        """Takes where records are written, and what limits tokens (None: nothing does). With
        `refuses`, requests are turned away when the journal is full."""
        self._journal = journal
        self._limiter = limiter
        self._refuses = refuses

    async def admit(self, work: Work) -> Metered:
        """Reserves what the work may use. Raises `RateLimited`, or `StorageFull`."""
        if self._refuses and self._journal.full:
            raise StorageFull(_FULL, retry_after_s=60)
        reservation = None if self._limiter is None else await self._limiter.admit(work)
        return _Request(self._journal, work, reservation)


class _Request:
    """A request that was admitted."""

    def __init__(self, journal: Journal, work: Work, reservation: TokenReservation | None) -> None:
        self._journal = journal
        self._work = work
        self._begun = Begun.now(work)
        self._span = _span_of(work)
        self._reservation = reservation
        self._settled = False

    @property
    def allowance(self) -> TokenAllowance | None:
        """What is left after the reservation."""
        return None if self._reservation is None else self._reservation.allowance

    def settle(self, used: Used) -> None:
        """Writes the record, and settles the reservation. What is told later does not count."""
        if self._settled:
            return
        self._settled = True
        self._journal.append(self._begun.record(used))
        _tell(self._work, used, self._span)
        if self._reservation is not None:
            self._reservation.settle(used.prompt_tokens + used.completion_tokens)

    def withdraw(self) -> None:
        """Gives the reservation back."""
        if not self._settled and self._reservation is not None:
            self._reservation.settle(0)
        if not self._settled:
            self._span.end("refused")
        self._settled = True


def _span_of(work: Work) -> Span:
    """Begins the span of a request's work; engines that call on find it as their place."""
    here = call.current()
    if here is None or not here.span.recorded:
        return UNRECORDED
    operation = worked.operation_of(work.method)
    about = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": worked.PROVIDER,
        "gen_ai.request.model": work.model,
    }
    trace, span = here.span.child(f"{operation} {work.model}", about)
    tracing.enter(trace)
    return span


def _tell(work: Work, used: Used, span: Span) -> None:
    error = "" if used.outcome is Outcome.OK else used.outcome.value
    worked.tell(work.method, work.model, error, used)
    if span.recorded:
        span.note(
            {
                "gen_ai.usage.input_tokens": used.prompt_tokens,
                "gen_ai.usage.output_tokens": used.completion_tokens,
                "penstock.cached_tokens": used.cached_tokens,
                "penstock.images": used.images,
                "penstock.queue_s": used.queued_s,
                "penstock.time_to_first_token_s": used.first_token_s or 0.0,
            }
        )
    span.end(error)


def open_journal(settings: Settings, name: ServiceName) -> Journal:
    """Opens the journal of a service's process. Raises `SettingsError`."""
    folder = settings.services.data_dir / "usage"
    try:
        return Journal(folder, name, most_bytes=settings.usage.journal_bytes)
    except OSError as error:
        raise SettingsError(
            f"[services] data_dir: {folder} can't be made: {error.strerror}. "
            "Usage is written down there; let the process write to it, or name another."
        ) from error


async def work_of(request: Message, *, model: str = "", user: str = "") -> Work:
    """What the call being served asks for, but for its tokens. Raises `LookupError` outside a
    call."""
    return Work(
        principal=call.principal(),
        request_id=call.request_id(),
        method=call.method(),
        model=model,
        dialect=call.dialect(),
        user=user,
        digest=await digest_of(request),
    )


async def digest_of(request: Message) -> str:
    """Digests a request, for `Work.digest`."""
    data = request.SerializeToString(deterministic=True)
    if len(data) <= _OFF_LOOP_BYTES:
        return content_digest(data)
    return await asyncio.to_thread(content_digest, data)
