"""Things that go wrong while people chat."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import grpc
import httpx
import pytest
from penstock.inference.v1 import inference_service_pb2, inference_service_pb2_grpc
from penstock.model.v1 import model_pb2, model_service_pb2, model_service_pb2_grpc

from tests.e2e.stack import STARTER, Platform, configuration, running
from tests.e2e.test_serve import answer_again

pytestmark = pytest.mark.timeout(600)  # where others work too, models load slowly
STORY = {
    "model": "penstock-starter",
    "messages": [{"role": "user", "content": "Tell me a story"}],
    "max_tokens": 400,
    "ignore_eos": True,
}


def running_sequences(platform: Platform) -> int:
    with grpc.insecure_channel(platform.address("inference")) as channel:
        status = inference_service_pb2_grpc.InferenceServiceStub(channel).GetQueueStatus(
            inference_service_pb2.GetQueueStatusRequest(),
            metadata=(("authorization", f"Bearer {platform.key}"),),
            timeout=10,
        )
    return status.depth


def until(condition: Any, within_s: float = 20) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "still not so"
        time.sleep(0.02)


def test_a_departed_client_frees_its_sequence(platform: Platform) -> None:
    until(lambda: running_sequences(platform) == 0)
    with httpx.stream(
        "POST",
        f"{platform.url}/v1/chat/completions",
        json=STORY | {"stream": True, "max_tokens": 900},
        headers=platform.headers(),
        timeout=60,
    ) as response:
        next(response.iter_lines())
    until(lambda: running_sequences(platform) == 0, 5)


def test_a_client_that_leaves_a_whole_answer_frees_its_sequence(platform: Platform) -> None:
    until(lambda: running_sequences(platform) == 0)
    place = urlsplit(platform.url)
    body = json.dumps(STORY | {"max_tokens": 900, "n": 4}).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {place.netloc}\r\n"
        f"Authorization: Bearer {platform.key}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((place.hostname, place.port)) as connection:
        connection.sendall(head.encode() + body)
        until(lambda: running_sequences(platform) > 0)
    until(lambda: running_sequences(platform) == 0, 5)


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform whose services may be killed; one of its models can't be loaded."""
    folder = tmp_path_factory.mktemp("fragile")
    broken = folder / "broken"
    broken.mkdir()
    (broken / "config.json").write_text("{}")
    models = {
        "penstock-starter": {"path": str(STARTER), "type": "chat"},
        "broken": {"path": str(broken), "type": "chat"},
    }
    with running(folder, configuration(models)) as started:
        yield started


def test_a_broken_model_fails_with_a_reason_and_the_others_serve(fragile: Platform) -> None:
    answer_again(fragile)
    with grpc.insecure_channel(fragile.address("model")) as channel:
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        model = stub.GetModel(
            model_service_pb2.GetModelRequest(name="models/broken"),
            metadata=(("authorization", f"Bearer {fragile.key}"),),
        )
    assert model.state == model_pb2.Model.STATE_FAILED
    assert model.state_message
    refused = httpx.post(
        f"{fragile.url}/v1/chat/completions",
        json={"model": "broken", "messages": STORY["messages"]},
        headers=fragile.headers(),
    )
    assert refused.status_code == 503, refused.text


def test_killing_inference_mid_stream_is_said_and_healed(fragile: Platform) -> None:
    with httpx.stream(
        "POST",
        f"{fragile.url}/v1/chat/completions",
        json=STORY | {"stream": True, "max_tokens": 900},
        headers=fragile.headers(),
        timeout=60,
    ) as response:
        assert response.status_code == 200
        lines = response.iter_lines()
        next(lines)
        os.kill(fragile.pid("inference"), signal.SIGKILL)
        rest = [line for line in lines if line.startswith("data: ")]
    assert "data: [DONE]" not in rest
    assert json.loads(rest[-1].removeprefix("data: "))["error"]["message"]
    answer_again(fragile)


def test_a_killed_service_comes_back_and_is_said_so(fragile: Platform) -> None:
    for service in ("model", "inference", "gateway"):
        before, told = fragile.pid(service), len(fragile.log.read_text())
        os.kill(before, signal.SIGKILL)
        answer_again(fragile)
        until(lambda name=service, pid=before: fragile.pid(name) != pid)
        assert service in fragile.log.read_text()[told:]
    assert "restart" in fragile.log.read_text().lower()


def test_deploying_a_revision_loses_no_request(fragile: Platform) -> None:
    metadata = (("authorization", f"Bearer {fragile.key}"),)
    request = model_service_pb2.DeployModelRequest(
        model_id="mine",
        source=str(STARTER),
        kind=model_pb2.MODEL_KIND_CHAT,
        wait=True,
        allow_update=True,
    )
    with grpc.insecure_channel(fragile.address("model")) as channel:
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        first = stub.DeployModel(request, metadata=metadata, timeout=60)
        assert first.state == model_pb2.Model.STATE_READY
        outcomes: list[int] = []
        stop = threading.Event()

        def ask() -> None:
            with httpx.Client(headers=fragile.headers(), timeout=60) as client:
                while not stop.is_set() and len(outcomes) < 2000:
                    body = STORY | {"model": "mine", "max_tokens": 20}
                    answer = client.post(f"{fragile.url}/v1/chat/completions", json=body)
                    outcomes.append(answer.status_code)

        callers = [threading.Thread(target=ask) for _ in range(2)]
        for caller in callers:
            caller.start()
        request.load_options.context_length = 512
        second = stub.DeployModel(request, metadata=metadata, timeout=60)
        until(lambda: len(outcomes) > 3)
        stop.set()
        for caller in callers:
            caller.join()
    assert second.revision.name != first.revision.name
    assert second.state == model_pb2.Model.STATE_READY
    assert set(outcomes) == {200}
