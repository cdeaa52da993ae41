"""What serving processes report, and what becomes of those that fall silent."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from services.errors import InvalidArgument
from services.model.catalog import Catalog
from services.model.records import Observation, Reporter, ServiceState
from services.model.states import SILENCE, alive, service_state
from services.model.store import Reading, Writing

KEEP_CHANGES = 10_000
"""Changes that a watcher may have missed and still resume."""
KEEP_RECEIPTS = timedelta(days=1)
KEEP_SILENT = timedelta(minutes=10)
"""How long a silent process is still shown as unavailable."""
OVERDUE = 1.5
"""Report intervals after which a process counts as replaced by another at its address."""
MAX_OBSERVATIONS = 10_000
MAX_MESSAGE = 4096


@dataclass(frozen=True, slots=True)
class _Silence:
    """Who is silent and who silent for long, what the silent reported, and until when nobody else
    can be either."""

    silent: Sequence[str]
    gone: Sequence[str]
    observed: Sequence[Observation]
    until: datetime


@dataclass(frozen=True, slots=True)
class Service:
    """How one serving process stands."""

    reporter: Reporter
    state: ServiceState


class Reports:
    """Takes reports and keeps them true: what nobody confirms any more is dropped."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    @property
    def interval(self) -> timedelta:
        """When the next report is due."""
        return self._catalog.report_interval

    async def report(
        self, reporter_id: str, service: str, address: str, observations: Sequence[Observation]
    ) -> None:
        """Takes everything that a process has; what it had and leaves out is gone.

        Models and revisions that the catalogue does not know are left out: the process has not
        heard yet that they were deleted.
        """
        if len(reporter_id) > 256:
            raise InvalidArgument("reporter has at most 256 characters.", field="reporter")
        if len(observations) > MAX_OBSERVATIONS:
            raise InvalidArgument(
                f"At most {MAX_OBSERVATIONS} observations fit a report.", field="observations"
            )
        now = self._catalog.clock()
        reporter = Reporter(reporter_id, service, address, now)
        async with self._catalog.writing() as tx:
            ids = sorted({o.model_id for o in observations})
            entries = {entry.id: entry for entry in await tx.entries(ids=ids)}
            known = [
                _tidied(observation, reporter)
                for observation in observations
                if (entry := entries.get(observation.model_id))
                and entry.first_revision <= observation.revision <= entry.revision.number
            ]
            before = await tx.observations([reporter_id])
            replaced = await self._replaced(tx, reporter)
            before += await tx.observations(replaced)
            await tx.forget(replaced, keep_reporters=False)
            await tx.report(reporter, known)
            await self._record(tx, _changed(before, known), now)

    async def services(self) -> list[Service]:
        """Tells how every process stands that reported lately."""
        now = self._catalog.clock()
        async with self._catalog.store.reading() as tx:
            reporters = await tx.reporters()
            observed: dict[str, list[Observation]] = defaultdict(list)
            for observation in await tx.observations([r.id for r in reporters]):
                observed[observation.reporter].append(observation)
        return [
            Service(r, service_state(observed[r.id], alive(r.report_time, now, self.interval)))
            for r in reporters
        ]

    async def sweep(self) -> datetime:
        """Drops what silent processes reported, so that watchers hear of it. Returns until when
        there is nothing more to drop, whoever reports."""
        now = self._catalog.clock()
        async with self._catalog.store.reading() as tx:
            found = await self._silence(tx, now)
        if found.observed or found.gone:
            async with self._catalog.writing() as tx:
                found = await self._silence(tx, now)
                await tx.forget(found.silent, keep_reporters=True)
                await tx.forget(found.gone, keep_reporters=False)
                await self._record(tx, {o.model_id for o in found.observed}, now)
        return found.until

    async def compact(self) -> None:
        """Drops old lines of the change log and old receipts."""
        async with self._catalog.store.writing() as tx:
            before = self._catalog.clock() - KEEP_RECEIPTS
            await tx.compact(keep_changes=KEEP_CHANGES, receipts_before=before)

    async def _silence(self, tx: Reading, now: datetime) -> _Silence:
        patience = SILENCE * self.interval
        reporters = await tx.reporters()
        silent = [r.id for r in reporters if not alive(r.report_time, now, self.interval)]
        gone = [r.id for r in reporters if now - r.report_time > KEEP_SILENT]
        observed = await tx.observations(silent) if silent else []
        ends = [r.report_time + limit for r in reporters for limit in (patience, KEEP_SILENT)]
        until = min([now + patience, *(end for end in ends if end >= now)])
        return _Silence(silent, gone, observed, until)

    async def _replaced(self, tx: Reading, reporter: Reporter) -> list[str]:
        """Finds processes whose place this one took: same service and address, report overdue."""
        if not reporter.address:
            return []
        place = (reporter.service, reporter.address)
        return [
            other.id
            for other in await tx.reporters()
            if (other.service, other.address) == place
            and other.id != reporter.id
            and reporter.report_time - other.report_time > OVERDUE * self.interval
        ]

    async def _record(self, tx: Writing, model_ids: Iterable[str], now: datetime) -> None:
        for entry in await tx.entries(ids=sorted(model_ids)):
            await tx.record(entry, now)


def _tidied(observation: Observation, reporter: Reporter) -> Observation:
    progress = observation.progress if math.isfinite(observation.progress) else 0.0
    return replace(
        observation,
        report_time=reporter.report_time,
        message=observation.message.replace("\0", "")[:MAX_MESSAGE],
        progress=round(min(max(progress, 0.0), 1.0), 2),
        address=observation.address or reporter.address,
    )


def _changed(before: Iterable[Observation], after: Iterable[Observation]) -> set[str]:
    """Names the models of which something else is observed now."""
    epoch = datetime.min
    old = {replace(o, report_time=epoch) for o in before}
    new = {replace(o, report_time=epoch) for o in after}
    return {o.model_id for o in old ^ new}
