"""The Ray trainer before a cluster that misbehaves. With a real one: see `tests/ray`."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from services.errors import Unavailable
from services.training.folder import JobFolder
from services.training.trainer import Worker, WorkerState
from services.training.trainers.ray_jobs import RayCluster, RayJobs
from services.training.trainers.ray_trainer import RayPatience, RayTrainer
from tests.integration.rpc.rpc_certificates import Authority
from tests.integration.training.jobs_api import (
    Fault,
    JobsApi,
    answers,
    closes,
    does_and_closes,
    hangs,
    jobs_api,
    serves,
    unused_address,
)

JOB = "ftjob-1"
FIRST = "penstock-ftjob-1-1"
ENDLESS = RayPatience(quiet_s=3600.0, stop_s=0.5, poll_s=0.01)
NO_QUIET = RayPatience(quiet_s=0.0, stop_s=60.0, poll_s=0.01)
"""A heartbeat stands still as soon as it is seen twice."""
LOST = {"error_type": "JOB_SUPERVISOR_ACTOR_DIED", "message": "The actor died."}


@pytest.fixture
def api() -> Iterator[JobsApi]:
    with jobs_api() as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> JobFolder:
    return JobFolder(tmp_path)


@pytest.fixture
async def trainer(api: JobsApi) -> AsyncIterator[RayTrainer]:
    trainer = RayTrainer(RayCluster(api.address), patience=NO_QUIET)
    yield trainer
    await trainer.close()


async def _started(trainer: RayTrainer, api: JobsApi, folder: JobFolder) -> None:
    await trainer.start(JOB, folder.path, 1)
    api.jobs[FIRST]["status"] = "RUNNING"


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (answers(503, b"<html>no upstream</html>"), "status 503"),
        (answers(500, b"No available agent to submit job"), "status 500"),
        (answers(302, b"", Location="http://login.example/"), "status 302"),
        (answers(401, b"Unauthorized"), "ray_token"),
        (answers(403, b"Forbidden"), "ray_token"),
        (answers(404, b"not here"), "status 404"),
        (answers(200, b"<html>hello</html>"), "Jobs API"),
        (answers(200, b"[{"), "Jobs API"),
        (answers(200, b'{"status": "RUNNING"}'), "Jobs API"),
        (answers(200, b'[{"status": 7}]'), "Jobs API"),
        (answers(200, b"\xff\xfe"), "Jobs API"),
        (closes, "does not answer"),
    ],
)
async def test_a_cluster_that_misbehaves_is_unavailable(
    api: JobsApi, fault: Fault, says: str
) -> None:
    jobs = RayJobs(RayCluster(api.address))
    api.faults = [fault]

    with pytest.raises(Unavailable) as raised:
        await jobs.list()

    assert says in raised.value.message
    assert "127.0.0.1" not in raised.value.message
    await jobs.close()


async def test_a_cluster_that_hangs_is_unavailable(api: JobsApi) -> None:
    jobs = RayJobs(RayCluster(api.address), answer_timeout_s=0.1)
    api.faults = [hangs]
    with pytest.raises(Unavailable, match="does not answer"):
        await jobs.list()
    await jobs.close()


async def test_a_cluster_that_is_not_there_is_unavailable() -> None:
    jobs = RayJobs(RayCluster(unused_address()))
    with pytest.raises(Unavailable, match="ray_address"):
        await jobs.list()
    await jobs.close()


@pytest.mark.parametrize(
    "address", ["", "ray-head:8265", "ray://head:10001", "http://", "/var/run/ray.sock"]
)
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="http://ray-head:8265"):
        RayCluster(address)


@pytest.mark.parametrize(("token", "header"), [("s3cret", "Bearer s3cret"), ("", None)])
async def test_the_token_goes_along_and_is_not_shown(
    api: JobsApi, token: str, header: str | None
) -> None:
    cluster = RayCluster(api.address, token=token)
    jobs = RayJobs(cluster)
    await jobs.list()
    await jobs.close()
    assert api.headers_seen[0].get("Authorization") == header
    assert "s3cret" not in repr(cluster)


async def test_https_is_checked_with_the_certificates_that_are_set(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "authority")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*authority.issue("ray-head"))
    with jobs_api(tls) as server:
        address = server.address.replace("http://", "https://")
        checked = RayJobs(RayCluster(address, ca_file=authority.certificate))
        assert await checked.list() == []
        await checked.close()
        unknown = RayJobs(RayCluster(address))
        with pytest.raises(Unavailable):
            await unknown.list()
        await unknown.close()


async def test_a_lost_answer_does_not_make_a_second_worker(
    api: JobsApi, trainer: RayTrainer, folder: JobFolder
) -> None:
    api.faults = [serves, does_and_closes]
    await trainer.start(JOB, folder.path, 1)
    await trainer.start(JOB, folder.path, 1)
    assert list(api.jobs) == [FIRST]


async def test_a_lost_submission_is_told_and_can_be_tried_again(
    api: JobsApi, trainer: RayTrainer, folder: JobFolder
) -> None:
    api.faults = [serves, closes]
    with pytest.raises(Unavailable):
        await trainer.start(JOB, folder.path, 1)
    assert api.jobs == {}
    await trainer.start(JOB, folder.path, 1)
    assert list(api.jobs) == [FIRST]


async def test_a_submission_that_arrives_late_is_not_doubled(
    api: JobsApi, trainer: RayTrainer, folder: JobFolder
) -> None:
    api.faults = [serves, closes]
    with pytest.raises(Unavailable):
        await trainer.start(JOB, folder.path, 1)
    # What the cluster hasn't listed yet is there when it is submitted again.
    body = {"submission_id": FIRST, "metadata": {"penstock_job": JOB, "penstock_attempt": "1"}}
    api.submit(body)
    api.faults = [answers(200, b"[]")]
    await trainer.start(JOB, folder.path, 1)
    assert list(api.jobs) == [FIRST]


async def test_the_heart_tells_where_the_cluster_does_not(
    api: JobsApi, trainer: RayTrainer, folder: JobFolder
) -> None:
    await _started(trainer, api, folder)
    api.faults = [closes]
    with pytest.raises(Unavailable):
        await trainer.look(JOB, folder.path)

    folder.heartbeat.touch()
    api.faults = [closes]
    assert await trainer.look(JOB, folder.path) == Worker(WorkerState.ALIVE)


async def test_a_worker_that_has_not_begun_is_starting(
    api: JobsApi, trainer: RayTrainer, folder: JobFolder
) -> None:
    await trainer.start(JOB, folder.path, 1)
    assert (await trainer.look(JOB, folder.path)).state is WorkerState.STARTING
    api.jobs[FIRST]["status"] = "RUNNING"
    assert (await trainer.look(JOB, folder.path)).state is WorkerState.STARTING
    folder.heartbeat.touch()
    assert (await trainer.look(JOB, folder.path)).state is WorkerState.ALIVE


async def test_a_worker_that_never_begins_does_not_start_forever(
    api: JobsApi, folder: JobFolder
) -> None:
    trainer = RayTrainer(RayCluster(api.address), patience=RayPatience(begin_s=-1.0))
    await _started(trainer, api, folder)
    assert (await trainer.look(JOB, folder.path)).state is WorkerState.ALIVE
    await trainer.close()


async def test_a_worker_that_ray_lost_lives_while_its_heart_beats(
    api: JobsApi, folder: JobFolder
) -> None:
    trainer = RayTrainer(RayCluster(api.address), patience=ENDLESS)
    await _started(trainer, api, folder)
    folder.heartbeat.touch()
    api.end(FIRST, **LOST)

    assert (await trainer.look(JOB, folder.path)).state is WorkerState.ALIVE
    with pytest.raises(Unavailable):
        await trainer.start(JOB, folder.path, 2)
    with pytest.raises(Unavailable):
        await trainer.kill(JOB, folder.path)
    assert list(api.jobs) == [FIRST]
    await trainer.close()


async def test_a_worker_that_ray_lost_is_gone_when_its_heart_stands_still(
    api: JobsApi, trainer: RayTrainer, folder: JobFolder
) -> None:
    await _started(trainer, api, folder)
    folder.heartbeat.touch()
    api.end(FIRST, **LOST)
    assert (await trainer.look(JOB, folder.path)).state is WorkerState.ALIVE
    assert (await trainer.look(JOB, folder.path)).state is WorkerState.GONE
    await trainer.kill(JOB, folder.path)


async def test_a_cluster_that_forgot_everything_lost_the_worker(
    api: JobsApi, trainer: RayTrainer, folder: JobFolder
) -> None:
    await _started(trainer, api, folder)
    folder.heartbeat.touch()
    api.jobs.clear()
    assert (await trainer.look(JOB, folder.path)).state is WorkerState.ALIVE
    folder.heartbeat.touch()
    with pytest.raises(Unavailable):
        await trainer.start(JOB, folder.path, 2)
    assert (await trainer.look(JOB, folder.path)).state is WorkerState.GONE
    await trainer.start(JOB, folder.path, 2)
    assert list(api.jobs) == ["penstock-ftjob-1-2"]


async def test_what_found_no_room_is_submitted_again(
    api: JobsApi, trainer: RayTrainer, folder: JobFolder
) -> None:
    await trainer.start(JOB, folder.path, 1)
    api.end(FIRST, error_type="JOB_SUPERVISOR_ACTOR_START_TIMEOUT", message="not within 900 s")
    for _ in range(3):
        assert (await trainer.look(JOB, folder.path)).state is WorkerState.STARTING
    assert list(api.jobs) == [FIRST, f"{FIRST}-2"]
    assert api.jobs[f"{FIRST}-2"]["metadata"] == api.jobs[FIRST]["metadata"]


async def test_what_waits_for_room_is_given_up_at_once(
    api: JobsApi, trainer: RayTrainer, folder: JobFolder
) -> None:
    await trainer.start(JOB, folder.path, 1)
    await trainer.kill(JOB, folder.path)
    assert api.jobs[FIRST]["status"] == "PENDING"
    assert (await trainer.look(JOB, folder.path)).state is WorkerState.GONE

    await trainer.start(JOB, folder.path, 2)
    assert (await trainer.look(JOB, folder.path)).state is WorkerState.STARTING


async def test_the_same_attempt_may_be_started_after_it_was_killed(
    api: JobsApi, trainer: RayTrainer, folder: JobFolder
) -> None:
    await _started(trainer, api, folder)
    await trainer.kill(JOB, folder.path)
    assert (await trainer.look(JOB, folder.path)) == Worker(WorkerState.GONE, "stopped")
    await trainer.start(JOB, folder.path, 1)
    assert list(api.jobs) == [FIRST, f"{FIRST}-2"]
    assert (await trainer.look(JOB, folder.path)).state is WorkerState.STARTING


async def test_kill_waits_until_the_worker_has_ended(
    api: JobsApi, trainer: RayTrainer, folder: JobFolder
) -> None:
    await _started(trainer, api, folder)
    asked: list[int] = []

    def slowly(job: dict[str, object]) -> None:
        asked.append(1)
        if len(asked) == 5:
            job["status"] = "STOPPED"

    api.on_stop = slowly
    await trainer.kill(JOB, folder.path)
    assert api.jobs[FIRST]["status"] == "STOPPED"


async def test_kill_tells_that_a_worker_does_not_end(api: JobsApi, folder: JobFolder) -> None:
    trainer = RayTrainer(RayCluster(api.address), patience=ENDLESS)
    await _started(trainer, api, folder)
    api.on_stop = lambda _job: None
    with pytest.raises(Unavailable):
        await trainer.kill(JOB, folder.path)
    folder.heartbeat.touch()
    assert (await trainer.look(JOB, folder.path)).state is WorkerState.ALIVE
    await trainer.close()


async def test_a_later_service_finds_what_the_folder_does_not_name(
    api: JobsApi, trainer: RayTrainer, folder: JobFolder
) -> None:
    await _started(trainer, api, folder)
    api.on_stop = lambda _job: None
    broken = RayTrainer(RayCluster(api.address), patience=ENDLESS)
    with pytest.raises(Unavailable):
        await broken.kill(JOB, folder.path)
    await broken.close()
    api.submit({"submission_id": "other", "metadata": {"penstock_job": "ftjob-2"}})
    api.submit({"submission_id": "foreign", "metadata": None})
    # What a job of the cluster starts has its metadata.
    api.jobs["driver"] = {**api.jobs[FIRST], "type": "DRIVER", "submission_id": None}

    folder.heartbeat.touch()
    later = RayTrainer(RayCluster(api.address), patience=NO_QUIET)
    assert (await later.look(JOB, folder.path)).state is WorkerState.ALIVE
    await later.start(JOB, folder.path, 2)
    assert len(api.jobs) == 4

    api.on_stop = lambda job: job.update(status="STOPPED")
    await later.kill(JOB, folder.path)
    assert (await later.look(JOB, folder.path)).state is WorkerState.GONE
    assert api.jobs["other"]["status"] == "PENDING"
    await later.close()


async def test_there_is_nothing_to_kill_or_to_see_of_a_job_that_never_ran(
    trainer: RayTrainer, folder: JobFolder
) -> None:
    await trainer.kill(JOB, folder.path)
    assert (await trainer.look(JOB, folder.path)).state is WorkerState.GONE
