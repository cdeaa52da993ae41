"""The catalogue against a simple model of it, under any order of calls.

After every step, walking the pages and replaying the watch must both give what the simple model
holds. `tests/integration/model` runs the same on Postgres.
"""

import asyncio
import contextlib
import os
import shutil
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.errors import AlreadyExists, Conflict, DomainError, FailedPrecondition, ModelNotFound
from services.model.catalog import Catalog
from services.model.records import DeployRequest, ModelKind, ModelState, Observation, ObservedState
from services.model.reports import Reports
from services.model.seeds import Seed, plant
from services.model.stores.sql import SqlStore
from services.model.watches import Changed, ChangeFeed, Deleted, Snapshot, Watches

IDS = ("a", "b", "org/c")
NAMES = (*IDS, "x", "y")
SECOND = timedelta(seconds=1)


@dataclass
class Simple:
    """What the catalogue should hold of one model."""

    aliases: tuple[str, ...]
    revision: int
    first: int
    seeded: bool = False
    temperature: float | None = None
    etag: str = ""
    source: str = "/w"
    stopped: bool = False


@dataclass
class Mirror:
    """What a watcher knows."""

    sequence: int = 0
    models: dict[str, object] = field(default_factory=dict)

    def copy(self) -> "Mirror":
        return Mirror(self.sequence, dict(self.models))


class CatalogMachine(RuleBasedStateMachine):
    """Calls the catalogue and the simple model alike."""

    async def make_database(self) -> str:
        return f"sqlite:///{self.folder}/model.db"

    async def drop_database(self) -> None:
        """The folder goes, and the database with it."""

    def __init__(self) -> None:
        super().__init__()
        memory = Path("/dev/shm")
        self.folder = tempfile.mkdtemp(
            prefix="penstock-machine-", dir=memory if os.access(memory, os.W_OK) else None
        )
        self.runner = asyncio.Runner()
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.models: dict[str, Simple] = {}
        self.counters: dict[str, int] = {}
        self.reports_made: dict[str, tuple[datetime, dict]] = {}
        self.mirrors = [Mirror()]
        self.url = self.run(self.make_database())
        self.run(self.open())

    def run(self, coroutine):
        return self.runner.run(coroutine)

    async def open(self) -> None:
        self.store = await SqlStore.open(self.url)
        self.feed = ChangeFeed()
        self.catalog = Catalog(self.store, clock=lambda: self.now, announce=self.feed.announce)
        self.reports = Reports(self.catalog)
        self.watches = Watches(self.catalog, self.feed, max_lag=6)
        async with self.store.reading() as tx:
            self.feed.announce(await tx.sequence())

    def teardown(self) -> None:
        self.run(self.store.aclose())
        self.run(self.drop_database())
        self.runner.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def attempt(self, coroutine, expected: type[DomainError] | None):
        try:
            result = self.run(coroutine)
        except DomainError as error:
            if type(error) is not expected:
                raise
            return None
        assert expected is None, f"{expected} was due"
        return result

    def owner(self, name: str) -> str | None:
        if name in self.models:
            return name
        return next((i for i, m in self.models.items() if name in m.aliases), None)

    def taken(self, model_id: str, aliases: tuple[str, ...]) -> bool:
        return any(self.owner(alias) not in (None, model_id) for alias in aliases)

    def count(self, model_id: str) -> int:
        self.counters[model_id] = self.counters.get(model_id, 0) + 1
        return self.counters[model_id]

    @rule(
        model_id=st.sampled_from(IDS),
        aliases=st.lists(st.sampled_from(("x", "y", "b")), unique=True, max_size=2),
        update=st.booleans(),
    )
    def deploy(self, model_id, aliases, update):
        aliases = tuple(alias for alias in aliases if alias != model_id)
        old, expected = self.models.get(model_id), None
        if self.owner(model_id) not in (None, model_id) or (old and not update):
            expected = AlreadyExists
        elif old and old.seeded and not old.stopped:
            expected = FailedPrecondition
        elif self.taken(model_id, aliases):
            expected = AlreadyExists
        request = DeployRequest(
            model_id, "/w", ModelKind.CHAT, aliases=aliases, allow_update=update
        )
        made = self.attempt(self.catalog.deploy(request), expected)
        if made is None:
            return
        number = self.count(model_id)
        if old is None:
            self.models[model_id] = Simple(aliases, number, number)
        else:
            old.revision, old.aliases = number, aliases or old.aliases
            old.seeded = old.stopped = False
            old.source = "/w"
        self.models[model_id].etag = str(made.entry.config_version)

    @rule(name=st.sampled_from(NAMES))
    def delete(self, name):
        model = self.models.get(name)
        expected = None
        if model is None:
            expected = ModelNotFound
        elif model.seeded and not model.stopped:
            expected = FailedPrecondition
        self.attempt(self.catalog.delete(name), expected)
        if expected is None:
            del self.models[name]
            for _, observed in self.reports_made.values():
                for key in [key for key in observed if key[0] == name]:
                    del observed[key]

    @rule(model_id=st.sampled_from(IDS))
    def replace(self, model_id):
        """Deletes a model and deploys another under its ID."""
        self.delete(model_id)
        self.deploy(model_id, [], False)

    @rule(
        name=st.sampled_from(NAMES),
        aliases=st.lists(st.sampled_from(("x", "y")), unique=True, max_size=2),
    )
    def alias(self, name, aliases):
        expected = None
        if name in aliases:
            return
        if name not in self.models:
            expected = ModelNotFound
        elif self.taken(name, tuple(aliases)):
            expected = AlreadyExists
        self.attempt(self.catalog.set_aliases(name, aliases), expected)
        if expected is None:
            self.models[name].aliases = tuple(aliases)

    @rule(
        name=st.sampled_from(NAMES),
        temperature=st.sampled_from((None, 0.0, 0.5)),
        etag=st.sampled_from(("none", "right", "wrong")),
    )
    def configure(self, name, temperature, etag):
        owner = self.owner(name)
        model = self.models.get(owner or "")
        given = {"none": "", "right": model.etag if model else "", "wrong": "1"}[etag]
        expected = None
        if model is None:
            expected = ModelNotFound
        elif etag == "wrong":
            expected = Conflict
        changes = {"default_temperature": temperature}
        made = self.attempt(self.catalog.update_config(name, changes, etag=given), expected)
        if made is not None:
            assert (made.entry.config_version != int(model.etag)) == (
                temperature != model.temperature
            )
            model.temperature, model.etag = temperature, str(made.entry.config_version)

    @rule(
        seeds=st.dictionaries(
            st.sampled_from(("a", "b")), st.sampled_from(("/w", "/v")), max_size=2
        )
    )
    def restart(self, seeds):
        """Restarts the service, with this configuration file."""
        self.run(self.store.aclose())
        self.run(self.open())
        self.run(plant(self.catalog, [Seed(i, s, ModelKind.CHAT) for i, s in seeds.items()]))
        for model_id, model in self.models.items():
            if model.seeded and model_id not in seeds and not model.stopped:
                model.stopped, model.aliases = True, ()
            model.aliases = tuple(alias for alias in model.aliases if alias not in seeds)
        for model_id, source in seeds.items():
            old = self.models.get(model_id)
            if old is None:
                number = self.count(model_id)
                self.models[model_id] = Simple((), number, number, seeded=True, source=source)
                continue
            if not old.seeded or old.stopped or old.source != source:
                old.aliases = ()
            if old.source != source:
                old.revision, old.source = self.count(model_id), source
            old.seeded, old.stopped = True, False
        for model in self.run(self.pages()):
            self.models[model.id].etag = str(model.entry.config_version)

    @rule(
        reporter=st.sampled_from(("r", "s")),
        has=st.dictionaries(
            st.tuples(st.sampled_from((*IDS, "gone")), st.integers(-2, 1)),
            st.sampled_from(list(ObservedState)),
            max_size=3,
        ),
    )
    def report(self, reporter, has):
        # Numbers count from the newest revision: the one before it is often a deleted model's.
        has = {
            (model_id, max(self.counters.get(model_id, 0) + number, 1)): state
            for (model_id, number), state in has.items()
        }
        observations = [
            Observation(reporter, model_id, number, state, self.now)
            for (model_id, number), state in has.items()
        ]
        self.run(self.reports.report(reporter, "inference", "", observations))
        known = {
            key: state
            for key, state in has.items()
            if (model := self.models.get(key[0])) and model.first <= key[1] <= model.revision
        }
        self.reports_made[reporter] = (self.now, known)

    @rule(seconds=st.integers(1, 12))
    def tick(self, seconds):
        self.now += seconds * SECOND
        self.run(self.reports.sweep())

    @rule()
    def fork(self):
        """Another watcher falls asleep here; it resumes at once, or after more has happened."""
        self.mirrors.append(self.mirrors[0].copy())

    @rule()
    def wake(self):
        if len(self.mirrors) > 1:
            mirror = self.mirrors.pop()
            self.run(self.replay(mirror))
            assert mirror.models == self.mirrors[0].models

    def expected(self) -> dict[str, tuple]:
        result = {}
        for model_id, model in self.models.items():
            live = [
                (number, state)
                for when, observed in self.reports_made.values()
                if self.now - when <= 15 * SECOND
                for (reported, number), state in observed.items()
                if reported == model_id
            ]
            serving = sorted({n for n, state in live if state is ObservedState.READY})[::-1]
            mine = {state for number, state in live if number == model.revision}
            if model.stopped:
                state = ModelState.STOPPED
            elif serving:
                state = ModelState.READY
            elif ObservedState.FAILED in mine and ObservedState.LOADING not in mine:
                state = ModelState.FAILED
            else:
                state = ModelState.DEPLOYING
            result[model_id] = (
                model.aliases,
                model.revision,
                model.source,
                model.temperature,
                not model.seeded,
                tuple(serving),
                state,
            )
        return result

    async def pages(self):
        models, token = [], ""
        while True:
            page = await self.catalog.list(page_size=2, page_token=token)
            models += page.items
            if not (token := page.next_page_token):
                return models

    async def replay(self, mirror: Mirror) -> None:
        async with contextlib.aclosing(self.watches.watch((), mirror.sequence)) as events:
            while mirror.sequence != self.feed.latest:
                event = await anext(events)
                assert event.sequence > mirror.sequence
                mirror.sequence = event.sequence
                match event:
                    case Snapshot():
                        mirror.models = {model.id: told(model) for model in event.models}
                    case Changed():
                        mirror.models[event.model.id] = told(event.model)
                    case Deleted():
                        mirror.models.pop(event.model_id, None)

    @invariant()
    def pages_and_watch_agree(self):
        models = self.run(self.pages())
        assert [model.id for model in models] == sorted(self.models)
        shown = {model.id: told(model) for model in models}
        assert shown == self.expected()
        self.run(self.replay(self.mirrors[0]))
        wanted = {i: t for i, t in shown.items() if t[-1] is not ModelState.STOPPED}
        assert self.mirrors[0].models == wanted

    @invariant()
    def every_name_leads_to_its_model(self):
        for name in NAMES:
            owner = self.owner(name)
            found = self.attempt(self.catalog.get(name), None if owner else ModelNotFound)
            assert owner is None or found.id == owner


def told(model) -> tuple:
    entry = model.entry
    return (
        entry.aliases,
        entry.revision.number,
        entry.revision.source,
        entry.config.default_temperature,
        entry.deployed_by_api,
        model.serving,
        model.state,
    )


TestCatalog = CatalogMachine.TestCase
TestCatalog.settings = settings(
    max_examples=8,
    stateful_step_count=30,
    deadline=None,
    # Shrinking takes minutes: ask for it (Phase.shrink) when a failure is hard to read.
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
