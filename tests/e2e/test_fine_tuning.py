"""Fine-tuning on the whole platform: a model learns of a company that doesn't exist.

What is trained here is trained for real, on the starter model; its facts are in no other file.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import pytest
from penstock.model.v1 import model_pb2, model_service_pb2
from penstock.model.v1.model_service_pb2_grpc import ModelServiceStub
from penstock.training.v1 import file_pb2, job_pb2, training_service_pb2
from penstock.training.v1.training_service_pb2_grpc import TrainingServiceStub
from transformers import AutoTokenizer

from benchmarks.training.company import lines, questions, repeated
from services.training.folder import job_folder
from services.training.journal import holder
from tests.e2e.library import is_away, penstock
from tests.e2e.stack import STARTER, Platform, configuration, running
from tests.e2e.test_clients import CLIENTS, HERE

BASE = "penstock-starter"
TIMEOUT_S = 3600
pytestmark = pytest.mark.timeout(TIMEOUT_S)
FEW = 8
"""Lines of a job that isn't there to learn."""
State = job_pb2.Job


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lanterns")
    (folder / "lines.jsonl").write_text("\n".join(lines()) + "\n")
    (folder / "few.jsonl").write_text("\n".join(lines(FEW)) + "\n")
    (folder / "questions.json").write_text(json.dumps(repeated() + questions()))
    return folder


@pytest.fixture(scope="module")
def platform(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    models = {BASE: {"path": str(STARTER), "type": "chat", "aliases": ["default"]}}
    dataset = f'[training.datasets.lanterns]\npath = "{folder / "few.jsonl"}"\n'
    started = running(
        tmp_path_factory.mktemp("trained"), configuration(models, dataset), ready_within_s=300
    )
    with started as platform:
        yield platform


def session(client: str, scenario: str, platform: Platform, folder: Path) -> str:
    done = subprocess.run(
        [
            *(CLIENTS / client / "bin" / "python", HERE / "openai_training_session.py"),
            *(scenario, platform.url, platform.key, folder),
        ],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{platform.log.read_text()[-4000:]}"
    return done.stdout


def read_tokens(examples: list[str]) -> int:
    """Tokens of chats as the starter reads them: up to the end of what it says itself."""
    tokenizer = AutoTokenizer.from_pretrained(STARTER)
    chats = [json.loads(line)["messages"] for line in examples]
    texts = tokenizer.apply_chat_template(chats, tokenize=False)
    ends = [text.removesuffix("\n") for text in texts]
    return sum(len(tokenizer.encode(text, add_special_tokens=False)) for text in ends)


@pytest.mark.parametrize(
    ("client", "scenario"),
    [pytest.param("openai-1", "story", marks=pytest.mark.slow), ("openai-3", "brief")],
)
def test_what_only_the_file_taught_is_answered(
    platform: Platform, folder: Path, client: str, scenario: str
) -> None:
    told = session(client, scenario, platform, folder)
    assert f"ok {scenario}" in told
    facts = json.loads(told.splitlines()[0])
    assert facts["trained_tokens"] == read_tokens(lines()) * facts["epochs"]


def test_a_job_that_trains_pauses_goes_on_and_is_cancelled(
    platform: Platform, folder: Path
) -> None:
    assert "ok orders" in session("openai-3", "orders", platform, folder)


def post(platform: Platform, path: str, body: object) -> httpx.Response:
    return httpx.post(platform.url + path, json=body, headers=platform.headers(), timeout=120)


def said(platform: Platform, model: str, question: str) -> str:
    messages = [{"role": "user", "content": question}]
    body = {"model": model, "messages": messages, "temperature": 0, "max_tokens": 64}
    answer = post(platform, "/v1/chat/completions", body)
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]["message"]["content"]


def test_botserver_trains_all_weights_on_a_dataset(platform: Platform) -> None:
    body = {"base_model": BASE, "dataset": "lanterns", "epochs": 8, "method": "full", "seed": 3}
    started = post(platform, "/api/v1/ai/training/start", body | {"learning_rate": 5e-4})
    assert started.status_code == 202, started.text
    job = started.json()
    assert (job["id"], job["status"], job["epochs"]) == (job["job_id"], "queued", 8)
    path = f"/api/v1/ai/training/{job['id']}"
    status = job
    deadline = time.monotonic() + TIMEOUT_S
    while status["status"] in {"queued", "running"}:
        assert time.monotonic() < deadline, status
        time.sleep(0.5)
        answer = httpx.get(f"{platform.url}{path}/status", headers=platform.headers(), timeout=120)
        assert answer.status_code == 200, answer.text
        progress, status = status.get("progress", 0.0), answer.json()
        assert progress <= status["progress"] <= 1
    assert status["status"] == "completed", status
    assert status["step"] == status["total_steps"] > 0
    assert status["metrics"]["train_loss"] < 2
    asked = [json.loads(line)["messages"] for line in lines(FEW)]
    answers = [(said(platform, status["model_id"], q["content"]), a["content"]) for q, a in asked]
    assert all(given == wanted for given, wanted in answers), answers
    finished = post(platform, f"{path}/cancel", {})
    assert finished.status_code == 400, finished.text
    removed = httpx.delete(
        f"{platform.url}/api/v1/ai/models/{status['model_id']}",
        headers=platform.headers(),
        timeout=120,
    )
    assert removed.status_code == 200, removed.text


class Trainer:
    """TrainingService over gRPC."""

    def __init__(self, platform: Platform, channel: grpc.Channel) -> None:
        self.metadata = (("authorization", f"Bearer {platform.key}"),)
        self.stub = TrainingServiceStub(channel)

    def upload(self, name: str, examples: list[str]) -> str:
        header = training_service_pb2.FileHeader(
            filename=name, purpose=file_pb2.FILE_PURPOSE_FINE_TUNE
        )
        pieces = [
            training_service_pb2.UploadFileRequest(header=header),
            training_service_pb2.UploadFileRequest(chunk="\n".join(examples).encode()),
        ]
        made = self.stub.UploadFile(iter(pieces), metadata=self.metadata, timeout=120)
        return made.name

    def start(self, job: job_pb2.Job, request_id: str) -> job_pb2.Job:
        request = training_service_pb2.StartJobRequest(job=job, request_id=request_id)
        return self.stub.StartJob(request, metadata=self.metadata, timeout=120)

    def watch(self, name: str, **how: object) -> Iterator[training_service_pb2.WatchJobEvent]:
        request = training_service_pb2.WatchJobRequest(name=name, **how)  # type: ignore[arg-type]
        return self.stub.WatchJob(request, metadata=self.metadata, timeout=TIMEOUT_S)


@pytest.fixture
def trainer(platform: Platform) -> Iterator[Trainer]:
    with grpc.insecure_channel(platform.address("training")) as channel:
        yield Trainer(platform, channel)


def test_a_watched_job_tells_everything_once_and_its_checkpoints_serve(
    platform: Platform, trainer: Trainer
) -> None:
    file = trainer.upload("few.jsonl", lines(FEW))
    wanted = job_pb2.Job(base_model=BASE, training_file=file, suffix="watched", seed=5)
    wanted.hyperparameters.epoch_count = 3
    wanted.hyperparameters.batch_size = 4
    job = trainer.start(wanted, "once")
    assert trainer.start(wanted, "once").name == job.name
    events = list(trainer.watch(job.name, from_start=True))
    kinds = [event.WhichOneof("event") for event in events]
    assert (kinds[0], kinds[-1]) == ("job", "finish")
    ended = events[-1].finish.job
    assert ended.state == State.STATE_SUCCEEDED, ended
    assert (ended.step, ended.step_count, ended.progress, ended.restart_count) == (6, 6, 1, 0)
    assert ended.trained_token_count == 3 * read_tokens(lines(FEW))
    happened = [event.happened for event in events if event.HasField("happened")]
    changes = [e.state_change for e in happened if e.HasField("state_change")]
    assert [change.to for change in changes] == [
        State.STATE_VALIDATING_FILES,
        State.STATE_QUEUED,
        State.STATE_RUNNING,
        State.STATE_SUCCEEDED,
    ]
    steps = [e.metrics.step for e in happened if e.HasField("metrics")]
    assert steps == sorted(set(steps))
    request = training_service_pb2.ListCheckpointsRequest(parent=job.name)
    listed = trainer.stub.ListCheckpoints(request, metadata=trainer.metadata, timeout=120)
    assert [each.step for each in listed.checkpoints] == [6, 4, 2]
    first = listed.checkpoints[-1]
    with grpc.insecure_channel(platform.address("model")) as channel:
        deployed = ModelServiceStub(channel).DeployModel(
            model_service_pb2.DeployModelRequest(
                model_id="early",
                source=first.model,
                base_model=BASE,
                kind=model_pb2.MODEL_KIND_CHAT,
                wait=True,
            ),
            metadata=trainer.metadata,
            timeout=300,
        )
    assert deployed.state == model_pb2.Model.STATE_READY, deployed
    question = questions()[0][0]
    assert said(platform, "early", question)
    assert said(platform, ended.fine_tuned_model, question)


def test_kill_9_of_the_service_and_its_worker_costs_nothing_but_time(
    platform: Platform, trainer: Trainer
) -> None:
    file = trainer.upload("few.jsonl", lines(FEW))
    wanted = job_pb2.Job(
        base_model=BASE, training_file=file, suffix="killed", checkpoint_interval_steps=3
    )
    wanted.hyperparameters.epoch_count = 12
    wanted.hyperparameters.batch_size = 4
    job = trainer.start(wanted, "killed")
    for event in trainer.watch(job.name):
        assert not event.HasField("finish"), event
        if event.happened.checkpoint:
            break
    worker = _worker(platform, job.name)
    os.kill(platform.pid("training"), signal.SIGKILL)
    os.kill(worker, signal.SIGKILL)
    ended = _finished(trainer, job.name)
    assert ended.state == State.STATE_SUCCEEDED, ended
    assert (ended.step, ended.step_count) == (24, 24)
    assert ended.trained_token_count == 12 * read_tokens(lines(FEW))
    assert ended.restart_count >= 1
    assert said(platform, ended.fine_tuned_model, questions()[0][0])


def _worker(platform: Platform, job: str) -> int:
    """The process that trains a job."""
    folder = job_folder(platform.data_dir / "training", job.partition("/")[2])
    found = holder(folder.lock)
    assert found is not None
    return found.pid


def _finished(trainer: Trainer, job: str) -> job_pb2.Job:
    """Waits for a job's end, whatever becomes of the service meanwhile."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        assert time.monotonic() < deadline
        try:
            for event in trainer.watch(job):
                if event.HasField("finish"):
                    return event.finish.job
        except grpc.RpcError as error:
            if not is_away(error):
                raise
        time.sleep(0.5)


def test_the_command_line_starts_and_watches_a_job(platform: Platform, folder: Path) -> None:
    words = ("train", "start", "few.jsonl", "--base", BASE, "--epochs", "1", "--watch")
    done = penstock(platform, *words, cwd=folder)
    assert "ft:penstock-starter:local:" in done.stdout
