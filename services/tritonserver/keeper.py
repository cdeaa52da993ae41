"""Keeps a model on all endpoints of Triton: loads it, watches it, and loads it again when lost."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import grpc

from policy.cancelling import heed_cancellation
from services.errors import DomainError, Unavailable
from services.tritonserver import repository
from services.tritonserver.endpoints import Endpoint, Triton
from services.tritonserver.failures import EndpointLost, StubDied
from services.tritonserver.placing import Place
from services.tritonserver.protocol import ModelConfig

Probe = Callable[[Endpoint, ModelConfig], Awaitable[None]]
"""Has a model answer once on one endpoint; raises `DomainError` when it can't."""

_MISSES = 3
"""Questions in a row that may go unanswered before an endpoint counts as lost."""
_LONGEST_PAUSE_S = 30.0
_UNLOAD_S = 10.0
_log = logging.getLogger(__name__)


class Keeper:
    """Of one model. Must be made on the event loop that uses it."""

    def __init__(self, triton: Triton, model: str, *, probe: Probe | None) -> None:
        """Takes what `HostedModel.open` was given."""
        self._triton = triton
        self._hosted = triton.hosted(model)
        self.name = self._hosted.name
        """Its name in Triton."""
        self.config: ModelConfig = None
        """The configuration that it runs with."""
        self.places: Sequence[Place] = [Place(endpoint) for endpoint in triton.endpoints]
        self._probe = probe
        self._watchers: list[asyncio.Task[None]] = []
        self._stirred = {id(place): asyncio.Event() for place in self.places}
        self._lost = asyncio.Event()
        self._why: DomainError = Unavailable(f"Triton is not there for `{model}`.")

    async def begin(self) -> None:
        """Loads it wherever Triton is. Raises `Unavailable` when no endpoint can."""
        self._count(1)
        results = await asyncio.gather(
            *(self._prepare(place) for place in self.places), return_exceptions=True
        )
        failures = [result for result in results if isinstance(result, BaseException)]
        for failure in failures:
            if not isinstance(failure, DomainError):
                raise failure
        if len(failures) == len(results):
            raise failures[0]
        for failure in failures:
            _log.warning("%s is not on all endpoints: %s", self.name, failure)
        self._watchers = [
            asyncio.create_task(self._watch(place), name=f"triton-{self.name}")
            for place in self.places
        ]

    async def close(self) -> None:
        """Stops watching it, and unloads it where nothing else of this process uses it."""
        for task in self._watchers:
            task.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        self._watchers.clear()
        self._lost.set()
        for place in self.places:
            place.ready = False
        self._count(-1)
        if self._triton.settings.manage_models:
            await asyncio.gather(*(self._unload(place) for place in self.places))

    async def lost(self) -> DomainError:
        """Waits until no endpoint has it any more, or it is closed; returns why."""
        await self._lost.wait()
        return self._why

    async def probe(self, place: Place) -> None:
        """Has it answer once at a place. Raises `DomainError`."""
        if self._probe is None:
            return
        try:
            await self._probe(place.endpoint, self.config)
        except EndpointLost as error:
            self.suspect(place, error)
            raise
        self.worked(place)

    def worked(self, place: Place) -> None:
        """Notes that a place answered."""
        place.used = asyncio.get_running_loop().time()

    def suspect(self, place: Place, error: EndpointLost) -> None:
        """Keeps calls from a place until it was looked at, which is soon."""
        place.ready = False
        place.broken = place.broken or isinstance(error, StubDied)
        self._stirred[id(place)].set()

    # Loading.

    async def _prepare(self, place: Place) -> None:
        """Has a model ready at a place. Raises `DomainError`."""
        endpoint = place.endpoint
        if self._triton.settings.manage_models:
            for need in self._hosted.needs:
                async with endpoint.lock(need):
                    await repository.load(endpoint, need)
        async with endpoint.lock(self.name):
            if not self._triton.settings.manage_models:
                await self._wait_for(endpoint)
            elif place.broken:
                await repository.unload(endpoint, self.name, wait=False)
            await self._load(endpoint)
            config = await repository.configuration(endpoint, self.name)
            try:
                await self._try(endpoint, config)
            except StubDied:
                if not self._triton.settings.manage_models:
                    raise
                await repository.unload(endpoint, self.name, wait=False)
                await self._load(endpoint)
                await self._try(endpoint, config)
        self.config = config
        place.prepared, place.broken, place.misses, place.ready = True, False, 0, True
        self.worked(place)

    async def _load(self, endpoint: Endpoint) -> None:
        if self._triton.settings.manage_models:
            await repository.load(endpoint, self.name, changes=self._hosted.config)

    async def _wait_for(self, endpoint: Endpoint) -> None:
        try:
            there = await endpoint.model_ready(self.name)
        except grpc.RpcError:
            raise Unavailable(f"Triton at {endpoint.address} can't be reached.") from None
        if not there:
            raise Unavailable(f"Triton at {endpoint.address} has not loaded `{self.name}`.")

    async def _try(self, endpoint: Endpoint, config: ModelConfig) -> None:
        if self._probe is not None:
            await self._probe(endpoint, config)

    # Watching.

    async def _watch(self, place: Place) -> None:
        """Keeps one place in order."""
        interval = self._triton.settings.health_interval_s
        pause = interval
        stirred = self._stirred[id(place)]
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await stirred.wait()
            stirred.clear()
            before = place.ready
            try:
                await self._check(place)
                pause = interval
            except DomainError as error:
                place.ready = False
                self._why = error
                pause = min(_LONGEST_PAUSE_S, 2 * pause)  # loading may cost much: not again at once
            except Exception:
                # Nothing may end the watch: it is what brings the model back.
                _log.exception("looking after %s failed", self.name)
            heed_cancellation()
            stirred.clear()
            if place.ready != before:
                word = "ready" if place.ready else "not ready"
                _log.warning("%s is %s on Triton at %s", self.name, word, place.endpoint.address)
            self._settle()

    async def _check(self, place: Place) -> None:
        """Looks how a place stands, and mends it where that can be. Raises `DomainError`."""
        endpoint = place.endpoint
        try:
            there = await endpoint.ready()
            loaded = there and await endpoint.model_ready(self.name)
        except grpc.aio.AioRpcError as error:
            place.misses += 1
            late = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            if not late or place.misses >= _MISSES or not place.ready:
                raise Unavailable(f"Triton at {endpoint.address} can't be reached.") from None
            return
        place.misses = 0
        if not there:
            raise Unavailable(f"Triton at {endpoint.address} is not ready.")
        if place.broken or not loaded or not place.prepared:
            place.ready = False
            self._settle()
            await self._prepare(place)
        elif not place.ready:
            await self.probe(place)
            place.ready = True
        elif self._idle(place):
            await self.probe(place)

    def _settle(self) -> None:
        if not any(place.ready for place in self.places):
            self._lost.set()

    def _idle(self, place: Place) -> bool:
        interval = self._triton.settings.probe_interval_s
        now = asyncio.get_running_loop().time()
        return bool(interval) and now - place.used > interval

    # Unloading.

    def _count(self, change: int) -> None:
        for name in (self.name, *self._hosted.needs):
            self._triton.users[name] += change

    async def _unload(self, place: Place) -> None:
        for name in (self.name, *self._hosted.needs):
            try:
                async with asyncio.timeout(_UNLOAD_S), place.endpoint.lock(name):
                    # Not before: whoever held the lock may have loaded it for another model.
                    if not self._triton.users[name]:
                        await repository.unload(place.endpoint, name)
            except (DomainError, TimeoutError) as error:
                _log.info("%s was not unloaded at %s: %s", name, place.endpoint.address, error)
