"""Jobs over gRPC."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from penstock.inference.v1 import priority_pb2
from penstock.training.v1 import file_pb2
from penstock.training.v1 import job_pb2 as job_pb
from penstock.training.v1 import training_service_pb2 as pb

from services.training.job_names import (
    checkpoint_model_id,
    new_checkpoint_id,
    new_event_id,
    new_job_id,
)
from services.training.job_records import (
    ENDED,
    Checkpoint,
    CheckpointWritten,
    Hyperparameters,
    Job,
    JobError,
    JobState,
    Level,
    MetricsReport,
    NewEvent,
)
from services.training.jobs import JobLimits
from services.training.names import new_file_id
from services.training.watching import WatchLimits
from tests.integration.reasons import reason
from tests.integration.training.file_platform import (
    ADMIN,
    ME,
    OTHER_TRAINER,
    TRAINER,
    Platform,
    platform,
)
from tests.integration.training.job_platform import catalogue, id_of, job_in, moved, started

LIMITS = JobLimits(organisation="acme", datasets={"lines": None}, max_queued_jobs=1000)
STATE = job_pb.Job.State


@pytest.fixture
async def models(tmp_path: Path) -> AsyncIterator[str]:
    """The address of a ModelService."""
    async with catalogue(tmp_path) as address:
        yield address


@pytest.fixture
async def service(tmp_path: Path, models: str) -> AsyncIterator[Platform]:
    """TrainingService beside it."""
    async with platform(tmp_path, catalogue=models, job_limits=LIMITS) as running:
        yield running


async def refused(call: Any) -> tuple[grpc.StatusCode, str, str]:
    """Status, reason and field of a call that fails."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), *reason(caught.value)


async def told(call: Any) -> list[pb.WatchJobEvent]:
    """All that a watch tells."""
    return [event async for event in call]


def no_job() -> str:
    return f"trainingJobs/{new_job_id()}"


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"base_model": ""}, "MISSING_FIELD", "job.base_model"),
    ({"base_model": "models/"}, "MISSING_FIELD", "job.base_model"),
    ({"base_model": "a\0b"}, "MODEL_NOT_FOUND", "job.base_model"),
    ({"base_model": "x" * 264}, "INVALID_ARGUMENT", "job.base_model"),
    ({"base_model": "nothing"}, "MODEL_NOT_FOUND", "job.base_model"),
    ({"base_model": "../../etc"}, "MODEL_NOT_FOUND", "job.base_model"),
    ({"base_model": "vectors"}, "INVALID_ARGUMENT", "job.base_model"),
    ({"training_dataset": ""}, "INVALID_ARGUMENT", "job.training_dataset"),
    ({"training_dataset": "other"}, "NOT_FOUND", "job.training_dataset"),
    ({"validation_dataset": "other"}, "NOT_FOUND", "job.validation_dataset"),
    ({"training_file": "x"}, "INVALID_ARGUMENT", "job.training_file"),
    ({"training_file": "files/../x"}, "INVALID_ARGUMENT", "job.training_file"),
    ({"training_file": "files/.."}, "NOT_FOUND", "job.training_file"),
    ({"training_file": f"files/{new_file_id()}"}, "NOT_FOUND", "job.training_file"),
    ({"validation_file": f"files/{new_file_id()}"}, "NOT_FOUND", "job.validation_file"),
    ({"suffix": "x" * 65}, "INVALID_ARGUMENT", "job.suffix"),
    ({"seed": -1}, "INVALID_ARGUMENT", "job.seed"),
    ({"priority": 9}, "INVALID_ARGUMENT", "job.priority"),
    ({"priority": priority_pb2.PRIORITY_HIGH}, "PERMISSION_DENIED", "job.priority"),
    ({"checkpoint_interval_steps": 0}, "INVALID_ARGUMENT", "job.checkpoint_interval_steps"),
    ({"metadata": {"a": "x" * 513}}, "INVALID_ARGUMENT", 'job.metadata["a"]'),
    ({"metadata": {str(n): "" for n in range(17)}}, "INVALID_ARGUMENT", "job.metadata"),
    ({"supervised": {"target": 9}}, "INVALID_ARGUMENT", "job.supervised.target"),
    ({"dpo": {"beta": math.nan}}, "INVALID_ARGUMENT", "job.dpo.beta"),
    ({"dpo": {"beta": 2.1}}, "INVALID_ARGUMENT", "job.dpo.beta"),
    ({"dpo": {}, "base_model": "writer"}, "UNSUPPORTED_PARAMETER", "job.dpo"),
    ({"lora": {"rank": 0}}, "INVALID_ARGUMENT", "job.lora.rank"),
    ({"lora": {"alpha": 0.0}}, "INVALID_ARGUMENT", "job.lora.alpha"),
    ({"lora": {"dropout": 1.0}}, "INVALID_ARGUMENT", "job.lora.dropout"),
    (
        {"lora": {"target_modules": ["../x"]}},
        "INVALID_ARGUMENT",
        "job.lora.target_modules[0]",
    ),
    (
        {"hyperparameters": {"epoch_count": 51}},
        "INVALID_ARGUMENT",
        "job.hyperparameters.epoch_count",
    ),
    (
        {"hyperparameters": {"learning_rate": math.nan}},
        "INVALID_ARGUMENT",
        "job.hyperparameters.learning_rate",
    ),
    (
        {"hyperparameters": {"learning_rate": 0.1, "learning_rate_multiplier": 2}},
        "INVALID_ARGUMENT",
        "job.hyperparameters",
    ),
    (
        {"hyperparameters": {"max_sequence_tokens": 65}},
        "UNSUPPORTED_PARAMETER",
        "job.hyperparameters.max_sequence_tokens",
    ),
]
"""Wishes, and the reason and the field for which they are refused."""


class TestStarting:
    async def test_a_job_says_what_was_asked_for(self, service: Platform) -> None:
        file, other = await service.put(who=TRAINER), await service.put(who=TRAINER)
        wishes: dict[str, Any] = {
            "training_file": file.name,
            "validation_file": other.name,
            "dpo": {"beta": 0.0},
            "lora": {"rank": 4, "alpha": 8.5, "dropout": 0.0, "target_modules": ["q_proj"]},
            "hyperparameters": {"epoch_count": 2, "learning_rate": 0.01, "warmup_ratio": 0.0},
            "suffix": "opening hours ü\n\0/",
            "seed": 0,
            "metadata": {"a": "b\0", "": "\U0001f600"},
            "priority": priority_pb2.PRIORITY_LOW,
            "checkpoint_interval_steps": 7,
        }
        job = await started(service, base_model="models/default", **wishes)
        asked = job_pb.Job(
            name=job.name,
            state=STATE.STATE_VALIDATING_FILES,
            base_model="base",
            owner="trainer",
            create_time=job.create_time,
            update_time=job.create_time,
            **wishes,
        )
        assert job == asked
        assert job.name.startswith("trainingJobs/ftjob-")
        assert service.nudges
        kept = await service.store.jobs.job(id_of(job), "trainer")
        assert kept.model_id.startswith("ft:base:acme:opening-hours-----:")

    async def test_what_is_unset_is_chosen(self, service: Platform) -> None:
        jobs = [await started(service, base_model="writer") for _ in range(3)]
        for job in jobs:
            assert job.WhichOneof("method") == "supervised"
            assert job.supervised.target == job_pb.SupervisedMethod.TARGET_ASSISTANT
            assert job.WhichOneof("tuning") == "lora"
            assert job.training_dataset == "lines"
            assert job.priority == priority_pb2.PRIORITY_NORMAL
            assert not job.HasField("checkpoint_interval_steps")
            assert not job.hyperparameters.ListFields()
            assert not job.lora.ListFields()
        assert len({job.seed for job in jobs}) > 1

    async def test_what_only_the_service_says_is_not_read(self, service: Platform) -> None:
        job = await started(
            service,
            name="trainingJobs/x",
            state=STATE.STATE_SUCCEEDED,
            owner="admin-key",
            fine_tuned_model="ft:x",
            trained_token_count=5,
            result_files=["files/x"],
            error={"code": "x"},
            requested_state=STATE.STATE_CANCELLED,
            metrics={"train_loss": 1.0},
        )
        assert (job.state, job.owner) == (STATE.STATE_VALIDATING_FILES, "trainer")
        assert (job.fine_tuned_model, job.trained_token_count) == ("", 0)
        assert not job.result_files
        assert not job.metrics
        assert not job.HasField("error")
        assert not job.requested_state

    async def test_a_request_id_starts_one_job(self, service: Platform, tmp_path: Path) -> None:
        file = await service.put(who=TRAINER)
        wishes: dict[str, Any] = {"base_model": "default", "training_file": file.name}
        first = await started(service, request_id="r", **wishes)
        await moved(service, first, JobState.CANCELLED)
        await service.stub.DeleteFile(pb.DeleteFileRequest(name=file.name), metadata=TRAINER)
        again = await started(service, request_id="r", **wishes)
        assert (again.name, again.state) == (first.name, STATE.STATE_CANCELLED)
        for change in ({"suffix": "x"}, {"base_model": "base"}, {"seed": again.seed}):
            call = started(service, request_id="r", **wishes | change)
            assert await refused(call) == (
                grpc.StatusCode.ALREADY_EXISTS,
                "ALREADY_EXISTS",
                "request_id",
            )
        theirs = await started(service, OTHER_TRAINER, "r", training_dataset="lines")
        assert theirs.name != first.name

    async def test_what_can_not_be_is_refused(self, service: Platform) -> None:
        for wishes, why, field in REFUSED:
            _, found, where = await refused(started(service, **wishes))
            assert (wishes, found, where) == (wishes, why, field)
        assert not (await service.stub.ListJobs(pb.ListJobsRequest(), metadata=ADMIN)).jobs

    async def test_a_request_has_a_job_and_a_fair_id(self, service: Platform) -> None:
        empty = service.stub.StartJob(pb.StartJobRequest(), metadata=TRAINER)
        assert (await refused(empty))[1:] == ("MISSING_FIELD", "job")
        none = pb.StartJobRequest(job={"base_model": "base"})
        call = service.stub.StartJob(none, metadata=TRAINER)
        assert (await refused(call))[1:] == ("MISSING_FIELD", "job.training_data")
        for id in ("x" * 129, "a\0b"):
            call = started(service, request_id=id)
            assert (await refused(call))[1:] == ("INVALID_ARGUMENT", "request_id")

    async def test_files_are_ones_own_and_for_training(self, service: Platform) -> None:
        theirs = await service.put(who=OTHER_TRAINER)
        batch = await service.put(who=TRAINER, purpose=file_pb2.FILE_PURPOSE_BATCH)
        call = started(service, training_file=theirs.name)
        assert (await refused(call))[1:] == ("NOT_FOUND", "job.training_file")
        call = started(service, validation_file=batch.name)
        assert (await refused(call))[1:] == ("INVALID_ARGUMENT", "job.validation_file")
        assert (await started(service, ADMIN, training_file=theirs.name)).owner == "admin-key"

    async def test_an_admin_may_go_first(self, service: Platform) -> None:
        low = await started(service, priority=priority_pb2.PRIORITY_LOW)
        normal = await started(service)
        high = await started(service, ADMIN, priority=priority_pb2.PRIORITY_HIGH)
        waiting = await service.store.jobs.unended()
        assert [job.id for job in waiting] == [id_of(job) for job in (high, normal, low)]

    async def test_too_many_are_turned_away(self, tmp_path: Path, models: str) -> None:
        limits = replace(LIMITS, max_queued_jobs=2)
        async with platform(tmp_path, catalogue=models, job_limits=limits) as service:
            first, _ = await started(service), await started(service, OTHER_TRAINER)
            code, why, _ = await refused(started(service))
            assert (code, why) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL")
            await moved(service, first, JobState.FAILED)
            await started(service)

    async def test_without_the_catalogue_nothing_starts(self, tmp_path: Path) -> None:
        async with platform(tmp_path, job_limits=LIMITS) as service:
            code, why, _ = await refused(started(service))
            assert (code, why) == (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE")


async def test_a_file_that_a_job_uses_can_not_be_deleted(service: Platform) -> None:
    file = await service.put(who=TRAINER)
    job = await started(service, training_file=file.name)
    delete = pb.DeleteFileRequest(name=file.name)
    for who in (TRAINER, ADMIN):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await service.stub.DeleteFile(delete, metadata=who)
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert id_of(job) in (caught.value.details() or "")
    assert await service.read(file.name, who=TRAINER) == b"x"
    await service.stub.CancelJob(pb.CancelJobRequest(name=job.name), metadata=TRAINER)
    await service.stub.DeleteFile(delete, metadata=TRAINER)


async def test_a_job_tells_how_it_goes(service: Platform) -> None:
    job = await job_in(service, JobState.RUNNING)
    get = pb.GetJobRequest(name=job.name)
    await moved(
        service,
        job,
        JobState.RUNNING,
        effective=Hyperparameters(epoch_count=3, batch_size=4, learning_rate=0.5),
        epoch=0.5,
        step=3,
        step_count=12,
        metrics={"train_loss": math.inf},
        restart_count=2,
        estimated_end_time=(await service.store.jobs.job(id_of(job), None)).create_time,
        trained_token_count=5,
    )
    found = await service.stub.GetJob(get, metadata=TRAINER)
    assert found.state == STATE.STATE_RUNNING
    assert (found.epoch, found.step, found.step_count, found.progress) == (0.5, 3, 12, 0.25)
    assert found.effective_hyperparameters == job_pb.Hyperparameters(
        epoch_count=3, batch_size=4, learning_rate=0.5
    )
    assert (dict(found.metrics), found.restart_count) == ({"train_loss": math.inf}, 2)
    assert found.HasField("start_time")
    assert found.estimated_end_time == found.create_time
    # Nothing is promised before it is there.
    assert (found.fine_tuned_model, found.HasField("trained_token_count")) == ("", False)
    file = new_file_id()
    ended = await moved(service, job, JobState.SUCCEEDED, result_files=(file,))
    found = await service.stub.GetJob(get, metadata=TRAINER)
    assert (found.state, found.progress) == (STATE.STATE_SUCCEEDED, 1.0)
    assert (found.fine_tuned_model, found.trained_token_count) == (ended.model_id, 5)
    assert (found.HasField("end_time"), found.HasField("estimated_end_time")) == (True, False)
    assert list(found.result_files) == [f"files/{file}"]


async def test_a_failed_job_tells_why(service: Platform) -> None:
    job = await started(service)
    why = JobError("invalid_training_file", "Line 7 is bad.", "training_file", 7, 3, 2)
    await moved(service, job, JobState.FAILED, error=why)
    found = await service.stub.GetJob(pb.GetJobRequest(name=job.name), metadata=TRAINER)
    assert found.error == job_pb.JobError(
        code="invalid_training_file",
        message="Line 7 is bad.",
        param="training_file",
        line=7,
        column=3,
        bad_line_count=2,
    )


RUNS = {JobState.RUNNING}
WAITS = {JobState.VALIDATING_FILES, JobState.QUEUED}


class TestOrders:
    async def test_cancelling(self, service: Platform) -> None:
        for state in JobState:
            await self._cancelling(service, state)

    async def _cancelling(self, service: Platform, state: JobState) -> None:
        job = await job_in(service, state)
        call = service.stub.CancelJob(pb.CancelJobRequest(name=job.name), metadata=TRAINER)
        if state in {JobState.SUCCEEDED, JobState.FAILED}:
            assert (await refused(call))[0] is grpc.StatusCode.FAILED_PRECONDITION
            return
        found = await call
        assert found.requested_state == (STATE.STATE_CANCELLED if state in RUNS else 0)
        assert found.state == (STATE.STATE_RUNNING if state in RUNS else STATE.STATE_CANCELLED)
        again = service.stub.CancelJob(pb.CancelJobRequest(name=job.name), metadata=TRAINER)
        assert await again == found

    async def test_pausing(self, service: Platform) -> None:
        for state in JobState:
            await self._pausing(service, state)

    async def _pausing(self, service: Platform, state: JobState) -> None:
        job = await job_in(service, state)
        call = service.stub.PauseJob(pb.PauseJobRequest(name=job.name), metadata=TRAINER)
        if state in ENDED:
            assert (await refused(call))[0] is grpc.StatusCode.FAILED_PRECONDITION
            return
        found = await call
        assert found.requested_state == (STATE.STATE_PAUSED if state in RUNS else 0)
        assert found.state == (STATE.STATE_RUNNING if state in RUNS else STATE.STATE_PAUSED)
        again = service.stub.PauseJob(pb.PauseJobRequest(name=job.name), metadata=TRAINER)
        assert await again == found

    async def test_resuming(self, service: Platform) -> None:
        for state in JobState:
            await self._resuming(service, state)

    async def _resuming(self, service: Platform, state: JobState) -> None:
        job = await job_in(service, state)
        resume = pb.ResumeJobRequest(name=job.name)
        if state in ENDED:
            call = service.stub.ResumeJob(resume, metadata=TRAINER)
            assert (await refused(call))[0] is grpc.StatusCode.FAILED_PRECONDITION
            return
        # Paused before its files were read: they are read now.
        wanted = STATE.STATE_VALIDATING_FILES if state is JobState.PAUSED else None
        before = await service.stub.GetJob(pb.GetJobRequest(name=job.name), metadata=TRAINER)
        for _ in range(2):
            found = await service.stub.ResumeJob(resume, metadata=TRAINER)
            assert found.state == (wanted or before.state)
        assert found.requested_state == 0

    async def test_a_job_that_was_checked_waits_for_a_worker_again(self, service: Platform) -> None:
        job = await job_in(service, JobState.RUNNING)
        await service.stub.PauseJob(pb.PauseJobRequest(name=job.name), metadata=TRAINER)
        await moved(service, job, JobState.PAUSED)
        found = await service.stub.GetJob(pb.GetJobRequest(name=job.name), metadata=TRAINER)
        assert (found.state, found.requested_state) == (STATE.STATE_PAUSED, 0)
        found = await service.stub.ResumeJob(pb.ResumeJobRequest(name=job.name), metadata=TRAINER)
        assert found.state == STATE.STATE_QUEUED

    async def test_a_pause_can_be_taken_back(self, service: Platform) -> None:
        job = await job_in(service, JobState.RUNNING)
        await service.stub.PauseJob(pb.PauseJobRequest(name=job.name), metadata=TRAINER)
        found = await service.stub.ResumeJob(pb.ResumeJobRequest(name=job.name), metadata=TRAINER)
        assert (found.state, found.requested_state) == (STATE.STATE_RUNNING, 0)

    async def test_cancelling_can_not_be_taken_back(self, service: Platform) -> None:
        job = await job_in(service, JobState.RUNNING)
        await service.stub.PauseJob(pb.PauseJobRequest(name=job.name), metadata=TRAINER)
        cancel = pb.CancelJobRequest(name=job.name)
        found = await service.stub.CancelJob(cancel, metadata=TRAINER)
        assert found.requested_state == STATE.STATE_CANCELLED
        for call in (
            service.stub.PauseJob(pb.PauseJobRequest(name=job.name), metadata=TRAINER),
            service.stub.ResumeJob(pb.ResumeJobRequest(name=job.name), metadata=TRAINER),
        ):
            assert (await refused(call))[0] is grpc.StatusCode.FAILED_PRECONDITION

    async def test_an_admin_orders_for_others(self, service: Platform) -> None:
        job = await started(service)
        cancel = pb.CancelJobRequest(name=job.name)
        found = await service.stub.CancelJob(cancel, metadata=ADMIN)
        assert (found.state, found.owner) == (STATE.STATE_CANCELLED, "trainer")


async def reported(service: Platform, job: job_pb.Job, step: int) -> Checkpoint:
    """Reports a step and a checkpoint, as the supervisor does."""
    kept = await service.store.jobs.job(id_of(job), None)
    checkpoint = Checkpoint(
        id=new_checkpoint_id(),
        job_id=kept.id,
        create_time=kept.create_time,
        step=step,
        epoch=step / 2,
        metrics={"train_loss": 1 / step},
        model_id=checkpoint_model_id(kept.model_id, step),
        size_bytes=10,
    )
    events = [
        NewEvent(Level.INFO, "measured", MetricsReport(step, step / 2, {"train_loss": 1 / step})),
        NewEvent(Level.WARN, "saved", CheckpointWritten(checkpoint.id)),
    ]

    def change(job: Job) -> Any:
        return replace(job, step=step, step_count=10), events, [checkpoint]

    await service.store.jobs.change(kept.id, None, change)
    return checkpoint


class TestLists:
    @settings(
        max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(size=st.integers(1, 6), by_name=st.booleans(), ended=st.booleans())
    async def test_pages_of_jobs_are_their_list(
        self, service: Platform, size: int, by_name: bool, ended: bool
    ) -> None:
        everything = await service.stub.ListJobs(pb.ListJobsRequest(), metadata=TRAINER)
        for number in range(5 - len(everything.jobs)):
            job = await started(service)
            await started(service, OTHER_TRAINER)
            if number % 2:
                await moved(service, job, JobState.CANCELLED)
        states = [STATE.STATE_CANCELLED, STATE.STATE_FAILED] if ended else []
        request: dict[str, Any] = {"states": states}
        whole = await service.stub.ListJobs(pb.ListJobsRequest(**request), metadata=TRAINER)
        assert len(whole.jobs) == (2 if ended else 5)
        assert [job.create_time.ToNanoseconds() for job in whole.jobs] == sorted(
            (job.create_time.ToNanoseconds() for job in whole.jobs), reverse=True
        )
        found: list[job_pb.Job] = []
        request["page_size"] = size
        while True:
            page = await service.stub.ListJobs(pb.ListJobsRequest(**request), metadata=TRAINER)
            assert len(page.jobs) <= size
            found += page.jobs
            if not page.next_page_token:
                break
            place = {"after": found[-1].name} if by_name else {"page_token": page.next_page_token}
            request = request | place
        assert found == list(whole.jobs)

    @pytest.mark.parametrize("by_name", [True, False])
    async def test_pages_of_what_happened_are_its_list(
        self, service: Platform, by_name: bool
    ) -> None:
        job = await job_in(service, JobState.RUNNING)
        checkpoints = [await reported(service, job, step) for step in range(1, 6)]
        for method, items, count in (
            ("ListEvents", "events", 13),
            ("ListCheckpoints", "checkpoints", 5),
        ):
            found: list[Any] = []
            request: dict[str, Any] = {"parent": job.name, "page_size": 2}
            asked = getattr(pb, f"{method}Request")
            while True:
                page = await getattr(service.stub, method)(asked(**request), metadata=TRAINER)
                found += getattr(page, items)
                if not page.next_page_token:
                    break
                place = (
                    {"after": found[-1].name} if by_name else {"page_token": page.next_page_token}
                )
                request = request | place
            request = {"parent": job.name}
            whole = await getattr(service.stub, method)(asked(**request), metadata=TRAINER)
            assert found == list(getattr(whole, items))
            assert len({item.name for item in found}) == count
        events = [event async for event in self._events(service, job)]
        assert [event.WhichOneof("detail") for event in events[:2]] == ["checkpoint", "metrics"]
        assert events[0].checkpoint == f"{job.name}/checkpoints/{checkpoints[-1].id}"
        assert events[0].level == job_pb.JobEvent.LEVEL_WARN
        assert events[1].metrics == job_pb.MetricsReport(
            step=5, epoch=2.5, metrics={"train_loss": 0.2}
        )
        first = events[-1].state_change
        assert (getattr(first, "from"), first.to) == (0, STATE.STATE_VALIDATING_FILES)
        last = await service.stub.ListCheckpoints(
            pb.ListCheckpointsRequest(parent=job.name, page_size=1), metadata=TRAINER
        )
        kept = {checkpoint.id: checkpoint for checkpoint in checkpoints}
        [found_last] = last.checkpoints
        source = kept[found_last.name.rpartition("/")[2]]
        assert (found_last.step, found_last.epoch) == (source.step, source.epoch)
        assert (found_last.model, found_last.size_bytes) == (source.model_id, 10)
        assert dict(found_last.metrics) == source.metrics

    async def _events(self, service: Platform, job: job_pb.Job) -> AsyncIterator[job_pb.JobEvent]:
        page = await service.stub.ListEvents(
            pb.ListEventsRequest(parent=job.name), metadata=TRAINER
        )
        for event in page.events:
            yield event

    async def test_tokens_belong_to_one_list(self, service: Platform) -> None:
        jobs = [await job_in(service, JobState.QUEUED) for _ in range(2)]
        page = await service.stub.ListJobs(pb.ListJobsRequest(page_size=1), metadata=TRAINER)
        events = await service.stub.ListEvents(
            pb.ListEventsRequest(parent=jobs[0].name, page_size=1), metadata=TRAINER
        )
        wrong: list[Any] = [
            service.stub.ListJobs(
                pb.ListJobsRequest(page_token=page.next_page_token), metadata=ADMIN
            ),
            service.stub.ListJobs(
                pb.ListJobsRequest(page_token=page.next_page_token, states=[2]), metadata=TRAINER
            ),
            service.stub.ListEvents(
                pb.ListEventsRequest(parent=jobs[1].name, page_token=events.next_page_token),
                metadata=TRAINER,
            ),
            service.stub.ListCheckpoints(
                pb.ListCheckpointsRequest(parent=jobs[0].name, page_token=events.next_page_token),
                metadata=TRAINER,
            ),
            service.stub.ListJobs(pb.ListJobsRequest(page_token="x"), metadata=TRAINER),
        ]
        for call in wrong:
            assert (await refused(call))[1:] == ("INVALID_ARGUMENT", "page_token")

    async def test_what_makes_no_sense_is_refused(self, service: Platform) -> None:
        job, other = await started(service), await started(service)
        strange = f"{other.name}/events/{new_event_id()}"
        cases: list[tuple[str, dict[str, Any], str, str]] = [
            ("ListJobs", {"page_size": -1}, "INVALID_ARGUMENT", "page_size"),
            ("ListJobs", {"states": [0]}, "MISSING_FIELD", "states[0]"),
            ("ListJobs", {"states": [99]}, "INVALID_ARGUMENT", "states[0]"),
            ("ListJobs", {"after": "x"}, "INVALID_ARGUMENT", "after"),
            ("ListJobs", {"after": no_job()}, "INVALID_ARGUMENT", "after"),
            ("ListJobs", {"after": "trainingJobs/.."}, "NOT_FOUND", "after"),
            ("ListJobs", {"after": job.name, "page_token": "x"}, "INVALID_ARGUMENT", ""),
            ("ListEvents", {"page_size": -1}, "INVALID_ARGUMENT", "page_size"),
            ("ListEvents", {"after": "x"}, "INVALID_ARGUMENT", "after"),
            ("ListEvents", {"after": strange}, "INVALID_ARGUMENT", "after"),
            (
                "ListEvents",
                {"after": f"{job.name}/events/{new_event_id()}"},
                "INVALID_ARGUMENT",
                "after",
            ),
            ("ListEvents", {"after": f"{job.name}/events/.."}, "INVALID_ARGUMENT", "after"),
            ("ListCheckpoints", {"page_size": -1}, "INVALID_ARGUMENT", "page_size"),
            (
                "ListCheckpoints",
                {"after": f"{job.name}/checkpoints/{new_checkpoint_id()}"},
                "INVALID_ARGUMENT",
                "after",
            ),
        ]
        for method, request, why, field in cases:
            parent = {} if method == "ListJobs" else {"parent": job.name}
            message = getattr(pb, f"{method}Request")(**parent, **request)
            found = await refused(getattr(service.stub, method)(message, metadata=TRAINER))
            assert (method, request, *found[1:]) == (method, request, why, field)


UNARY = ("GetJob", "CancelJob", "PauseJob", "ResumeJob", "ListEvents", "ListCheckpoints")


def about(method: str, name: str) -> Any:
    """A request about a job."""
    key = "parent" if method.startswith("List") else "name"
    return getattr(pb, f"{method}Request")(**{key: name})


class TestOthers:
    async def test_jobs_of_others_are_not_there(self, service: Platform) -> None:
        job = await job_in(service, JobState.RUNNING)
        await reported(service, job, 1)
        before = await service.store.jobs.look(id_of(job), None, after_number=0, most=99)
        for name, who in ((job.name, OTHER_TRAINER), (no_job(), ADMIN)):
            for method in UNARY:
                call = getattr(service.stub, method)(about(method, name), metadata=who)
                code, why, _ = await refused(call)
                assert (code, why) == (grpc.StatusCode.NOT_FOUND, "NOT_FOUND")
            for place in ({}, {"from_start": True}, {"resume_after": f"{name}/events/x"}):
                if place.get("resume_after"):
                    event = before.events[0].id
                    place = {"resume_after": f"{name}/events/{event}"}
                request = pb.WatchJobRequest(name=name, **place)
                code, _, _ = await refused(told(service.stub.WatchJob(request, metadata=who)))
                assert code is grpc.StatusCode.NOT_FOUND
        seen = await service.stub.ListJobs(pb.ListJobsRequest(), metadata=OTHER_TRAINER)
        assert not seen.jobs
        after = pb.ListJobsRequest(after=job.name)
        call = service.stub.ListJobs(after, metadata=OTHER_TRAINER)
        assert (await refused(call))[1:] == ("INVALID_ARGUMENT", "after")
        everybodys = await service.stub.ListJobs(pb.ListJobsRequest(), metadata=ADMIN)
        assert [found.name for found in everybodys.jobs] == [job.name]
        look = await service.store.jobs.look(id_of(job), None, after_number=0, most=99)
        assert look == before

    async def test_users_may_not_train(self, service: Platform) -> None:
        job = await started(service)
        calls = [
            service.stub.StartJob(pb.StartJobRequest(job=job), metadata=ME),
            service.stub.ListJobs(pb.ListJobsRequest(), metadata=ME),
            told(service.stub.WatchJob(pb.WatchJobRequest(name=job.name), metadata=ME)),
            *(getattr(service.stub, m)(about(m, job.name), metadata=ME) for m in UNARY),
        ]
        for call in calls:
            assert (await refused(call))[0] is grpc.StatusCode.PERMISSION_DENIED

    async def test_odd_names_are_refused(self, service: Platform) -> None:
        names = ("", "x", "trainingJobs/", "trainingJobs/a/b", "/", "trainingJobs/a\0/")
        for method, name in product(UNARY, names):
            call = getattr(service.stub, method)(about(method, name), metadata=TRAINER)
            code, _, field = await refused(call)
            assert code is grpc.StatusCode.INVALID_ARGUMENT
            assert field in {"name", "parent"}
        for name in names:
            watch = service.stub.WatchJob(pb.WatchJobRequest(name=name), metadata=TRAINER)
            assert (await refused(told(watch)))[0] is grpc.StatusCode.INVALID_ARGUMENT

    async def test_ids_of_no_job_are_not_found(self, service: Platform) -> None:
        ids = ("..", "%2e", "ftjob-", "ftjob-" + "\0" * 24, "ftjob-" + "ü" * 24)
        for method, id in product(UNARY, ids):
            message = about(method, f"trainingJobs/{id}")
            call = getattr(service.stub, method)(message, metadata=TRAINER)
            assert (await refused(call))[0] is grpc.StatusCode.NOT_FOUND


class TestWatching:
    async def test_a_watch_tells_all_until_the_end(self, service: Platform) -> None:
        job = await job_in(service, JobState.RUNNING)
        request = pb.WatchJobRequest(name=job.name, from_start=True)
        call = service.stub.WatchJob(request, metadata=TRAINER)
        first = await call.read()
        assert first.job.state == STATE.STATE_RUNNING
        await reported(service, job, 1)
        await moved(service, job, JobState.SUCCEEDED, trained_token_count=7)
        rest = [event async for event in _rest(call)]
        happened = [
            event.happened.name for event in rest if event.WhichOneof("event") == "happened"
        ]
        listed = await service.stub.ListEvents(
            pb.ListEventsRequest(parent=job.name), metadata=TRAINER
        )
        assert happened == [event.name for event in listed.events][::-1]
        assert rest[-1].finish.job.state == STATE.STATE_SUCCEEDED
        assert rest[-1].finish.job.trained_token_count == 7
        assert [event.WhichOneof("event") for event in rest].count("finish") == 1

    async def test_a_watch_goes_on_where_it_was(self, service: Platform) -> None:
        job = await job_in(service, JobState.SUCCEEDED)
        events = [
            event.happened
            for event in await told(
                service.stub.WatchJob(
                    pb.WatchJobRequest(name=job.name, from_start=True), metadata=TRAINER
                )
            )
            if event.WhichOneof("event") == "happened"
        ]
        assert len(events) == 4
        for number, event in enumerate(events, 1):
            request = pb.WatchJobRequest(name=job.name, resume_after=event.name)
            words = await told(service.stub.WatchJob(request, metadata=TRAINER))
            kinds = [word.WhichOneof("event") for word in words]
            assert kinds == ["job", *["happened"] * (4 - number), "finish"]
            assert [word.happened for word in words[1:-1]] == events[number:]
        now = service.stub.WatchJob(pb.WatchJobRequest(name=job.name), metadata=TRAINER)
        assert [word.WhichOneof("event") for word in await told(now)] == ["job", "finish"]

    async def test_places_that_are_not_there_are_refused(self, service: Platform) -> None:
        job = (await started(service)).name
        places: list[tuple[dict[str, Any], str]] = [
            ({"resume_after": "x"}, "resume_after"),
            ({"resume_after": f"{job}/events/x"}, "resume_after"),
            ({"resume_after": f"{job}/events/{new_event_id()}"}, "resume_after"),
            ({"resume_after": f"{no_job()}/events/{new_event_id()}"}, "resume_after"),
            ({"resume_after": f"{job}/events/{new_event_id()}", "from_start": True}, ""),
        ]
        for place, field in places:
            request = pb.WatchJobRequest(name=job, **place)
            call = told(service.stub.WatchJob(request, metadata=TRAINER))
            assert (await refused(call))[1:] == ("INVALID_ARGUMENT", field), place

    async def test_what_other_processes_change_is_seen(self, tmp_path: Path, models: str) -> None:
        async with (
            platform(tmp_path, catalogue=models, job_limits=LIMITS) as one,
            platform(
                tmp_path,
                catalogue=models,
                job_limits=LIMITS,
                watch_limits=WatchLimits(poll_s=0.05, heartbeat_s=600),
            ) as two,
        ):
            job = await started(one)
            call = two.stub.WatchJob(pb.WatchJobRequest(name=job.name), metadata=TRAINER)
            assert (await call.read()).job.name == job.name
            await one.stub.PauseJob(pb.PauseJobRequest(name=job.name), metadata=TRAINER)
            assert (await call.read()).happened.state_change.to == STATE.STATE_PAUSED
            assert (await call.read()).job.state == STATE.STATE_PAUSED
            await one.stub.CancelJob(pb.CancelJobRequest(name=job.name), metadata=ADMIN)
            assert (await call.read()).happened.state_change.to == STATE.STATE_CANCELLED
            assert (await call.read()).finish.job.state == STATE.STATE_CANCELLED
            assert await call.read() is grpc.aio.EOF

    async def test_silence_is_told(self, tmp_path: Path, models: str) -> None:
        limits = WatchLimits(heartbeat_s=0.05)
        async with platform(
            tmp_path, catalogue=models, job_limits=LIMITS, watch_limits=limits
        ) as service:
            job = await started(service)
            call = service.stub.WatchJob(pb.WatchJobRequest(name=job.name), metadata=TRAINER)
            words = [await call.read() for _ in range(3)]
            assert [word.WhichOneof("event") for word in words] == ["job", "heartbeat", "heartbeat"]
            assert all(word.heartbeat.ToMilliseconds() >= 50 for word in words[1:])
            call.cancel()

    async def test_too_many_watches_are_turned_away(self, tmp_path: Path, models: str) -> None:
        limits = WatchLimits(max_watches=2)
        async with platform(
            tmp_path, catalogue=models, job_limits=LIMITS, watch_limits=limits
        ) as service:
            job = await started(service)
            request = pb.WatchJobRequest(name=job.name)
            calls = [service.stub.WatchJob(request, metadata=TRAINER) for _ in range(2)]
            for call in calls:
                await call.read()
            third = service.stub.WatchJob(request, metadata=TRAINER)
            assert (await refused(told(third)))[1] == "QUEUE_FULL"
            calls[0].cancel()
            while True:
                fourth = service.stub.WatchJob(request, metadata=TRAINER)
                try:
                    assert (await fourth.read()).job.name == job.name
                    break
                except grpc.aio.AioRpcError:
                    await asyncio.sleep(0.05)

    async def test_a_server_that_stops_says_so(self, service: Platform) -> None:
        job = await started(service)
        call = service.stub.WatchJob(pb.WatchJobRequest(name=job.name), metadata=TRAINER)
        await call.read()
        stopping = asyncio.create_task(service.server.stop())
        code, why, _ = await refused(told(_rest(call)))
        assert (code, why) == (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE")
        await stopping


async def _rest(call: Any) -> AsyncIterator[pb.WatchJobEvent]:
    while (event := await call.read()) is not grpc.aio.EOF:
        yield event


def messages(cls: Any) -> st.SearchStrategy[Any]:
    """Any message of a kind, sensible or not: each field left out or with any value."""
    descriptor = cls.DESCRIPTOR
    fields: dict[str, Any] = {}
    for field in descriptor.fields:
        if (strategy := _values(field)) is not None:
            fields[field.name] = strategy
    return st.fixed_dictionaries({}, optional=fields).map(lambda values: _built(cls, values))


_TEXTS = st.sampled_from(
    [
        "base",
        "writer",
        "models/default",
        "lines",
        "files/x",
        "trainingJobs/x",
        f"trainingJobs/{new_job_id()}",
        "\0",
    ]
) | st.text(st.characters(exclude_categories=["Cs"]), max_size=70)


def _values(field: Any) -> Any:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        value = field.message_type.fields_by_name["value"]
        return st.dictionaries(_TEXTS, _one(value), max_size=2)
    one = _one(field)
    return st.lists(one, max_size=2) if one is not None and field.is_repeated else one


def _one(field: Any) -> Any:
    if field.message_type is not None:
        if field.message_type.file.package != "penstock.training.v1":
            return None
        return messages(field.message_type._concrete_class)
    if field.enum_type is not None:
        return st.integers(-1, 12)
    match field.cpp_type:
        case field.CPPTYPE_STRING:
            return _TEXTS
        case field.CPPTYPE_BOOL:
            return st.booleans()
        case field.CPPTYPE_INT32:
            return st.integers(-(2**31), 2**31 - 1) | st.integers(-1, 70)
        case field.CPPTYPE_INT64:
            return st.integers(-(2**63), 2**63 - 1)
        case _:
            return st.floats()


def _built(cls: Any, values: dict[str, Any]) -> Any:
    message = cls()
    for name, value in values.items():
        field = cls.DESCRIPTOR.fields_by_name[name]
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            getattr(message, name).update(value)
        elif field.is_repeated:
            getattr(message, name).extend(value)
        elif field.message_type is not None:
            getattr(message, name).CopyFrom(value)
        else:
            setattr(message, name, value)
    return message


FAIR = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.FAILED_PRECONDITION,
}


@pytest.mark.parametrize("method", ["StartJob", "ListJobs", *UNARY])
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
async def test_no_request_breaks_the_service(
    service: Platform, method: str, data: st.DataObject
) -> None:
    message = data.draw(messages(getattr(pb, f"{method}Request")))
    if method == "StartJob" and data.draw(st.booleans()):
        # Else few of them would be more than half wrong.
        message.job.base_model, message.job.training_dataset = "base", "lines"
        message.job.ClearField(data.draw(st.sampled_from(["hyperparameters", "metadata"])))
        message.job.ClearField("validation_data")
    for who in (TRAINER, ADMIN):
        call = getattr(service.stub, method)(message, metadata=who)
        assert await call.code() in FAIR


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(message=messages(pb.WatchJobRequest))
async def test_no_watch_breaks_the_service(service: Platform, message: pb.WatchJobRequest) -> None:
    call = service.stub.WatchJob(message, metadata=TRAINER)
    assert await call.code() in FAIR
