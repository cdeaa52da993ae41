"""Where jobs are kept: the same answers from every database."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from alembic import command
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert

from services.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    QueueFull,
)
from services.sql.database import Database
from services.training.job_names import (
    checkpoint_model_id,
    new_checkpoint_id,
    new_event_id,
    new_job_id,
    result_id,
)
from services.training.job_records import (
    ENDED,
    Checkpoint,
    CheckpointWritten,
    DataSource,
    Dpo,
    Full,
    Hyperparameters,
    Job,
    JobError,
    JobSpec,
    JobState,
    Level,
    Lora,
    MetricsReport,
    NewEvent,
    Priority,
    StateChange,
    Supervised,
    Target,
)
from services.training.names import new_file_id
from services.training.records import Draft, File, Page, Purpose
from services.training.stores import Store, open_store
from services.training.stores.open import _MIGRATIONS
from services.training.stores.tables import FILES
from services.training.transitions import may_follow

START = datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)
QUICK = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


class Clock:
    now = START

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def stores(database_url: str, clock: Clock) -> AsyncIterator[tuple[Store, Store]]:
    """The same database, as two processes see it."""
    async with AsyncExitStack() as stack:
        opened = await asyncio.gather(*(open_store(database_url, clock=clock) for _ in range(2)))
        for store in opened:
            stack.push_async_callback(store.close)
        yield opened[0], opened[1]


@pytest.fixture
def store(stores: tuple[Store, Store]) -> Store:
    return stores[0]


async def put(store: Store, owner: str = "me", **facts: Any) -> str:
    """Keeps a file."""
    file = File(
        **{
            "id": new_file_id(),
            "owner": owner,
            "filename": "a.jsonl",
            "purpose": Purpose.FINE_TUNE,
            "mime_type": "application/jsonl",
            "size_bytes": 10,
            "sha256": "a" * 64,
            "create_time": START,
        }
        | facts
    )
    draft = Draft(file.id, file.owner, file.filename, file.purpose, file.mime_type)
    await store.files.begin(draft)
    await store.files.keep(file, request_id="", most_owner_bytes=0)
    return file.id


def made(spec: JobSpec | None = None, **facts: Any) -> Job:
    spec = spec or JobSpec("base", DataSource(dataset="d"), seed=1)
    defaults = {
        "id": new_job_id(),
        "owner": "me",
        "spec": spec,
        "state": JobState.VALIDATING_FILES,
        "model_id": result_id("base", "local", ""),
        "create_time": START,
        "update_time": START,
    }
    return Job(**defaults | facts)


def going(state: JobState, **facts: Any) -> Any:
    """A change to a state, and of whatever else."""

    def change(job: Job) -> Any:
        told = [NewEvent(Level.INFO, "moved", StateChange(job.state, state))]
        return replace(job, state=state, **facts), told, ()

    return change


PATHS: dict[JobState, list[JobState]] = {
    JobState.VALIDATING_FILES: [],
    JobState.QUEUED: [JobState.QUEUED],
    JobState.RUNNING: [JobState.QUEUED, JobState.RUNNING],
    JobState.PAUSED: [JobState.PAUSED],
    JobState.SUCCEEDED: [JobState.QUEUED, JobState.RUNNING, JobState.SUCCEEDED],
    JobState.FAILED: [JobState.FAILED],
    JobState.CANCELLED: [JobState.CANCELLED],
}


async def brought_to(store: Store, state: JobState, job: Job | None = None) -> Job:
    job = await store.jobs.create(job or made())
    for next_state in PATHS[state]:
        job = await store.jobs.change(job.id, None, going(next_state))
    return job


numbers = st.floats(allow_nan=False)
words = st.text(max_size=20)
specs = st.builds(
    JobSpec,
    base_model=words,
    training=st.just(DataSource(dataset="d")),
    validation=st.none() | st.builds(DataSource, dataset=words),
    method=st.builds(Supervised, st.sampled_from(Target)) | st.builds(Dpo, st.none() | numbers),
    tuning=st.just(Full())
    | st.builds(
        Lora,
        rank=st.none() | st.integers(1, 1024),
        alpha=st.none() | numbers,
        dropout=st.none() | numbers,
        target_modules=st.lists(words, max_size=3).map(tuple),
    ),
    hyperparameters=st.builds(
        Hyperparameters, epoch_count=st.none() | st.integers(1, 50), weight_decay=numbers
    ),
    suffix=words,
    seed=st.none() | st.integers(0, 2**31 - 1),
    metadata=st.dictionaries(words, words, max_size=3),
    priority=st.sampled_from(Priority),
    checkpoint_interval_steps=st.none() | st.integers(1, 2**31 - 1),
)
facts = st.fixed_dictionaries(
    {
        "effective": st.none() | st.builds(Hyperparameters, learning_rate=numbers),
        "estimated_end_time": st.none() | st.just(START + timedelta(microseconds=1)),
        "epoch": numbers,
        "step": st.integers(0, 2**62),
        "step_count": st.integers(0, 2**62),
        "trained_token_count": st.none() | st.integers(0, 2**62),
        "metrics": st.dictionaries(words, numbers, max_size=3),
        "result_files": st.lists(words, max_size=2).map(tuple),
        "error": st.none() | st.builds(JobError, words, words, words, st.integers(0, 9)),
        "restart_count": st.integers(0, 9),
        "attempt": st.integers(0, 9),
        "journal_offset": st.integers(0, 2**62),
        "requested_state": st.sampled_from([None, JobState.CANCELLED]),
    }
)


@QUICK
@given(spec=specs, facts=facts)
async def test_what_is_kept_is_found(
    stores: tuple[Store, Store], spec: JobSpec, facts: dict[str, Any]
) -> None:
    store, other = stores
    job = made(spec)
    assert await store.jobs.create(job) == job
    assert await other.jobs.job(job.id, "me") == job
    changed = await other.jobs.change(job.id, "me", lambda job: (replace(job, **facts), (), ()))
    assert changed == replace(job, **facts)
    assert await store.jobs.job(job.id, None) == changed
    await store.jobs.change(job.id, None, going(JobState.CANCELLED))  # waits no longer


async def test_what_is_no_number_comes_back(store: Store) -> None:
    job = await store.jobs.create(made())
    metrics = {"a": math.nan, "b": math.inf, "c": -math.inf}
    await store.jobs.change(job.id, None, lambda job: (replace(job, metrics=metrics), (), ()))
    found = (await store.jobs.job(job.id, None)).metrics
    assert math.isnan(found["a"])
    assert (found["b"], found["c"]) == (math.inf, -math.inf)


async def test_texts_that_no_database_keeps_are_mended(store: Store) -> None:
    job = await store.jobs.create(made())
    told = [NewEvent(Level.WARN, "a\0b\ud800")]
    await store.jobs.change(job.id, None, lambda job: (job, told, ()))
    [event] = await store.jobs.events(job.id, None, Page(1))
    assert event.message == "a\N{REPLACEMENT CHARACTER}b?"


class TestStarting:
    async def test_a_request_id_makes_one_job(self, stores: tuple[Store, Store]) -> None:
        asked = JobSpec("alias", DataSource(dataset="d"))
        jobs = [made(JobSpec("base", asked.training, seed=seed)) for seed in range(6)]
        kept = await asyncio.gather(
            *(
                stores[number % 2].jobs.create(job, request_id="r", asked=asked)
                for number, job in enumerate(jobs)
            )
        )
        assert len({job.id for job in kept}) == 1
        assert await stores[0].jobs.made_by("me", "r", asked) == kept[0]
        assert await stores[0].jobs.made_by("you", "r", asked) is None
        assert await stores[1].jobs.jobs(None, (), Page(9)) == kept[:1]
        other = replace(asked, suffix="x")
        with pytest.raises(AlreadyExists):
            await stores[0].jobs.made_by("me", "r", other)
        with pytest.raises(AlreadyExists):
            await stores[1].jobs.create(made(), request_id="r", asked=other)
        yours = await stores[1].jobs.create(made(owner="you"), request_id="r", asked=other)
        assert yours.owner == "you"

    @pytest.mark.parametrize("field", ["training", "validation"])
    async def test_a_file_has_to_be_there(self, store: Store, clock: Clock, field: str) -> None:
        mine, yours = await put(store), await put(store, "you")
        batch = await put(store, purpose=Purpose.BATCH)
        short = await put(store, expire_time=START + timedelta(hours=1))
        removed = await put(store)
        await store.files.remove(removed, None)
        clock.now += timedelta(hours=1)

        async def start(id: str, **options: Any) -> Job:
            spec = JobSpec("base", DataSource(mine), seed=1)
            return await store.jobs.create(
                made(replace(spec, **{field: DataSource(id)})), **options
            )

        for id in (yours, short, removed, new_file_id()):
            with pytest.raises(NotFound) as missing:
                await start(id)
            assert missing.value.field == f"job.{field}_file"
        with pytest.raises(InvalidArgument) as wrong:
            await start(batch)
        assert wrong.value.field == f"job.{field}_file"
        assert await store.jobs.jobs(None, (), Page(9)) == []
        await start(mine)
        await start(yours, any_file=True)

    async def test_there_is_a_limit_over_all_processes(self, stores: tuple[Store, Store]) -> None:
        results = await asyncio.gather(
            *(stores[number % 2].jobs.create(made(), most_unended=3) for number in range(6)),
            return_exceptions=True,
        )
        refused = [result for result in results if isinstance(result, BaseException)]
        assert [type(error) for error in refused] == [QueueFull] * 3
        [first, *_] = [result for result in results if isinstance(result, Job)]
        await stores[1].jobs.change(first.id, None, going(JobState.CANCELLED))
        await stores[0].jobs.create(made(), most_unended=3)


class TestFilesInUse:
    @pytest.mark.parametrize("field", ["training", "validation"])
    @pytest.mark.parametrize("state", [state for state in JobState if state not in ENDED])
    async def test_a_file_stays_until_the_job_has_ended(
        self, stores: tuple[Store, Store], clock: Clock, field: str, state: JobState
    ) -> None:
        store, other = stores
        used = await put(store, expire_time=START + timedelta(hours=1))
        spec = replace(
            JobSpec("base", DataSource(dataset="d"), seed=1), **{field: DataSource(used)}
        )
        job = await brought_to(store, state, made(spec))
        with pytest.raises(FailedPrecondition, match=job.id):
            await other.files.remove(used, "me")
        with pytest.raises(NotFound):
            await other.files.remove(used, "you")
        clock.now += timedelta(hours=1)
        await other.files.give_up_old(clock.now)
        assert await other.files.removed(9) == []
        assert (await other.files.file(used, "me")).id == used
        await store.jobs.change(job.id, None, going(JobState.CANCELLED))
        with pytest.raises(NotFound):
            await other.files.file(used, "me")
        await other.files.give_up_old(clock.now)
        assert await other.files.removed(9) == [used]

    async def test_an_ended_job_lets_its_files_go(self, store: Store) -> None:
        for state in sorted(ENDED):
            used = await put(store)
            await brought_to(store, state, made(JobSpec("base", DataSource(used), seed=1)))
            await store.files.remove(used, "me")

    async def test_a_file_is_never_both_used_and_removed(
        self, stores: tuple[Store, Store], clock: Clock
    ) -> None:
        for number in range(10):
            used = await put(stores[0], expire_time=START + timedelta(hours=1))
            spec = JobSpec("base", DataSource(used), seed=1)
            expires = number % 2
            clock.now = START

            async def rid(used: str = used, expires: int = expires) -> None:
                if expires:
                    clock.now += timedelta(hours=1)
                    await stores[1].files.give_up_old(clock.now)
                else:
                    await stores[1].files.remove(used, None)

            started, _ = await asyncio.gather(
                stores[0].jobs.create(made(spec)), rid(), return_exceptions=True
            )
            gone = used in await stores[0].files.removed(99)
            assert gone == isinstance(started, NotFound)


class TestChanges:
    async def test_none_is_lost(self, stores: tuple[Store, Store]) -> None:
        job = await brought_to(stores[0], JobState.RUNNING)

        def step(job: Job) -> Any:
            report = MetricsReport(job.step + 1, 0.5, {"train_loss": 1.0})
            return replace(job, step=job.step + 1), [NewEvent(Level.INFO, "step", report)], ()

        await asyncio.gather(
            *(stores[number % 2].jobs.change(job.id, "me", step) for number in range(20))
        )
        look = await stores[0].jobs.look(job.id, None, after_number=3, most=99)
        assert look.job.step == 20
        assert [event.number for event in look.events] == list(range(4, 24))
        details = [event.detail for event in look.events]
        assert details == [MetricsReport(n, 0.5, {"train_loss": 1.0}) for n in range(1, 21)]

    async def test_what_fails_changes_nothing(self, store: Store) -> None:
        job = await brought_to(store, JobState.RUNNING)
        before = await store.jobs.look(job.id, None, after_number=0, most=99)

        def refuse(job: Job) -> Any:
            raise FailedPrecondition("no")

        with pytest.raises(FailedPrecondition):
            await store.jobs.change(job.id, None, refuse)
        stranger = Checkpoint(new_checkpoint_id(), new_job_id(), START, 1, 1.0, {}, "m", 1)
        changes: list[Any] = [
            going(JobState.QUEUED),
            lambda job: (replace(job, id=new_job_id()), (), ()),
            lambda job: (replace(job, owner="you"), (), ()),
            lambda job: (replace(job, spec=replace(job.spec, suffix="x")), (), ()),
            lambda job: (replace(job, model_id="x"), (), ()),
            lambda job: (replace(job, create_time=START - timedelta(1)), (), ()),
            lambda job: (job, (), [stranger]),
        ]
        for change in changes:
            with pytest.raises(ValueError, match=r"can't"):
                await store.jobs.change(job.id, None, change)
        assert await store.jobs.look(job.id, None, after_number=0, most=99) == before

    @pytest.mark.parametrize("before", JobState)
    async def test_states_follow_as_they_may(self, store: Store, before: JobState) -> None:
        for after in JobState:
            job = await brought_to(store, before)
            if may_follow(before, after):
                assert (await store.jobs.change(job.id, None, going(after))).state is after
            else:
                with pytest.raises(ValueError, match="can't follow"):
                    await store.jobs.change(job.id, None, going(after))

    async def test_what_follows_from_a_state_is_kept(self, store: Store, clock: Clock) -> None:
        job = await store.jobs.create(made())
        times = {}
        for state in (JobState.QUEUED, JobState.RUNNING, JobState.PAUSED, JobState.QUEUED):
            clock.now += timedelta(seconds=1)
            wishes = {"requested_state": JobState.PAUSED} if state is JobState.PAUSED else {}
            job = await store.jobs.change(job.id, None, going(state, **wishes))
            times.setdefault(state, clock.now)
            assert (job.update_time, job.requested_state) == (clock.now, None)
        clock.now += timedelta(seconds=1)
        job = await store.jobs.change(job.id, None, going(JobState.RUNNING))
        wishes = {"requested_state": JobState.CANCELLED, "estimated_end_time": START}
        job = await store.jobs.change(job.id, None, lambda job: (replace(job, **wishes), (), ()))
        assert (job.requested_state, job.estimated_end_time) == (JobState.CANCELLED, START)
        clock.now -= timedelta(hours=1)  # clocks are set back at times
        job = await store.jobs.change(job.id, None, going(JobState.SUCCEEDED))
        assert (job.start_time, job.end_time) == (times[JobState.RUNNING], clock.now)
        assert (job.requested_state, job.estimated_end_time, job.checked) == (None, None, True)
        assert job.update_time == START + timedelta(seconds=5)
        assert await store.jobs.job(job.id, None) == job

    async def test_those_who_listen_are_told(self, stores: tuple[Store, Store]) -> None:
        heard: list[str] = []

        def broken(id: str) -> None:
            raise RuntimeError(id)

        stores[0].jobs.listen(broken)
        stores[0].jobs.listen(heard.append)
        job = await stores[0].jobs.create(made())
        await stores[1].jobs.change(job.id, None, going(JobState.QUEUED))
        assert heard == [job.id]
        before = await stores[0].jobs.revisions([job.id, new_job_id()])
        await stores[0].jobs.change(job.id, None, lambda job: (job, (), ()))  # nothing changes
        assert (heard, await stores[0].jobs.revisions([job.id])) == ([job.id], before)
        await stores[0].jobs.change(job.id, None, going(JobState.RUNNING))
        assert heard == [job.id, job.id]
        assert (await stores[1].jobs.revisions([job.id]))[job.id] > before[job.id]


class TestCheckpoints:
    async def test_a_step_has_one(self, stores: tuple[Store, Store]) -> None:
        job = await brought_to(stores[0], JobState.RUNNING)

        def saved(step: int) -> Any:
            checkpoint = Checkpoint(
                id=new_checkpoint_id(),
                job_id=job.id,
                create_time=START + timedelta(seconds=step),
                step=step,
                epoch=step / 2,
                metrics={"train_loss": 0.5},
                model_id=checkpoint_model_id(job.model_id, step),
                size_bytes=2**40,
            )
            told = NewEvent(Level.INFO, "saved", CheckpointWritten(checkpoint.id))
            return checkpoint, lambda job: (job, [told], [checkpoint])

        first, keep_first = saved(5)
        second, keep_second = saved(6)
        _, again = saved(5)
        for number, change in enumerate((keep_first, again, keep_second, again)):
            await stores[number % 2].jobs.change(job.id, None, change)
        assert await stores[1].jobs.checkpoints(job.id, "me", Page(9)) == [second, first]
        events = await stores[0].jobs.events(job.id, "me", Page(2))
        assert [event.detail for event in events] == [
            CheckpointWritten(second.id),
            CheckpointWritten(first.id),
        ]
        await stores[0].jobs.drop_checkpoint(job.id, 5)
        await stores[0].jobs.drop_checkpoint(job.id, 5)
        assert await stores[1].jobs.checkpoints(job.id, None, Page(9)) == [second]
        # A page goes on where it was, though what was there is gone.
        page = Page(9, first.id, True, first.create_time)
        assert await stores[1].jobs.checkpoints(job.id, None, page) == []
        assert await stores[1].jobs.checkpoints(job.id, None, replace(page, descending=False)) == [
            second
        ]
        with pytest.raises(InvalidArgument):
            await stores[1].jobs.checkpoints(job.id, None, Page(9, first.id))


class TestLists:
    async def test_jobs_wait_in_turn(self, store: Store) -> None:
        jobs = [
            made(
                JobSpec("base", DataSource(dataset="d"), seed=1, priority=priority),
                create_time=START + timedelta(seconds=second),
            )
            for priority in (Priority.HIGH, Priority.NORMAL, Priority.LOW)
            for second in range(2)
        ]
        wanted = [job.id for job in jobs]
        for job in reversed(jobs):
            await store.jobs.create(job)
        assert [job.id for job in await store.jobs.unended()] == wanted
        await store.jobs.change(wanted[2], None, going(JobState.FAILED))
        assert [job.id for job in await store.jobs.unended()] == wanted[:2] + wanted[3:]

    @QUICK
    @given(
        ticks=st.lists(st.integers(0, 3), min_size=1, max_size=9),
        size=st.integers(1, 5),
        descending=st.booleans(),
        states=st.sampled_from([(), (JobState.CANCELLED,), (JobState.PAUSED, JobState.FAILED)]),
        by_id=st.booleans(),
    )
    async def test_pages_are_the_list(
        self,
        store: Store,
        ticks: list[int],
        size: int,
        descending: bool,
        states: tuple[JobState, ...],
        by_id: bool,
    ) -> None:
        owner = new_job_id()  # each example has an owner of its own
        jobs: list[Job] = []
        for number, tick in enumerate(ticks):
            time = START + timedelta(microseconds=tick)
            job = await store.jobs.create(made(owner=owner, create_time=time))
            if number % 2:
                job = await store.jobs.change(job.id, None, going(JobState.CANCELLED))
            jobs.append(job)
        wanted = sorted(
            (job for job in jobs if not states or job.state in states),
            key=lambda job: (job.create_time, job.id),
            reverse=descending,
        )
        found: list[Job] = []
        page = Page(size, descending=descending)
        while some := await store.jobs.jobs(owner, states, page):
            found += some
            last = some[-1]
            page = Page(size, last.id, descending, None if by_id else last.create_time)
        assert found == wanted

    @QUICK
    @given(count=st.integers(1, 9), size=st.integers(1, 4), descending=st.booleans())
    async def test_pages_of_events_are_their_list(
        self, store: Store, count: int, size: int, descending: bool
    ) -> None:
        job = await store.jobs.create(made())
        told = [NewEvent(Level.INFO, str(number), create_time=START) for number in range(count)]
        await store.jobs.change(job.id, None, lambda job: (job, told, ()))
        numbers: list[int] = []
        page = Page(size, descending=descending)
        while some := await store.jobs.events(job.id, "me", page):
            numbers += [event.number for event in some]
            page = Page(size, some[-1].id, descending)
            assert await store.jobs.event(job.id, "me", some[0].id) == some[0]
        assert numbers == sorted(range(1, count + 2), reverse=descending)
        later = await store.jobs.events(job.id, "me", Page(size), after_number=1)
        assert [event.number for event in later] == list(range(2, count + 2))[:size]

    async def test_places_that_are_not_there_are_refused(self, store: Store) -> None:
        job, other = await store.jobs.create(made()), await store.jobs.create(made(owner="you"))
        [theirs] = await store.jobs.events(other.id, None, Page(1))
        for read in (
            store.jobs.jobs("me", (), Page(9, other.id)),
            store.jobs.jobs("me", (), Page(9, new_job_id())),
            store.jobs.events(job.id, "me", Page(9, theirs.id)),
            store.jobs.events(job.id, "me", Page(9, new_event_id())),
            store.jobs.checkpoints(job.id, "me", Page(9, new_checkpoint_id())),
        ):
            with pytest.raises(InvalidArgument) as caught:
                await read
            assert caught.value.field == "after"


async def test_others_see_nothing(store: Store) -> None:
    job = await store.jobs.create(made())
    [event] = await store.jobs.events(job.id, "me", Page(1))
    for id, sees in ((job.id, "you"), (new_job_id(), None)):
        for read in (
            store.jobs.job(id, sees),
            store.jobs.change(id, sees, going(JobState.CANCELLED)),
            store.jobs.look(id, sees, after_number=0, most=9),
            store.jobs.events(id, sees, Page(9)),
            store.jobs.events(id, sees, Page(9), after_number=0),
            store.jobs.event(id, sees, event.id),
            store.jobs.checkpoints(id, sees, Page(9)),
        ):
            with pytest.raises(NotFound):
                await read
    assert await store.jobs.jobs("you", (), Page(9)) == []
    assert await store.jobs.jobs(None, (), Page(9)) == [job]
    with pytest.raises(NotFound):
        await store.jobs.event(job.id, "me", new_event_id())


async def test_a_database_with_files_only_learns_of_jobs(new_database_url: str) -> None:
    database = Database(new_database_url, holds="training", file="training.db")
    id = new_file_id()
    row = {
        "id": id,
        "owner": "me",
        "state": "kept",
        "filename": "a",
        "purpose": "fine-tune",
        "mime_type": "x",
        "size_bytes": 1,
        "sha256": "",
        "create_time": START,
        "touch_time": START,
    }
    async with database.writing() as connection:
        await connection.run_sync(lambda inner: command.upgrade(_MIGRATIONS._config(inner), "0001"))
        await connection.execute(insert(FILES).values(row))
    await database.close()
    store = await open_store(new_database_url)
    assert (await store.files.file(id, "me")).filename == "a"
    await store.jobs.create(made(JobSpec("base", DataSource(id), seed=1)))
    await store.close()
