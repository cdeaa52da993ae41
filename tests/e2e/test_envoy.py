"""The platform behind a real Envoy: REST, gRPC, and the native API as JSON."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from penstock.inference.v1 import inference_service_pb2 as inference_pb
from penstock.inference.v1 import message_pb2 as message_pb
from penstock.inference.v1.inference_service_pb2_grpc import InferenceServiceStub
from penstock.model.v1 import model_service_pb2 as model_pb
from penstock.model.v1.model_service_pb2_grpc import ModelServiceStub

from tests.e2e.envoy_process import Front, endpoints, envoy
from tests.e2e.envoy_render import Options
from tests.e2e.replicas import replica
from tests.e2e.stack import Platform, configuration, running, until
from tests.integration.gateway.refusals import DIALECTS

MODELS = {
    "echo": {"path": "echo", "type": "chat"},
    "vectors": {"path": "echo", "type": "embedding"},
    "picture": {"path": "echo", "type": "image"},
}
ENGINES = "".join(
    f'[services.{name}]\nengine = "echo"\n' for name in ("inference", "embedding", "image")
)
HELLO = {"messages": [{"role": "ROLE_USER", "parts": [{"text": "hello"}]}]}


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Platform, Front]]:
    folder = tmp_path_factory.mktemp("envoy")
    with (
        running(folder, configuration(MODELS, ENGINES)) as platform,
        envoy(folder / "front", Options(endpoints=endpoints(platform.facts["addresses"]))) as front,
    ):
        yield platform, front


@pytest.fixture
def http(behind: tuple[Platform, Front]) -> Iterator[httpx.Client]:
    platform, front = behind
    with httpx.Client(base_url=front.url, headers=platform.headers(), timeout=30) as client:
        yield client


def test_rest_reaches_the_edge(http: httpx.Client) -> None:
    assert http.get("/health").json()["status"] in {"healthy", "degraded"}
    answer = http.get("/v1/models", headers={"x-request-id": "mine"})
    assert {model["id"] for model in answer.json()["data"]} == MODELS.keys()
    assert answer.headers["x-request-id"] == "mine"
    refused = http.get("/v1/nonsense")
    assert (refused.status_code, set(refused.json())) == (404, {"error"})


@pytest.mark.parametrize("name", DIALECTS)
def test_every_dialect_passes(
    behind: tuple[Platform, Front], http: httpx.Client, name: str
) -> None:
    _, front = behind
    dialect = DIALECTS[name]
    body = {field: "echo" if field == "model" else value for field, value in dialect.body.items()}
    if name == "gel":  # a type of its own to ask
        body = {"model": "vectors", "input": ["Hi"]}
        answer = http.post("/branch/default/ai/embeddings", json=body)
    else:
        answer = http.post(dialect.path, json=body)
    assert answer.status_code == 200, answer.text
    assert "Hi" in answer.text or name in {"gel", "webui"}  # those answer with numbers, and pixels
    wrong = http.post(dialect.path, json={**dialect.body, **dialect.wrong})
    assert (wrong.status_code, wrong.headers["server"]) == (400, "envoy")
    assert dialect.says(wrong.json())
    nobody = httpx.post(front.url + dialect.path, json=dialect.body)
    assert nobody.status_code == 401
    assert name == "gel" or dialect.says(nobody.json())


def test_sse_passes_event_by_event(http: httpx.Client) -> None:
    body = {"model": "echo", "messages": [{"role": "user", "content": "hello"}], "stream": True}
    with http.stream("POST", "/v1/chat/completions", json=body) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in answer.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    deltas = [json.loads(line[6:])["choices"][0]["delta"] for line in lines[:-1]]
    assert "".join(delta.get("content", "") for delta in deltas) == "hello"


def test_native_calls_as_json(http: httpx.Client) -> None:
    models = http.get("/penstock/v1/models", params={"pageSize": 1}).json()["models"]
    assert [model["name"] for model in models] == ["models/echo"]
    answer = http.post("/penstock/v1/models/echo:chat", json=HELLO).json()
    assert answer["choices"][0]["message"]["parts"] == [{"text": "hello"}]
    assert answer["usage"]["completionTokens"] == "6"


@pytest.mark.parametrize(
    ("accept", "kind", "prefix"),
    [("*/*", "application/json", ""), ("text/event-stream", "text/event-stream", "data: ")],
)
def test_native_streams(http: httpx.Client, accept: str, kind: str, prefix: str) -> None:
    path = "/penstock/v1/models/echo:streamChat"
    with http.stream("POST", path, json=HELLO, headers={"accept": accept}) as answer:
        assert answer.headers["content-type"] == kind
        lines = [line for line in answer.iter_lines() if line]
    events: list[Any] = [json.loads(line.removeprefix(prefix)) for line in lines]
    assert list(events[0]) == ["started"]
    assert list(events[-1]) == ["done"]
    assert "".join(event["delta"]["text"] for event in events if "delta" in event) == "hello"


def test_native_streams_of_the_caller(http: httpx.Client) -> None:
    """What is streamed to a service is a JSON array."""
    text = b"what is in the file"
    header = {"filename": "a.txt", "purpose": "FILE_PURPOSE_USER_DATA", "sizeBytes": str(len(text))}
    pieces = [{"chunk": base64.b64encode(part).decode()} for part in (text[:5], text[5:])]
    file = http.post("/penstock/v1/files", json=[{"header": header}, *pieces]).json()
    assert file["sha256"] == hashlib.sha256(text).hexdigest()
    content = http.get(f"/penstock/v1/{file['name']}/content")
    assert (content.content, content.headers["content-type"]) == (text, "application/octet-stream")

    path = "/penstock/v1/tenants/default/collections"
    collection = http.post(path, json={"displayName": "c"}).json()["name"]
    upsert = [
        {"start": {"collection": collection}},
        *({"document": {"name": f"{collection}/documents/{n}", "text": "abc"}} for n in (1, 2)),
    ]
    answer = http.post("/penstock/v1/documents:upsert", json=upsert)
    events = [json.loads(line) for line in answer.text.splitlines()]
    assert list(events[-1]) == ["finish"], events
    documents = http.get(f"/penstock/v1/{collection}/documents").json()["documents"]
    assert {document["name"].rpartition("/")[2] for document in documents} == {"1", "2"}


def test_large_uploads_pass(http: httpx.Client) -> None:
    content = os.urandom(5_000_000)
    answer = http.post("/v1/files", files={"file": ("a", content)}, data={"purpose": "user_data"})
    assert (answer.status_code, answer.json()["bytes"]) == (200, len(content)), answer.text
    back = http.get(f"/v1/files/{answer.json()['id']}/content")
    assert back.content == content


def test_the_open_inference_protocol_passes(
    behind: tuple[Platform, Front], http: httpx.Client
) -> None:
    _, front = behind
    assert http.get("/v2/health/live").status_code == 200
    with grpc.insecure_channel(front.address) as channel:
        live = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
        assert live(b"", timeout=30) == b"\x08\x01"


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        ("/penstock/v1/models/missing", 404, "MODEL_NOT_FOUND"),
        ("/penstock/v1/models?pageSize=-1", 400, "INVALID_ARGUMENT"),
        ("/penstock/v1/trainingJobs/ftjob-missing", 404, "NOT_FOUND"),
    ],
)
def test_native_errors_keep_their_details(
    http: httpx.Client, path: str, status: int, reason: str
) -> None:
    answer = http.get(path)
    assert answer.status_code == status
    assert answer.json()["details"][0]["reason"] == reason


@pytest.mark.parametrize(
    ("path", "status"),
    [("/penstock/v1/models?wrong=1", 400), ("/penstock/v1/nonsense", 404)],
)
def test_what_no_method_has_is_refused(http: httpx.Client, path: str, status: int) -> None:
    assert http.get(path).status_code == status


def test_strangers_are_turned_away(behind: tuple[Platform, Front]) -> None:
    _, front = behind
    for path in ("/penstock/v1/models", "/v1/models"):
        assert httpx.get(front.url + path).status_code == 401


def test_grpc_reaches_each_service(behind: tuple[Platform, Front]) -> None:
    platform, front = behind
    key = (("authorization", f"Bearer {platform.key}"),)
    with grpc.insecure_channel(front.address) as channel:
        models = ModelServiceStub(channel).ListModels(model_pb.ListModelsRequest(), metadata=key)
        assert {model.name for model in models.models} == {f"models/{name}" for name in MODELS}
        request = inference_pb.ChatRequest(
            model="echo",
            messages=[
                message_pb.Message(role=message_pb.ROLE_USER, parts=[message_pb.Part(text="hello")])
            ],
        )
        events = list(InferenceServiceStub(channel).StreamChat(request, metadata=key))
    assert events[0].WhichOneof("event") == "started"
    assert events[-1].WhichOneof("event") == "done"


@pytest.mark.parametrize(
    "method",
    [
        "/penstock.inference.internal.v1.StepService/Steps",
        "/penstock.model.v1.ModelService/ReportModelState",
        "/penstock.access.v1.KeyService/WatchKeys",
        "/penstock.access.v1.UsageService/RecordUsage",
        "/grpc.health.v1.Health/Check",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    ],
)
def test_what_processes_say_to_one_another_is_not_there(
    behind: tuple[Platform, Front], method: str
) -> None:
    _, front = behind
    with grpc.insecure_channel(front.address) as channel, pytest.raises(grpc.RpcError) as raised:
        channel.unary_unary(method)(b"", timeout=20)
    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED  # pyright: ignore


def test_a_caller_that_leaves_ends_its_stream(
    behind: tuple[Platform, Front], http: httpx.Client
) -> None:
    _, front = behind
    text = "long " * 700
    body = {"messages": [{"role": "ROLE_USER", "parts": [{"text": text}]}]}
    path = "/penstock/v1/models/echo:streamChat"
    with http.stream("POST", path, json=body) as answer:
        next(answer.iter_lines())
    until(lambda: front.stat("cluster.inference.upstream_rq_active") == 0)
    answer = http.post("/penstock/v1/models/echo:chat", json=HELLO)
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "framing",
    [
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "Content-Length: 4\r\nContent-Length: 5",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: xchunked",
    ],
)
def test_nothing_is_smuggled_past_envoy(behind: tuple[Platform, Front], framing: str) -> None:
    platform, front = behind
    host, _, port = front.address.rpartition(":")
    inner = "GET /openapi.json HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\n\r\n"
    outer = f"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n0\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=10) as raw:
        raw.sendall((outer + inner % platform.key).encode())
        answer = b""
        while piece := raw.recv(65536):
            answer += piece
    assert re.findall(rb"HTTP/1\.1 (\d{3}) ", answer) in ([b"400"], [b"501"])
    assert b'"openapi"' not in answer


def test_one_of_two_is_killed_and_the_other_serves(
    behind: tuple[Platform, Front], tmp_path: Path
) -> None:
    platform, _ = behind
    places = endpoints(platform.facts["addresses"])
    key = (("authorization", f"Bearer {platform.key}"),)
    with replica(platform, "inference") as (process, address):
        places["inference"] = (*places["inference"], address)
        with (
            envoy(tmp_path / "front", Options(endpoints=places)) as front,
            grpc.insecure_channel(front.address) as channel,
        ):
            request = inference_pb.ChatRequest(
                model="echo",
                messages=[message_pb.Message(role=1, parts=[message_pb.Part(text="hello")])],
            )
            chat = InferenceServiceStub(channel).Chat

            def ask() -> str:
                return chat(request, metadata=key, timeout=30).choices[0].message.parts[0].text

            assert {ask() for _ in range(20)} == {"hello"}
            hosts = {entry["upstream_host"] for entry in front.accesses(upstream="inference")}
            assert len(hosts) == 2
            process.send_signal(signal.SIGKILL)
            process.wait(30)
            until(lambda: front.stat("cluster.inference.upstream_cx_destroy") > 0)
            # Nothing was begun there, so nothing is lost; and soon it isn't tried there any more.
            assert {ask() for _ in range(40)} == {"hello"}
            until(lambda: bool(front.hosts("inference")[address.rpartition(":")[2]]))
