"""Runs batches in the background of the edge, as many as it has room for."""

import asyncio
import logging
import random
from collections.abc import Sequence

from starlette.types import ASGIApp

from gateway.batch_answers import Refuse
from gateway.batch_client import BatchClient
from gateway.batch_owners import BatchOwners
from gateway.batch_runs import BatchRun, Runner
from gateway.clients import Clients
from gateway.errors import ProblemError
from gateway.settings import Settings

_logger = logging.getLogger(__name__)
_LEASE_S = 30
_RENEW_S = 10.0
_MOST_BATCHES = 8
"""At the same time."""
_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 5.0


class BatchWorker:
    """Leases batches and runs them until it is stopped."""

    def __init__(
        self,
        settings: Settings,
        clients: Clients,
        owners: BatchOwners,
        app: ASGIApp,
        refuse: Refuse,
        endpoints: Sequence[str],
    ) -> None:
        """Takes the means: `app` answers the requests of `endpoints`."""
        concurrency = settings.api.batch_concurrency
        self._wanted = concurrency > 0 and owners.available
        self._endpoints = tuple(endpoints)
        self._runner = Runner(
            client=BatchClient(clients, settings.service_token, _LEASE_S),
            app=app,
            owners=owners,
            refuse=refuse,
            slots=asyncio.Semaphore(max(concurrency, 1)),
            concurrency=max(concurrency, 1),
            renew_s=_RENEW_S,
        )
        self._task: asyncio.Task[None] | None = None
        self._runs: set[asyncio.Task[None]] = set()
        self._room = asyncio.Event()
        self._room.set()

    def start(self) -> None:
        """Begins to look for batches; unless the settings forbid it, or there is no service
        token."""
        if self._wanted:
            self._task = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """Lets go of what it has. What runs is run again by whoever comes next."""
        tasks = [*self._runs, *((self._task,) if self._task is not None else ())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self) -> None:
        pause, well = _PAUSE_S, True
        while True:
            await self._room.wait()
            try:
                lease = await self._runner.client.lease(self._endpoints)
            except ProblemError as error:
                if well:
                    _logger.info("no batches can be leased now: %s", error)
                well, lease, pause = False, None, min(pause * 2, _LONGEST_PAUSE_S)
            except Exception:
                _logger.exception("no batch could be leased")
                well, lease, pause = False, None, _LONGEST_PAUSE_S
            else:
                well, pause = True, _PAUSE_S
            if lease is None:
                await asyncio.sleep(pause * random.uniform(0.8, 1.2))
                continue
            run = asyncio.create_task(self._run(BatchRun(lease, self._runner), lease.batch))
            self._runs.add(run)
            run.add_done_callback(self._ended)
            if len(self._runs) >= _MOST_BATCHES:
                self._room.clear()

    async def _run(self, run: BatchRun, batch: str) -> None:
        try:
            await run.run()
        except Exception:
            # It rests until its lease is over.
            _logger.exception("%s could not be run", batch)

    def _ended(self, run: asyncio.Task[None]) -> None:
        self._runs.discard(run)
        self._room.set()
