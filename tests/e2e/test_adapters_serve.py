"""Adapters deployed at runtime beside a base that serves, through all services."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import pytest
from penstock.model.v1 import model_pb2 as pb
from penstock.model.v1 import model_service_pb2 as service_pb
from penstock.model.v1.model_service_pb2_grpc import ModelServiceStub
from transformers import AutoModelForCausalLM

from tests.conformance.tiny_models import save_model
from tests.e2e.stack import REPOSITORY, Platform, configuration, running
from tests.e2e.test_faults import until
from tests.unit.inference.engines.test_decoder_adapters import TARGETS, save_adapter


class Users:
    """What people do with the platform."""

    def __init__(self, platform: Platform, models: ModelServiceStub) -> None:
        self._platform = platform
        self._models = models
        self._metadata = (("authorization", f"Bearer {platform.key}"),)

    def deploy(self, model_id: str, source: Path, base: str = "", **more: object) -> pb.Model:
        request = service_pb.DeployModelRequest(
            model_id=model_id,
            source=str(source),
            base_model=base,
            kind=pb.MODEL_KIND_CHAT,
            wait=True,
            allow_update=True,
            **more,  # type: ignore[arg-type]
        )
        return self._models.DeployModel(request, metadata=self._metadata, timeout=120)

    def get(self, model_id: str) -> pb.Model:
        request = service_pb.GetModelRequest(name=f"models/{model_id}")
        return self._models.GetModel(request, metadata=self._metadata, timeout=30)

    def delete(self, model_id: str) -> None:
        request = service_pb.DeleteModelRequest(name=f"models/{model_id}")
        self._models.DeleteModel(request, metadata=self._metadata, timeout=30)

    def chat(self, model_id: str) -> httpx.Response:
        body = {
            "model": model_id,
            "messages": [{"role": "user", "content": "Tell me a story about water and a gate."}],
            "temperature": 0,
            "max_tokens": 12,
            "ignore_eos": True,
        }
        url = f"{self._platform.url}/v1/chat/completions"
        return httpx.post(url, json=body, headers=self._platform.headers(), timeout=60)

    def answer(self, model_id: str) -> str:
        response = self.chat(model_id)
        assert response.status_code == 200, response.text
        assert response.json()["model"] == model_id
        return response.json()["choices"][0]["message"]["content"]


@pytest.fixture
def users(tmp_path: Path) -> Iterator[tuple[Users, Platform]]:
    save_model(tmp_path / "tiny")
    config = configuration({"first": {"path": str(tmp_path / "tiny"), "type": "chat"}})
    with (
        running(tmp_path, config) as platform,
        grpc.insecure_channel(platform.address("model")) as channel,
    ):
        yield Users(platform, ModelServiceStub(channel)), platform


def test_adapters_follow_their_base(users: tuple[Users, Platform], tmp_path: Path) -> None:
    people, platform = users
    whole = tmp_path / "tiny"
    model = AutoModelForCausalLM.from_pretrained(whole)
    one, two = (
        save_adapter(tmp_path / name, model, TARGETS["llama"], seed)
        for seed, name in enumerate(("one", "two"), start=1)
    )
    assert people.deploy("base", whole).state == pb.Model.STATE_READY
    command = (sys.executable, "-m", "services.cli.main", "models", "deploy", "tuned")
    done = subprocess.run(
        [*command, "--source", str(one), "--base-model", "base"],
        env=os.environ | {"PENSTOCK_DATA_DIR": str(platform.data_dir)},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    tuned = people.get("tuned")
    assert (tuned.state, tuned.base_model) == (pb.Model.STATE_READY, "base")
    assert not tuned.capabilities.lora
    assert people.get("base").capabilities.lora
    brief = pb.ModelConfig(system_prompt="Be brief.")
    assert people.deploy("brief", one, "base", config=brief).state == pb.Model.STATE_READY
    assert people.deploy("other", two, "base").state == pb.Model.STATE_READY
    names = ("base", "tuned", "brief", "other")
    answers = {name: people.answer(name) for name in names}
    assert len(set(answers.values())) == 4
    listed = httpx.get(f"{platform.url}/v1/models", headers=platform.headers(), timeout=30).json()
    assert set(names) <= {entry["id"] for entry in listed["data"]}

    # What does not fit fails alone, and says why.
    save_model(tmp_path / "wide", hidden_size=48)
    stranger = AutoModelForCausalLM.from_pretrained(tmp_path / "wide")
    misfit = save_adapter(tmp_path / "misfit", stranger, TARGETS["llama"], 1)
    failed = people.deploy("misfit", misfit, "base")
    assert failed.state == pb.Model.STATE_FAILED
    assert "belongs to another base" in failed.state_message
    assert people.chat("misfit").status_code == 503

    # The base and an adapter get new revisions while people chat, and no answer is lost or wrong.
    over = threading.Event()
    seen: list[tuple[str, str]] = []

    def ask(name: str) -> None:
        while not over.is_set():
            seen.append((name, people.answer(name)))

    threads = [threading.Thread(target=ask, args=(name,)) for name in ("base", "tuned", "brief")]
    for thread in threads:
        thread.start()
    assert people.deploy("base", whole).state == pb.Model.STATE_READY
    assert people.deploy("tuned", one).state == pb.Model.STATE_READY
    until(lambda: len(people.get("base").observations) == 1, 60)  # the old revision is gone
    over.set()
    for thread in threads:
        thread.join(60)
    assert {name for name, _ in seen} == {"base", "tuned", "brief"}
    assert [pair for pair in seen if pair[1] != answers[pair[0]]] == []

    # A killed process comes back with all of them.
    os.kill(platform.pid("inference"), signal.SIGKILL)
    until(lambda: all(people.chat(name).status_code == 200 for name in names), 100)
    assert {name: people.answer(name) for name in names} == answers
    until(lambda: people.get("tuned").state == pb.Model.STATE_READY, 60)  # told after it answers

    # The base stays as long as an adapter needs it.
    with pytest.raises(grpc.RpcError, match="'brief', 'misfit', 'other', 'tuned'"):
        people.delete("base")
    for name in ("tuned", "brief", "other", "misfit"):
        people.delete(name)
        until(lambda name=name: people.chat(name).status_code == 404)
    people.delete("base")
    until(lambda: people.chat("base").status_code == 404)
