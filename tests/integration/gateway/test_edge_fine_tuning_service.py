"""Fine-tuning of OpenAI's dialect with a real training service behind the edge.

Nobody trains here: jobs are taken on as the supervisor takes them on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.settings import Settings
from services.training.job_names import checkpoint_model_id, new_checkpoint_id
from services.training.job_records import (
    Checkpoint,
    CheckpointWritten,
    Hyperparameters,
    Job,
    JobError,
    JobState,
    Level,
    MetricsReport,
    NewEvent,
    StateChange,
)
from tests.integration.gateway.conftest import live_edge
from tests.integration.gateway.test_edge_bad_bodies import JSON
from tests.integration.gateway.test_edge_bad_fine_tuning import WHOLE, encoded, settle
from tests.integration.gateway.test_edge_bad_images import GENERATED
from tests.integration.gateway.test_edge_fine_tuning import JOBS, frames, pages
from tests.integration.gateway.test_edge_vector_stores import error_of
from tests.integration.training import file_platform
from tests.integration.training.job_platform import catalogue
from tests.postgres_server import empty_database

LINES = b'{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}\n'
UNKNOWN = "0" * 24


@dataclass
class Stack:
    """An edge before a real service, as a trainer uses it."""

    http: httpx.AsyncClient
    url: str
    service: file_platform.Platform

    def as_(self, token: str) -> httpx.AsyncClient:
        headers = {"authorization": f"Bearer {token}"}
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=30)

    async def upload(self, purpose: str = "fine-tune") -> str:
        files = {"file": ("a.jsonl", LINES)}
        answer = await self.http.post("/v1/files", data={"purpose": purpose}, files=files)
        assert answer.status_code == 200, answer.text
        return answer.json()["id"]

    async def start(self, **more: Any) -> str:
        body = {"model": "base", "training_file": await self.upload(), **more}
        answer = await self.http.post(JOBS, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()["id"]

    async def get(self, path: str) -> Any:
        answer = await self.http.get(f"{JOBS}/{path}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def move(self, job_id: str, *states: JobState, **facts: Any) -> Job:
        """Brings a job from state to state, as the supervisor does."""

        def change(state: JobState) -> Any:
            return lambda job: (
                replace(job, state=state, **facts),
                [NewEvent(Level.INFO, f"Now {state}.", StateChange(job.state, state))],
                (),
            )

        for state in states:
            job = await self.service.store.jobs.change(job_id, None, change(state))
        return job


@asynccontextmanager
async def stack(folder: Path, url: str = "") -> AsyncIterator[Stack]:
    async with (
        catalogue(folder) as models,
        file_platform.platform(folder, url, catalogue=models) as service,
    ):
        addresses = dict.fromkeys(Settings().addresses, "127.0.0.1:1")
        addresses |= {"training": service.server.address, "model": models}
        tokens = ("my-token", "your-token")
        settings = Settings(data_dir=folder, addresses=addresses, api_tokens=tokens)
        async with live_edge(settings) as (_, _, host, port):
            stacked = Stack(httpx.AsyncClient(), f"http://{host}:{port}", service)
            await stacked.http.aclose()
            async with stacked.as_("trainer-token") as stacked.http:
                yield stacked


@pytest.fixture
async def real(tmp_path: Path) -> AsyncIterator[Stack]:
    async with stack(tmp_path) as stacked:
        yield stacked


async def report(real: Stack, job_id: str, step: int) -> str:
    """Reports a step and a checkpoint, as the supervisor does."""
    metrics = {"train_loss": 1 / step, "train_mean_token_accuracy": 0.5}
    checkpoint_id = new_checkpoint_id()

    def change(job: Job) -> Any:
        checkpoint = Checkpoint(
            id=checkpoint_id,
            job_id=job.id,
            create_time=job.create_time + timedelta(seconds=step),
            step=step,
            epoch=step / 2,
            metrics=metrics,
            model_id=checkpoint_model_id(job.model_id, step),
            size_bytes=10,
        )
        events = [
            NewEvent(Level.INFO, f"Step {step}.", MetricsReport(step, step / 2, metrics)),
            NewEvent(Level.INFO, "Written.", CheckpointWritten(checkpoint_id)),
        ]
        return replace(job, step=step, step_count=4), events, [checkpoint]

    await real.service.store.jobs.change(job_id, None, change)
    return checkpoint_id


async def test_a_job_from_its_start_to_its_end(real: Stack) -> None:
    validation = await real.upload()
    method = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}}
    job_id = await real.start(
        validation_file=validation, suffix="my own", metadata={"a": "b"}, method=method
    )
    made = await real.get(job_id)
    assert (made["status"], made["model"]) == ("validating_files", "base")
    assert made["validation_file"] == validation
    assert 0 <= made["seed"] < 2**31
    auto = {"batch_size": "auto", "learning_rate_multiplier": "auto"}
    assert made["hyperparameters"] == {"n_epochs": 2, **auto}
    assert made["metadata"] == {"a": "b"}
    watching = asyncio.create_task(real.http.get(f"{JOBS}/{job_id}/events?stream=true"))
    chosen = Hyperparameters(epoch_count=2, batch_size=1, learning_rate_multiplier=1.0)
    await real.move(job_id, JobState.QUEUED, JobState.RUNNING, effective=chosen)
    checkpoints = [await report(real, job_id, step) for step in (2, 4)]
    whole = {"n_epochs": 2, "batch_size": 1, "learning_rate_multiplier": 1.0}
    assert (await real.get(job_id))["hyperparameters"] == whole
    await real.move(job_id, JobState.SUCCEEDED, trained_token_count=77)
    ended = await real.get(job_id)
    assert (ended["status"], ended["trained_tokens"]) == ("succeeded", 77)
    assert ended["fine_tuned_model"].startswith("ft:base:local:my-own:")
    assert ended["finished_at"] >= ended["created_at"]
    *events, done = frames((await watching).text)
    assert done == "[DONE]"
    listed = (await real.get(f"{job_id}/events?limit=100"))["data"]
    assert events == listed[::-1]
    measured = [event["data"] for event in events if event["type"] == "metrics"]
    assert [data["step"] for data in measured] == [2, 4]
    assert measured[0]["train_loss"] == 0.5
    resumed = frames(
        (await real.http.get(f"{JOBS}/{job_id}/events?stream=true&after={events[2]['id']}")).text
    )
    assert resumed == [*events[3:], "[DONE]"]
    found = await real.get(f"{job_id}/checkpoints")
    assert [item["id"] for item in found["data"]] == checkpoints[::-1]
    assert found["data"][0]["fine_tuned_model_checkpoint"].endswith(":ckpt-step-4")
    assert found["data"][0]["fine_tuning_job_id"] == job_id


async def test_orders(real: Stack) -> None:
    job_id = await real.start()

    async def order(word: str, status: int = 200) -> Any:
        answer = await real.http.post(f"{JOBS}/{job_id}/{word}")
        assert answer.status_code == status, answer.text
        return answer.json()

    assert (await order("pause"))["status"] == "paused"
    assert (await order("pause"))["status"] == "paused"
    assert (await order("resume"))["status"] == "validating_files"
    await real.move(job_id, JobState.QUEUED, JobState.RUNNING)
    # A worker has to obey first.
    assert (await order("cancel"))["status"] == "running"
    await real.move(job_id, JobState.CANCELLED)
    assert (await order("cancel"))["status"] == "cancelled"
    for word in ("pause", "resume"):
        error = (await order(word, 400))["error"]
        assert "cancelled" in error["message"]


async def test_a_job_that_failed(real: Stack) -> None:
    job_id = await real.start()
    error = JobError("invalid_training_file", "Line 3: no messages.", "training_file", line=3)
    await real.move(job_id, JobState.FAILED, error=error)
    failed = await real.get(job_id)
    assert failed["error"] == {
        "code": "invalid_training_file",
        "message": "Line 3: no messages.",
        "param": "training_file",
    }
    assert failed["fine_tuned_model"] is None
    error_of(await real.http.post(f"{JOBS}/{job_id}/cancel"))


async def test_each_sees_their_own(real: Stack) -> None:
    job_id = await real.start()
    async with real.as_("other-trainer-token") as other, real.as_("admin-token") as admin:
        for path in ("", "/events", "/checkpoints", "/events?stream=true"):
            error = error_of(await other.get(f"{JOBS}/{job_id}{path}"), 404)
            assert error["code"] == "fine_tune_not_found"
        error_of(await other.post(f"{JOBS}/{job_id}/cancel"), 404)
        assert (await other.get(JOBS)).json()["data"] == []
        assert [item["id"] for item in (await admin.get(JOBS)).json()["data"]] == [job_id]
    async with real.as_("my-token") as user:
        body = {"model": "base", "training_file": f"file-{UNKNOWN}"}
        for answer in (
            await user.get(JOBS),
            await user.post(JOBS, json=body),
            await user.get(f"{JOBS}/{job_id}"),
            await user.get(f"{JOBS}/{job_id}/events?stream=true"),
            await user.post(f"{JOBS}/{job_id}/pause"),
        ):
            assert error_of(answer, 403)["type"] == "permission_error"


@pytest.mark.parametrize(
    ("changes", "status", "param", "code"),
    [
        ({"model": "nothing"}, 404, "model", "model_not_found"),
        ({"model": "../../etc"}, 404, "model", "model_not_found"),
        ({"model": "models/"}, 400, "model", "missing_required_parameter"),
        ({"model": "vectors"}, 400, "model", "invalid_value"),
        ({"model": "a\u0000b"}, 404, "model", "model_not_found"),
        ({"training_file": f"file-{UNKNOWN}"}, 404, "training_file", None),
        ({"training_file": "file-1"}, 404, "training_file", None),
        ({"training_file": ".."}, 404, "training_file", None),
        ({"validation_file": f"file-{UNKNOWN}"}, 404, "validation_file", None),
        (
            {"model": "writer", "method": {"type": "dpo"}},
            400,
            "method.type",
            "unsupported_parameter",
        ),
    ],
)
async def test_refused(
    real: Stack, changes: dict[str, Any], status: int, param: str, code: str | None
) -> None:
    body = {"model": "base", "training_file": await real.upload(), **changes}
    error = error_of(await real.http.post(JOBS, json=body), status)
    assert (error["param"], error["code"]) == (param, code), error
    assert "job." not in error["message"]


async def test_files_for_something_else_and_files_in_use(real: Stack) -> None:
    other = await real.upload("assistants")
    error = error_of(await real.http.post(JOBS, json={"model": "base", "training_file": other}))
    assert error["param"] == "training_file"
    job_id = await real.start()
    used = (await real.get(job_id))["training_file"]
    error_of(await real.http.delete(f"/v1/files/{used}"))
    await real.http.post(f"{JOBS}/{job_id}/cancel")
    assert (await real.http.delete(f"/v1/files/{used}")).json()["deleted"] is True


async def test_a_key_starts_one_job(real: Stack) -> None:
    body = {"model": "base", "training_file": await real.upload()}
    headers = {"idempotency-key": "once"}
    both = [await real.http.post(JOBS, json=body, headers=headers) for _ in range(2)]
    assert both[0].json()["id"] == both[1].json()["id"]
    other = await real.http.post(JOBS, json=body | {"suffix": "x"}, headers=headers)
    assert error_of(other, 409)["code"] == "conflict"
    assert len((await real.http.get(JOBS)).json()["data"]) == 1


async def test_pages(real: Stack) -> None:
    ids = [await real.start(metadata={"n": str(n % 2)}) for n in range(4)]
    assert await pages(real.http, f"{JOBS}?limit=3") == [ids[:0:-1], ids[:1]]
    assert await pages(real.http, f"{JOBS}?limit=1&metadata[n]=1") == [[ids[3]], [ids[1]]]
    assert await pages(real.http, f"{JOBS}?metadata=null") == [[]]
    await real.move(ids[0], JobState.QUEUED, JobState.RUNNING)
    events = await pages(real.http, f"{JOBS}/{ids[0]}/events?limit=2")
    assert [len(page) for page in events] == [2, 1]
    error = error_of(await real.http.get(f"{JOBS}?after=ftjob-{UNKNOWN}"))
    assert error["param"] == "after"
    # What can't be the ID of a job is unknown.
    assert error_of(await real.http.get(f"{JOBS}?after=nobody"), 404)["param"] == "after"
    for path, prefix in (("events", "ftevent-"), ("checkpoints", "ftckpt_")):
        for after in ("nobody", f"{prefix}{UNKNOWN}"):
            error = error_of(await real.http.get(f"{JOBS}/{ids[0]}/{path}?after={after}"))
            assert error["param"] == "after"
    stream = f"{JOBS}/{ids[0]}/events?stream=true&after=ftevent-{UNKNOWN}"
    assert error_of(await real.http.get(stream))["param"] == "after"


@pytest.fixture(params=["sqlite", "postgres"])
async def either(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stack]:
    """Over each kind of database: what one takes the other may refuse."""
    if request.param == "sqlite":
        async with stack(tmp_path) as stacked:
            yield stacked
        return
    async with (
        empty_database(request.getfixturevalue("postgres")) as url,
        stack(tmp_path, url) as stacked,
    ):
        yield stacked


@pytest.fixture
async def body(either: Stack) -> dict[str, Any]:
    file_id = await either.upload()
    return WHOLE | {"training_file": file_id, "validation_file": file_id}


TEXTS = st.sampled_from(["model", "suffix", "training_file", "validation_file"])


@GENERATED
@given(
    changes=st.dictionaries(st.sampled_from(sorted(WHOLE)), JSON, max_size=3)
    | st.dictionaries(TEXTS, st.text(), max_size=2),
    labels=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
    key=st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=2),
)
async def test_generated_jobs(
    either: Stack,
    body: dict[str, Any],
    changes: dict[str, Any],
    labels: dict[str, str],
    key: str,
) -> None:
    headers = {"idempotency-key": key}
    content = encoded(body | {"metadata": labels} | changes)
    answer = await either.http.post(JOBS, content=content, headers=headers)
    if answer.status_code != 409:  # two jobs under one key
        settle(answer)


@pytest.mark.parametrize("changes", [{"metadata": {"a\0": "b\0"}}, {"suffix": "\0"}])
async def test_characters_that_a_database_may_not_take(
    either: Stack, body: dict[str, Any], changes: dict[str, Any]
) -> None:
    settle(await either.http.post(JOBS, content=encoded(body | {"model": "base"} | changes)))
