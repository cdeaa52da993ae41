"""`penstock serve` with its text models on a real Triton: REST, gRPC, and a fault."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import httpx
import pytest
from penstock.inference.v1 import inference_service_pb2_grpc

from tests.e2e.stack import STARTER, Platform, configuration, running
from tests.e2e.test_parity import to_proto
from tests.triton_models import add_text_model
from tests.triton_server import TritonServer, running_triton

pytestmark = pytest.mark.timeout(400)
MODEL = "penstock-starter"
STORY = {"model": MODEL, "messages": [{"role": "user", "content": "Tell me a story"}]}


@pytest.fixture(scope="module")
def server() -> Iterator[TritonServer]:
    with running_triton() as started:
        add_text_model(started, MODEL, STARTER)
        yield started


@pytest.fixture(scope="module")
def served(server: TritonServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    extra = (
        '[services.inference]\nengine = "triton"\n'
        f'[triton]\nendpoints = ["{server.address}"]\nhealth_interval_s = 0.2\n'
    )
    models = {MODEL: {"path": str(STARTER), "type": "chat"}}
    folder = tmp_path_factory.mktemp("triton")
    with running(folder, configuration(models, extra)) as platform:
        yield platform


@pytest.fixture(scope="module")
def client(served: Platform) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.url, headers=served.headers(), timeout=100) as made:
        yield made


def chat(client: httpx.Client, **more: Any) -> httpx.Response:
    return client.post("/v1/chat/completions", json=STORY | more)


def events(response: httpx.Response) -> list[str]:
    lines = (line for line in response.iter_lines() if line.startswith("data: "))
    return [line.removeprefix("data: ") for line in lines]


def until(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_rest_and_grpc_answer_the_same(client: httpx.Client, served: Platform) -> None:
    whole = chat(client, temperature=0, max_tokens=24).json()
    text = whole["choices"][0]["message"]["content"]
    assert text.strip()
    usage = whole["usage"]
    assert usage["completion_tokens"] == 24
    assert usage["total_tokens"] == usage["prompt_tokens"] + 24
    more = {"temperature": 0, "max_tokens": 24, "stream": True}
    with client.stream("POST", "/v1/chat/completions", json=STORY | more) as response:
        told = events(response)
    assert told[-1] == "[DONE]"
    deltas = [json.loads(one)["choices"][0]["delta"].get("content") or "" for one in told[:-1]]
    assert "".join(deltas) == text
    body = STORY | {"temperature": 0, "max_tokens": 24}
    with grpc.insecure_channel(served.address("inference")) as channel:
        stub = inference_service_pb2_grpc.InferenceServiceStub(channel)
        metadata = tuple((name, value) for name, value in served.headers().items())
        answer = stub.Chat(to_proto(body), metadata=metadata, timeout=100)
    assert answer.choices[0].message.parts[0].text == text
    assert answer.usage.prompt_tokens == usage["prompt_tokens"]


def test_what_is_ours_works_as_on_other_engines(client: httpx.Client) -> None:
    free = chat(client, temperature=0, max_tokens=24).json()["choices"][0]["message"]["content"]
    stop = free.split()[2]
    cut = chat(client, temperature=0, max_tokens=24, stop=[stop]).json()["choices"][0]
    assert cut["finish_reason"] == "stop"
    assert cut["message"]["content"] == free[: free.index(stop)]
    scored = chat(client, temperature=0, max_tokens=3, logprobs=True, top_logprobs=2).json()
    listed = scored["choices"][0]["logprobs"]["content"]
    assert len(listed) == 3
    assert all(len(one["top_logprobs"]) == 2 and one["logprob"] <= 0 for one in listed)


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
    ],
)
def test_what_the_backend_cannot_do_is_refused_by_name(
    client: httpx.Client, more: dict[str, Any], named: str
) -> None:
    refusal = chat(client, **more)
    assert refusal.status_code == 400
    assert named in json.dumps(refusal.json())


def test_a_caller_that_leaves_is_cancelled_in_triton(
    client: httpx.Client, server: TritonServer
) -> None:
    before = server.log.count("cancelled: ")
    more = {"stream": True, "max_tokens": 1500, "ignore_eos": True}
    with client.stream("POST", "/v1/chat/completions", json=STORY | more) as response:
        assert response.status_code == 200
        next(response.iter_lines())
    until(lambda: server.log.count("cancelled: ") > before)


def test_a_killed_triton_is_told_of_and_comes_back(
    client: httpx.Client, server: TritonServer
) -> None:
    more = {"stream": True, "max_tokens": 1500, "ignore_eos": True}
    with client.stream("POST", "/v1/chat/completions", json=STORY | more) as response:
        assert response.status_code == 200
        lines = response.iter_lines()
        next(lines)
        server.kill()
        rest = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    assert "[DONE]" not in rest
    assert json.loads(rest[-1])["error"]["message"].startswith("Triton is not there")
    until(lambda: chat(client, max_tokens=1).status_code == 503)
    refused = chat(client, max_tokens=1)
    assert refused.status_code == 503
    server.start()
    until(lambda: chat(client, max_tokens=1).status_code == 200)
