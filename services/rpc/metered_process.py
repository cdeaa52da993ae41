"""What a process that serves models meters with: limits, the journal, and what was spent before."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from prometheus_client.core import GaugeMetricFamily, Metric

from policy.limits_tokens import Spent, nothing_spent
from services.rpc.channels import channel
from services.rpc.limits import WorkLimits
from services.rpc.metering import Metering, open_journal
from services.rpc.process import ProcessLimits, client_tls, limited
from services.rpc.usage import Ledger
from services.settings import ServiceName, Settings
from services.usage.journal import Journal
from telemetry.registry import Watched

_SPENT_S = 2.0
"""How long the ledger is waited for."""
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Metered:
    """What a process meters with."""

    limits: ProcessLimits
    """Limits of requests."""
    journal: Journal
    """Of what requests use."""
    meter: Metering
    """Of tokens."""


@contextlib.asynccontextmanager
async def metered(settings: Settings, name: ServiceName) -> AsyncGenerator[Metered]:
    """Meters a service's process while the block runs."""
    async with contextlib.AsyncExitStack() as stack:
        limits = await stack.enter_async_context(limited(settings))
        spent = nothing_spent
        if settings.auth.service_token:
            to_ledger = channel(
                settings.services.model.target,
                tls=client_tls(settings),
                token=settings.auth.service_token,
            )
            stack.push_async_callback(to_ledger.close)
            spent = _told_by(Ledger(to_ledger))
        elif settings.limits.tokens_per_day or settings.limits.tokens_per_month:
            _logger.warning(
                "PENSTOCK_SERVICE_TOKEN is not set, so the ledger can't be asked: budgets of "
                "tokens begin at 0 when this process does."
            )
        journal = open_journal(settings, name)
        limiter = WorkLimits(limits.counting.tokens(spent))
        refuses = settings.usage.when_full == "refuse"
        stack.enter_context(_watched(journal))
        yield Metered(limits, journal, Metering(journal, limiter, refuses=refuses))


def _watched(journal: Journal) -> Watched:
    def look() -> Iterable[Metric]:
        text = "Bytes of records of usage that the ledger has not taken yet."
        return (GaugeMetricFamily("penstock_usage_journal_bytes", text, journal.held_bytes),)

    return Watched(look)


def _told_by(ledger: Ledger) -> Spent:
    async def spent(principal: str, since: float) -> int:
        async with asyncio.timeout(_SPENT_S):
            return await ledger.spent(principal, datetime.fromtimestamp(since, UTC))

    return spent
