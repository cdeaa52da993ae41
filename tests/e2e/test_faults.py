"""Things that go wrong while people chat."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import grpc
import httpx
import pytest
from penstock.inference.v1 import inference_service_pb2, inference_service_pb2_grpc, queue_pb2
from penstock.model.v1 import model_pb2, model_service_pb2, model_service_pb2_grpc

from tests.e2e.callers import STORY, Callers, chat
from tests.e2e.stack import STARTER, Platform, configuration, running, until
from tests.e2e.test_serve import answer_again

pytestmark = pytest.mark.timeout(600)  # where others work too, models load slowly
LONG = STORY | {"max_tokens": 1900}
"""As long as the model can."""


def queue(platform: Platform) -> queue_pb2.QueueStatus:
    with grpc.insecure_channel(platform.address("inference")) as channel:
        return inference_service_pb2_grpc.InferenceServiceStub(channel).GetQueueStatus(
            inference_service_pb2.GetQueueStatusRequest(),
            metadata=(("authorization", f"Bearer {platform.key}"),),
            timeout=10,
        )


def running_sequences(platform: Platform) -> int:
    return queue(platform).depth


def completed(platform: Platform) -> int:
    """Answers that came to their end, as the engine counts them."""
    return queue(platform).completed_24h


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform whose services may be killed; one of its models can't be loaded. Vectors and
    drawings take the echo engine: what matters is whether their service is there."""
    folder = tmp_path_factory.mktemp("fragile")
    broken = folder / "broken"
    broken.mkdir()
    (broken / "config.json").write_text("{}")
    models = {
        "penstock-starter": {"path": str(STARTER), "type": "chat"},
        "broken": {"path": str(broken), "type": "chat"},
        "embedder": {"path": "echo", "type": "embedding"},
        "painter": {"path": "echo", "type": "image"},
    }
    echo = "".join(f'[services.{name}]\nengine = "echo"\n' for name in ("embedding", "image"))
    with running(folder, configuration(models, echo)) as started:
        yield started


def test_a_departed_client_frees_its_sequence(fragile: Platform) -> None:
    until(lambda: running_sequences(fragile) == 0)
    before = completed(fragile)
    with httpx.stream(
        "POST",
        f"{fragile.url}/v1/chat/completions",
        json=LONG | {"stream": True},
        headers=fragile.headers(),
        timeout=60,
    ) as response:
        next(response.iter_lines())
    until(lambda: running_sequences(fragile) == 0)
    assert completed(fragile) == before, "it was written to its end"


def test_a_client_that_leaves_a_whole_answer_frees_its_sequence(fragile: Platform) -> None:
    until(lambda: running_sequences(fragile) == 0)
    before = completed(fragile)
    place = urlsplit(fragile.url)
    body = json.dumps(LONG | {"n": 4}).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {place.netloc}\r\n"
        f"Authorization: Bearer {fragile.key}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((place.hostname, place.port)) as connection:
        connection.sendall(head.encode() + body)
        until(lambda: running_sequences(fragile) > 0)
    until(lambda: running_sequences(fragile) == 0)
    assert completed(fragile) == before, "it was written to its end"


class Catalogue:
    """The platform's models, asked with its key."""

    def __init__(self, platform: Platform) -> None:
        self._channel = grpc.insecure_channel(platform.address("model"))
        self._stub = model_service_pb2_grpc.ModelServiceStub(self._channel)
        self._metadata = (("authorization", f"Bearer {platform.key}"),)

    def __enter__(self) -> Catalogue:
        return self

    def __exit__(self, *error: object) -> None:
        self._channel.close()

    def get(self, model: str) -> model_pb2.Model:
        request = model_service_pb2.GetModelRequest(name=f"models/{model}")
        return self._stub.GetModel(
            request, metadata=self._metadata, timeout=60, wait_for_ready=True
        )

    def deploy(self, request: model_service_pb2.DeployModelRequest) -> model_pb2.Model:
        return self._stub.DeployModel(request, metadata=self._metadata, timeout=120)


def test_a_broken_model_fails_with_a_reason_and_the_others_serve(fragile: Platform) -> None:
    answer_again(fragile)
    with Catalogue(fragile) as models:
        model = models.get("broken")
    assert model.state == model_pb2.Model.STATE_FAILED
    assert model.state_message
    refused = httpx.post(
        f"{fragile.url}/v1/chat/completions",
        json={"model": "broken", "messages": STORY["messages"]},
        headers=fragile.headers(),
    )
    assert refused.status_code == 503, refused.text


def test_inference_is_killed_while_it_answers_and_loads(fragile: Platform) -> None:
    """A stream says so, and a model that was being deployed meanwhile gets ready."""
    with (
        Catalogue(fragile) as models,
        killed(fragile, "inference") as kill,
        httpx.stream(
            "POST",
            f"{fragile.url}/v1/chat/completions",
            json=LONG | {"stream": True},
            headers=fragile.headers(),
            timeout=60,
        ) as response,
    ):
        assert response.status_code == 200
        lines = response.iter_lines()
        next(lines)
        made = models.deploy(wanted("late"))
        kill()
        assert made.state == model_pb2.Model.STATE_DEPLOYING
        rest = [line for line in lines if line.startswith("data: ")]
    assert "data: [DONE]" not in rest
    assert json.loads(rest[-1].removeprefix("data: "))["error"]["message"]
    with Catalogue(fragile) as models:
        until(lambda: models.get("late").state == model_pb2.Model.STATE_READY, 120)
    until(lambda: chat(fragile, "late", 3).status_code == 200)


WORK: dict[str, tuple[str, dict[str, Any] | None]] = {
    "model": ("/v1/models", None),
    "inference": ("/v1/chat/completions", STORY | {"max_tokens": 3}),
    "gateway": ("/v1/models", None),
    "embedding": ("/v1/embeddings", {"model": "embedder", "input": "hello"}),
    "image": ("/v1/images/generations", {"model": "painter", "prompt": "a", "size": "64x64"}),
    "training": ("/v1/files", None),
    "retrieval": ("/v1/vector_stores", None),
}
"""What can't be answered without a service: its path, and what is posted there."""


@pytest.mark.parametrize(
    "services",
    # The rest of them, some at once: it is the same for each, and takes a while.
    [("model", "gateway"), ("embedding", "image", "training", "retrieval")],
    ids="-".join,
)
def test_killed_services_come_back_and_are_said_so(
    fragile: Platform, services: tuple[str, ...]
) -> None:
    with killed(fragile, *services) as kill:
        kill()


@contextlib.contextmanager
def killed(platform: Platform, *services: str) -> Iterator[Callable[[], None]]:
    """Gives what kills these services. After the block they have to be back, each of them said so,
    and no other has suffered."""
    before = {service: platform.pid(service) for service in services}
    told = len(platform.log.read_text())

    def kill() -> None:
        for pid in before.values():
            os.kill(pid, signal.SIGKILL)

    def said() -> list[str]:
        return platform.log.read_text()[told:].splitlines()

    yield kill
    for service, pid in before.items():
        again = re.compile(rf"{service} is ready again after \d+\.\d s\.")
        until(lambda again=again: any(map(again.fullmatch, said())), 120)
        restarting = re.compile(rf"{service} was killed by SIGKILL\. Restarting in \d+\.\d s\.")
        assert len([line for line in said() if restarting.fullmatch(line)]) == 1, said()
        assert platform.pid(service) != pid
    for service in services:
        until(lambda service=service: works(platform, service), 120)
    others = set(platform.facts["pids"]) - {"supervisor", *services}
    assert not [line for line in said() if line.startswith(tuple(f"{o} was" for o in others))]
    with Catalogue(platform) as models:
        for name in ("penstock-starter", "embedder", "painter"):
            until(lambda name=name: models.get(name).state == model_pb2.Model.STATE_READY, 120)


def works(platform: Platform, service: str) -> bool:
    path, body = WORK[service]
    try:
        answer = httpx.request(
            "GET" if body is None else "POST",
            platform.url + path,
            json=body,
            headers=platform.headers(),
            timeout=60,
        )
    except httpx.TransportError:
        assert service == "gateway"
        return False
    assert answer.status_code in {200, 503}, answer.text
    return answer.status_code == 200


def wanted(name: str, **more: Any) -> model_service_pb2.DeployModelRequest:
    return model_service_pb2.DeployModelRequest(
        model_id=name, source=str(STARTER), kind=model_pb2.MODEL_KIND_CHAT, **more
    )


def test_deploying_a_revision_loses_no_request(fragile: Platform) -> None:
    with Catalogue(fragile) as models:
        request = wanted("mine", wait=True, allow_update=True)
        first = models.deploy(request)
        assert first.state == model_pb2.Model.STATE_READY
        old = chat(fragile, "mine", 1).json()["system_fingerprint"]
        with Callers(fragile, "mine") as callers:
            until(lambda: min(callers.heard_from(old)) > 0, 120)
            request.load_options.context_length = 512
            second = models.deploy(request)
            assert second.state == model_pb2.Model.STATE_READY
            new = chat(fragile, "mine", 1).json()["system_fingerprint"]
            assert new != old
            # One stream follows the other: the one that the takeover came upon has ended by then.
            until(lambda: callers.heard_from(new)[0] >= 5 and callers.heard_from(new)[1] > 0, 120)
    assert second.revision.name != first.revision.name
    assert set(callers.answers) == {(200, old), (200, new)}
    assert set(callers.streams) == {("data: [DONE]", old), ("data: [DONE]", new)}
