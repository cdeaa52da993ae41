"""Makes what this process serves match what the catalogue wants.

Level-triggered: every event leads to the same comparison of wanted and present, so a missed or
repeated event changes nothing. A new revision loads beside the old one, answers a probe, takes
over in one step, and the old one drains.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Generic, TypeVar

from services.errors import DomainError, FailedPrecondition, InvalidArgument, Unsupported
from services.serving.backoff import Backoff
from services.serving.catalogue import (
    Attacher,
    CatalogueEvent,
    Changed,
    Deleted,
    Heartbeat,
    ModelLoader,
    Observation,
    Snapshot,
    WantedModel,
)
from services.serving.models import Known, Losable, Served
from services.serving.registry import Registry
from services.serving.slots import (
    DeploymentSettings,
    Failure,
    Load,
    Prospect,
    Slot,
    in_words,
)

S = TypeVar("S", bound=Served[Any])
_log = logging.getLogger(__name__)
_PERMANENT = (FailedPrecondition, InvalidArgument, Unsupported)
"""Failures that only another specification mends."""

Health = Callable[[str, bool | None], None]
"""Takes the name of a model and whether it serves; None when it is gone."""


class Deployments(Generic[S]):
    """What this process has of each model, kept in line with what is wanted."""

    def __init__(
        self,
        loader: ModelLoader[S],
        registry: Registry[S],
        health: Health,
        settings: DeploymentSettings | None = None,
        *,
        attacher: Attacher[S] | None = None,
    ) -> None:
        """Begins without models. Without an attacher, every model is loaded with weights of its
        own."""
        self._loader = loader
        self._attacher = attacher
        self._registry = registry
        self._health = health
        self._settings = settings or DeploymentSettings()
        self._wanted: dict[str, WantedModel] = {}
        self._others: dict[str, WantedModel] = {}
        self._slots: dict[str, Slot[S]] = {}
        self._told = False
        self._stirred = asyncio.Event()
        self.changed = asyncio.Event()
        """Set when `observations` differ from before; whoever reports them clears it."""
        self._loads = asyncio.Semaphore(self._settings.load_concurrency)
        self._tasks: set[asyncio.Task[None]] = set()

    def observations(self) -> list[Observation[S]]:
        """All that this process has, as it is reported."""
        found = [one for slot in self._slots.values() for one in slot.observations()]
        # One word for each revision: a model made anew under its old name may drain beside itself.
        return list({one.revision: one for one in reversed(found)}.values())[::-1]

    def apply(self, event: CatalogueEvent) -> None:
        """Takes what the catalogue says."""
        match event:
            case Snapshot():
                self._wanted.clear()
                self._others.clear()
                for model in event.models:
                    self._want(model)
            case Changed():
                self._want(event.model)
            case Deleted():
                self._wanted.pop(event.id, None)
                self._others.pop(event.id, None)
            case Heartbeat():
                if self._told:
                    return
        self._told = True
        self._reconcile()

    def _want(self, model: WantedModel) -> None:
        mine = model.kind in self._registry.kinds
        (self._wanted if mine else self._others)[model.id] = model
        (self._others if mine else self._wanted).pop(model.id, None)

    # Reconciling.

    def _reconcile(self) -> None:
        """Compares what is wanted with what is there, unloading before loading."""
        for id in self._slots.keys() - self._wanted.keys():
            self._remove(self._slots[id])
        # Bases before what is attached to them.
        for id, wanted in sorted(self._wanted.items(), key=lambda item: bool(item[1].load.base)):
            slot = self._slots.get(id)
            if slot is None:
                slot = self._slots[id] = Slot(id)
            self._align(slot, wanted)
        stirred, self._stirred = self._stirred, asyncio.Event()
        stirred.set()
        self._publish()

    def _align(self, slot: Slot[S], wanted: WantedModel) -> None:
        if slot.serving is not None:
            slot.serving.settings = wanted.settings
            slot.serving.kind = wanted.kind
        if slot.load is not None and slot.load.key != wanted.load:
            slot.stop_load()
        if slot.failure is not None:
            prospect = self._prospect(wanted.load.base) if slot.failure.prospect else None
            if (slot.failure.key, slot.failure.prospect) != (wanted.load, prospect):
                slot.forgive()
        if slot.failure is not None and self._abandoned(slot):
            self._retire(slot)  # it can't follow its base
        serves = slot.serving_key == wanted.load and not self._abandoned(slot)
        if serves or slot.load is not None:
            return
        if slot.failure is not None and not slot.failure.due:
            return
        task = self._spawn(self._load(slot, wanted), f"load-{wanted.load.revision}")
        slot.load = Load(wanted.load, task)

    def _abandoned(self, slot: Slot[S]) -> bool:
        """Whether what serves is attached to a base that no longer does."""
        return slot.base is not None and slot.base is not self._prospect(slot.base.id).base

    def _prospect(self, id: str) -> Prospect[S]:
        """How it stands with a base."""
        if id not in self._wanted:
            return Prospect[S].missing(id)
        slot = self._slots.get(id)
        return Prospect() if slot is None else slot.prospect()

    def _remove(self, slot: Slot[S]) -> None:
        slot.stop_load()
        slot.forgive()
        self._retire(slot)
        if slot.empty:
            self._slots.pop(slot.id, None)

    async def _load(self, slot: Slot[S], wanted: WantedModel) -> None:
        def progress(share: float) -> None:
            if slot.load is not None and slot.load.key == wanted.load:
                slot.load.progress = share
                self.changed.set()

        prospect: Prospect[S] | None = None
        try:
            folder = await self._attacher.folder(wanted) if self._attacher else None
            if self._attacher is None or folder is None:
                async with self._loads:
                    served = await self._loader.load(wanted, progress)
                    await served.prove(self._settings.probe_timeout_s)
            else:
                prospect = await self._settled_prospect(slot, wanted.load.base)
                if prospect.base is None:
                    raise FailedPrecondition(prospect.reason)
                served = await self._attacher.attach(wanted, folder, prospect.base)
                await served.prove(self._settings.probe_timeout_s)
        except Exception as error:
            self._fail(slot, wanted, error, prospect)
        else:
            self._take_over(slot, wanted, served, prospect.base if prospect else None)

    async def _settled_prospect(self, slot: Slot[S], id: str) -> Prospect[S]:
        """Waits until an adapter's base serves, or it is clear that it won't."""
        while not (prospect := self._prospect(id)).settled:
            if slot.load is not None and not slot.load.message:
                slot.load.message = f"It waits for its base model '{id}'."
                self.changed.set()
            await self._stirred.wait()
        return prospect

    def _take_over(self, slot: Slot[S], wanted: WantedModel, served: S, base: S | None) -> None:
        # Settings may have changed while it loaded.
        wanted = self._wanted.get(wanted.id, wanted)
        old = slot.serving
        served.kind, served.settings = wanted.kind, wanted.settings
        self._registry.put(served)
        slot.serving, slot.serving_key, slot.base, slot.load = served, wanted.load, base, None
        slot.forgive()
        if old is not None:
            self._drain(slot, old)
        if isinstance(served.loaded, Losable):
            self._spawn(self._watch(slot, wanted, served), f"watch-{served.revision}")
        _log.info("%s serves.", served.revision)
        self._reconcile()  # for adapters that wait for it, or are on its last revision

    def _fail(
        self, slot: Slot[S], wanted: WantedModel, error: Exception, prospect: Prospect[S] | None
    ) -> None:
        slot.load = None
        permanent = isinstance(error, _PERMANENT)
        foreseen = isinstance(error, DomainError)
        level = logging.WARNING if foreseen else logging.ERROR
        told = (wanted.load.revision, in_words(error))
        _log.log(level, "%s failed to load: %s", *told, exc_info=None if foreseen else error)
        before = slot.failure
        backoff = Backoff(self._settings.retry_least_s, self._settings.retry_most_s)
        if before is not None and before.key == wanted.load:
            backoff = before.backoff
        failure = Failure(wanted.load, in_words(error), permanent, prospect, backoff)
        slot.failure = failure
        if not permanent:

            def retry() -> None:
                failure.due = True
                self._reconcile()

            failure.retry = asyncio.get_running_loop().call_later(backoff.next(), retry)
        self._reconcile()

    async def _watch(self, slot: Slot[S], wanted: WantedModel, served: S) -> None:
        error = await served.loaded.lost()
        if slot.serving is served:  # neither replaced nor removed: it is to be loaded anew
            self._retire(slot)
            self._fail(slot, wanted, error, None)

    def _retire(self, slot: Slot[S]) -> None:
        """Stops serving."""
        if slot.serving is not None:
            self._drain(slot, slot.serving)
            slot.serving = slot.serving_key = slot.base = None

    def _drain(self, slot: Slot[S], served: S) -> None:
        self._registry.drop(served)
        slot.draining.append(served)
        self._spawn(self._finish(slot, served), f"drain-{served.revision}")

    async def _finish(self, slot: Slot[S], served: S) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.drain_grace_s):
                await served.idle()
        try:
            await served.loaded.close()
        finally:
            slot.draining.remove(served)
        if slot.empty and slot.id not in self._wanted:
            self._slots.pop(slot.id, None)
        self._reconcile()

    # Telling.

    def _publish(self) -> None:
        """Tells registry, health and catalogue how things stand."""
        models = [*self._wanted.values(), *self._others.values()]
        self._registry.know(self._known(models))
        for id in self._wanted:
            self._health(f"models/{id}", self._slots[id].serving is not None)
        for id in self._slots.keys() - self._wanted.keys():
            self._health(f"models/{id}", None)
        self.changed.set()

    def _known(self, models: Iterable[WantedModel]) -> Iterable[Known]:
        for model in models:
            slot = self._slots.get(model.id)
            failed = slot is not None and slot.load is None and slot.failure is not None
            yield Known(model.id, model.kind, model.aliases, failed)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self) -> None:
        """Stops loading and frees every model."""
        for slot in self._slots.values():
            slot.forgive()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for slot in self._slots.values():
            for served in (slot.serving, *slot.draining):
                if served is not None:
                    self._registry.drop(served)
                    await served.loaded.close()
