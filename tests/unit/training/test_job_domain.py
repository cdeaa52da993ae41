"""Jobs against a simple model of them: whatever is done, in whatever order."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
)

from services.errors import AlreadyExists, FailedPrecondition, NotFound, QueueFull
from services.training.job_names import new_job_id
from services.training.job_records import (
    ENDED,
    DataSource,
    Job,
    JobSpec,
    JobState,
    Level,
    MetricsReport,
    NewEvent,
    StateChange,
)
from services.training.jobs import JobLimits, Jobs
from services.training.names import new_file_id
from services.training.paging import Asked
from services.training.records import Caller, Draft, File, Purpose
from services.training.stores import open_store
from services.training.transitions import may_follow
from tests.unit.training.base_shelf import Shelf

START = datetime(2026, 1, 1, tzinfo=UTC)
ME, YOU, ADMIN = Caller("me"), Caller("you"), Caller("admin", is_admin=True)
CALLERS = st.sampled_from([ME, ME, YOU, ADMIN, ADMIN])
MOST = 4
WORDS = ["cancel", "pause", "pause", "resume", "resume", "advance", "advance", "leap"]
TURNS = st.lists(
    st.tuples(st.sampled_from(WORDS), CALLERS, st.integers(0, 59)), min_size=2, max_size=8
)
V, Q, R, P = JobState.VALIDATING_FILES, JobState.QUEUED, JobState.RUNNING, JobState.PAUSED


@dataclass
class Expected:
    """What is known of a job."""

    owner: str
    file: str
    request: tuple[str, str]
    """Request ID and suffix."""
    state: JobState = V
    requested: JobState | None = None
    checked: bool = False
    step: int = 0
    states: list[JobState] = field(default_factory=lambda: [V])
    """Those it was in, in order."""

    def go(self, state: JobState) -> None:
        self.state = state
        self.states.append(state)
        self.checked = self.checked or state is Q
        if state in ENDED or self.requested is state:
            self.requested = None


@pytest.fixture(scope="module", autouse=True)
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A database with nothing in it, to be copied: making one takes longer than a test."""
    path = tmp_path_factory.mktemp("empty") / "training.db"

    async def make() -> None:
        await (await open_store(f"sqlite:///{path}")).close()

    asyncio.run(make())
    JobMachine.empty = path


class JobMachine(RuleBasedStateMachine):
    """Two owners and an admin start, cancel, pause and resume jobs, while a supervisor runs them
    and files come and go."""

    empty: Path
    jobs = Bundle("jobs")
    files = Bundle("files")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        shutil.copy(self.empty, self.folder / "training.db")
        self.runner = asyncio.Runner()
        self.now = START
        self.known: dict[str, Expected] = {}
        self.there: dict[str, str] = {}
        self.runner.run(self.open())

    async def open(self) -> None:
        url = f"sqlite:///{self.folder / 'training.db'}"
        self.store = await open_store(url, clock=self.clock)
        limits = JobLimits(datasets={"lines": None}, max_queued_jobs=MOST)
        self.domain = Jobs(self.store.jobs, Shelf(), limits, clock=self.clock)

    def run(self, work: Any) -> Any:
        return self.runner.run(work)

    def clock(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now

    @initialize(target=jobs, begun=st.tuples(*[st.sampled_from([[], [Q], [Q, R], [Q, R]])] * 3))
    def opened(self, begun: tuple[list[JobState], ...]) -> Any:
        ids = [self.start(caller, "", "", "") for caller in (ME, ME, YOU)]
        for id, states in zip(ids, begun, strict=True):
            for state in states:
                self.move(id, state)
        return multiple(*ids)

    def teardown(self) -> None:
        self.run(self.store.close())
        self.runner.close()
        shutil.rmtree(self.folder)

    @initialize(target=files)
    def uploaded(self) -> Any:
        return multiple(*(self.upload(owner) for owner in (ME, ME, YOU)))

    def upload(self, owner: Caller) -> str:
        id = new_file_id()
        name, purpose = "a.jsonl", Purpose.FINE_TUNE
        file = File(id, owner.id, name, purpose, "x", 1, "a", self.clock())

        async def put() -> None:
            await self.store.files.begin(Draft(id, owner.id, name, purpose, "x"))
            await self.store.files.keep(file, request_id="", most_owner_bytes=0)

        self.run(put())
        self.there[id] = owner.id
        return id

    @rule(file=files, caller=CALLERS)
    def delete(self, file: str, caller: Caller) -> None:
        used = any(job.file == file and job.state not in ENDED for job in self.known.values())
        removal = self.store.files.remove(file, caller.sees)
        if file not in self.there or caller.sees not in {None, self.there[file]}:
            with pytest.raises(NotFound):
                self.run(removal)
        elif used:
            with pytest.raises(FailedPrecondition):
                self.run(removal)
        else:
            self.run(removal)
            del self.there[file]

    @rule(
        target=jobs,
        caller=CALLERS,
        file=st.just("") | files,
        request_id=st.sampled_from(["", "", "a", "b"]),
        suffix=st.sampled_from(["", "x"]),
    )
    def start(self, caller: Caller, file: str, request_id: str, suffix: str) -> Any:
        source = DataSource(file_id=file) if file else DataSource(dataset="lines")
        starting = self.domain.start(JobSpec("default", source, suffix=suffix), request_id, caller)
        for id, job in self.known.items():
            if request_id and (job.owner, job.request[0]) == (caller.id, request_id):
                if (job.request[1], job.file) == (suffix, file):
                    assert self.run(starting).id == id
                else:
                    with pytest.raises(AlreadyExists):
                        self.run(starting)
                return multiple()
        if sum(job.state not in ENDED for job in self.known.values()) >= MOST:
            with pytest.raises(QueueFull):
                self.run(starting)
            return multiple()
        if file and (file not in self.there or caller.sees not in {None, self.there[file]}):
            with pytest.raises(NotFound) as missing:
                self.run(starting)
            assert missing.value.field == "job.training_file"
            return multiple()
        job: Job = self.run(starting)
        assert job.spec.base_model == "base"
        self.known[job.id] = Expected(caller.id, file, (request_id, suffix))
        return job.id

    @rule(ids=st.lists(jobs, min_size=1, max_size=3), turns=TURNS)
    def turn(self, ids: list[str], turns: list[tuple[str, Caller, int]]) -> None:
        """The same befalls some jobs."""
        for id in ids:
            self.befall(id, turns)

    def befall(self, id: str, turns: list[tuple[str, Caller, int]]) -> None:
        for name, caller, choice in turns:
            match name:
                case "cancel":
                    self.cancel(id, caller)
                case "pause":
                    self.pause(id, caller)
                case "resume":
                    self.resume(id, caller)
                case "advance":
                    self.advance(id, choice)
                case _:
                    self.leap(id, list(JobState)[choice % len(JobState)])

    def order(self, id: str, caller: Caller, ordering: Any) -> Expected | None:
        """Returns what is known of a job that a caller sees."""
        job = self.known[id]
        if caller.sees in {None, job.owner}:
            return job
        with pytest.raises(NotFound):
            self.run(ordering)
        return None

    def cancel(self, id: str, caller: Caller) -> None:
        ordering = self.domain.cancel(id, caller)
        if (job := self.order(id, caller, ordering)) is None:
            return
        if job.state in {JobState.SUCCEEDED, JobState.FAILED}:
            with pytest.raises(FailedPrecondition):
                self.run(ordering)
            return
        self.run(ordering)
        if job.state is R:
            job.requested = JobState.CANCELLED
        elif job.state is not JobState.CANCELLED:
            job.go(JobState.CANCELLED)

    def pause(self, id: str, caller: Caller) -> None:
        ordering = self.domain.pause(id, caller)
        if (job := self.order(id, caller, ordering)) is None:
            return
        if job.state in ENDED or job.requested is JobState.CANCELLED:
            with pytest.raises(FailedPrecondition):
                self.run(ordering)
            return
        self.run(ordering)
        if job.state is R:
            job.requested = P
        elif job.state is not P:
            job.go(P)

    def resume(self, id: str, caller: Caller) -> None:
        ordering = self.domain.resume(id, caller)
        if (job := self.order(id, caller, ordering)) is None:
            return
        if job.state in ENDED or job.requested is JobState.CANCELLED:
            with pytest.raises(FailedPrecondition):
                self.run(ordering)
            return
        self.run(ordering)
        job.requested = None
        if job.state is P:
            job.go(Q if job.checked else V)

    def advance(self, id: str, choice: int) -> None:
        """The supervisor takes a job where it may go next, or a worker takes a step."""
        job = self.known[id]
        nexts = {
            V: [Q, Q, Q, JobState.FAILED],
            Q: [R, R, R, JobState.FAILED],
            R: [R, job.requested or R, JobState.SUCCEEDED, JobState.FAILED],
        }.get(job.state, [])
        if not nexts:
            return
        self.move(id, nexts[choice % len(nexts)])

    def move(self, id: str, state: JobState) -> None:
        """Takes a job to a state, or a step further in it."""
        job = self.known[id]

        def change(kept: Job) -> Any:
            if state is kept.state:
                told = MetricsReport(kept.step + 1, 0.0, {"train_loss": 1.0})
                after = replace(kept, step=kept.step + 1)
                return after, [NewEvent(Level.INFO, "a step", told)], ()
            told = StateChange(kept.state, state)
            return replace(kept, state=state), [NewEvent(Level.INFO, "moved", told)], ()

        self.run(self.store.jobs.change(id, None, change))
        if state is job.state:
            job.step += 1
        else:
            job.go(state)

    def leap(self, id: str, state: JobState) -> None:
        """What may not follow does not."""
        if may_follow(self.known[id].state, state):
            return
        with pytest.raises(ValueError, match="can't follow"):
            self.run(
                self.store.jobs.change(id, None, lambda job: (replace(job, state=state), (), ()))
            )

    @invariant()
    def all_is_as_expected(self) -> None:
        self.run(self._look())

    async def _look(self) -> None:
        for caller in (ME, YOU, ADMIN):
            wanted = [id for id, job in self.known.items() if caller.sees in {None, job.owner}]
            page = await self.domain.list(Asked(1000), (), caller)
            assert [job.id for job in page.items] == wanted[::-1]
        for job in page.items:
            expected = self.known[job.id]
            assert (job.owner, job.state) == (expected.owner, expected.state)
            assert (job.requested_state, job.checked) == (expected.requested, expected.checked)
            assert job.step == expected.step
            assert (job.end_time is not None) == (job.state in ENDED)
            assert (job.start_time is not None) == (R in expected.states)
            look = await self.store.jobs.look(job.id, None, after_number=0, most=10_000)
            assert [event.number for event in look.events] == [
                number for number, _ in enumerate(look.events, 1)
            ]
            changes = [e.detail for e in look.events if isinstance(e.detail, StateChange)]
            assert [change.after for change in changes] == expected.states
            assert [change.before for change in changes] == [None, *expected.states[:-1]]
            steps = [e.detail.step for e in look.events if isinstance(e.detail, MetricsReport)]
            assert steps == [number + 1 for number in range(expected.step)]
        waiting = await self.store.jobs.unended()
        assert [job.id for job in waiting] == [
            id for id, job in self.known.items() if job.state not in ENDED
        ]


TestJobs = pytest.mark.timeout(600)(JobMachine.TestCase)
TestJobs.settings = settings(
    max_examples=25,
    stateful_step_count=15,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


def test_a_job_that_nobody_started_is_not_found() -> None:
    async def ask() -> None:
        with tempfile.TemporaryDirectory() as folder:
            store = await open_store(f"sqlite:///{folder}/training.db")
            jobs = Jobs(store.jobs, Shelf(), JobLimits())
            for order in (jobs.get, jobs.cancel, jobs.pause, jobs.resume):
                with pytest.raises(NotFound):
                    await order(new_job_id(), ADMIN)
            await store.close()

    asyncio.run(ask())
