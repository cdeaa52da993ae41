"""What Envoy does when services are slow, silent, broken or killed."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import httpx
import pytest
from grpc import StatusCode
from penstock.inference.v1 import inference_service_pb2
from penstock.model.v1 import model_pb2

from gateway.settings import Settings as EdgeSettings
from tests.e2e.envoy_peer import Behaviour, Held, Peer, empty, refusing
from tests.e2e.envoy_process import NOBODY, Front, alone, envoy
from tests.e2e.envoy_render import Options
from tests.e2e.envoy_streams import EVENTS, HELLO, WAYS, over_grpc
from tests.e2e.stack import until

CHAT = "/penstock.inference.v1.InferenceService/Chat"
EMBED = "/penstock.embedding.v1.EmbeddingService/Embed"
GET_MODEL = "/penstock.model.v1.ModelService/GetModel"
DEPLOY = "/penstock.model.v1.ModelService/DeployModel"
SEARCH = "/penstock.retrieval.v1.RetrievalService/Search"
LIST_JOBS = "/penstock.training.v1.TrainingService/ListJobs"
START_JOB = "/penstock.training.v1.TrainingService/StartJob"


class Mesh:
    """Peers of all kinds behind one front."""

    def __init__(self) -> None:
        self.inference, self.model = Peer(), Peer()
        self.embedding, self.retrieval = (Peer(), Peer()), (Peer(), Peer())
        self.training = Peer()
        self.front: Front

    @property
    def peers(self) -> list[Peer]:
        return [self.inference, self.model, *self.embedding, *self.retrieval, self.training]

    @property
    def options(self) -> Any:
        at = {
            "inference": (self.inference.address,),
            "model": (self.model.address,),
            "embedding": [peer.address for peer in self.embedding],
            "retrieval": [peer.address for peer in self.retrieval],
            "training": (self.training.address, NOBODY),
        }
        return Options(endpoints=alone(**at))


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    made = Mesh()
    for peer in made.peers:
        peer.__enter__()
    healthy = ("inference", "model", "embedding", "retrieval")
    with envoy(tmp_path_factory.mktemp("mesh") / "front", made.options, healthy=healthy) as front:
        made.front = front
        yield made
    for peer in made.peers:
        peer.kill()


@pytest.fixture(scope="module")
def channel(mesh: Mesh) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(mesh.front.address) as opened:
        yield opened


def code(channel: grpc.Channel, method: str) -> StatusCode:
    try:
        channel.unary_unary(method)(b"", timeout=30)
    except grpc.RpcError as error:
        return error.code()  # pyright: ignore
    return StatusCode.OK


# Streams


@pytest.mark.parametrize("way", WAYS)
def test_the_first_event_comes_before_the_last_is_made(mesh: Mesh, way: str) -> None:
    mesh.inference.behaviour = held = Held(*EVENTS)
    events = WAYS[way](mesh.front)
    assert list(next(events)) == ["started"]
    assert not held.go.is_set()
    held.go.set()
    assert [name for event in events for name in event] == ["delta"]


def test_an_error_behind_the_first_event_is_told_over_grpc_and_ends_json(mesh: Mesh) -> None:
    def breaks(_: bytes, context: Any) -> Iterator[bytes]:
        yield EVENTS[0]
        context.abort(StatusCode.UNAVAILABLE, "broke")

    mesh.inference.behaviour = breaks
    with pytest.raises(grpc.RpcError) as raised:
        list(over_grpc(mesh.front))
    assert raised.value.code() is StatusCode.UNAVAILABLE  # pyright: ignore
    # Without an event that says it ended, the stream was cut short: that is how JSON can tell.
    for way in ("lines", "SSE"):
        assert [list(event) for event in WAYS[way](mesh.front)] == [["started"]]


def test_requests_and_answers_may_be_large(mesh: Mesh) -> None:
    text = "x" * 3_000_000

    def echo(request: bytes, _: Any) -> Iterator[bytes]:
        asked = inference_service_pb2.ChatRequest.FromString(request)
        yield model_pb2.Model(name=asked.messages[0].parts[0].text).SerializeToString()

    mesh.inference.behaviour = echo
    body = {"messages": [{"role": "ROLE_USER", "parts": [{"text": text}]}]}
    answer = httpx.post(f"{mesh.front.url}/penstock/v1/models/m:chat", json=body, timeout=60)
    assert (answer.status_code, len(answer.content) > len(text)) == (200, True), answer.text[:300]


# Repeats


@pytest.mark.parametrize(
    ("method", "behaviour", "found", "attempts"),
    [
        (GET_MODEL, refusing(StatusCode.UNAVAILABLE, times=1), StatusCode.OK, 2),
        (GET_MODEL, refusing(StatusCode.NOT_FOUND), StatusCode.NOT_FOUND, 1),
        (GET_MODEL, refusing(StatusCode.RESOURCE_EXHAUSTED), StatusCode.RESOURCE_EXHAUSTED, 1),
        (DEPLOY, refusing(StatusCode.UNAVAILABLE, times=1), StatusCode.UNAVAILABLE, 1),
    ],
)
def test_reads_alone_are_repeated(
    mesh: Mesh,
    channel: grpc.Channel,
    method: str,
    behaviour: Behaviour,
    found: StatusCode,
    attempts: int,
) -> None:
    mesh.model.behaviour = behaviour
    mesh.model.calls.clear()
    assert code(channel, method) is found
    assert mesh.model.calls.total() == attempts


def test_what_was_never_begun_goes_elsewhere(mesh: Mesh, channel: grpc.Channel) -> None:
    """One of two addresses is nobody's."""
    assert {code(channel, method) for method in [START_JOB, LIST_JOBS] * 5} == {StatusCode.OK}
    # A job is started once for each call.
    assert mesh.training.calls == {"StartJob": 5, "ListJobs": 5}


# Replicas


def test_one_that_can_not_serve_is_left_out(mesh: Mesh, channel: grpc.Channel) -> None:
    broken, good = mesh.embedding
    broken.behaviour = refusing(StatusCode.UNAVAILABLE)
    failures = 0
    while "failed_outlier_check" not in mesh.front.hosts("embedding")[broken.port]:
        failures += code(channel, EMBED) is StatusCode.UNAVAILABLE
    assert failures == broken.calls["Embed"]  # none was repeated: work may have been done
    # What the front has decided reaches its workers a moment later.
    until(lambda: all(code(channel, EMBED) is StatusCode.OK for _ in range(5)))
    before = good.calls["Embed"]
    assert {code(channel, EMBED) for _ in range(30)} == {StatusCode.OK}
    assert good.calls["Embed"] == before + 30


def test_the_last_one_is_asked_all_the_same(mesh: Mesh, channel: grpc.Channel) -> None:
    """What it says of itself is worth more than that nobody is there."""
    mesh.inference.behaviour = refusing(StatusCode.UNAVAILABLE, "the model loads")
    for _ in range(20):
        with pytest.raises(grpc.RpcError) as raised:
            channel.unary_unary(CHAT)(b"", timeout=30)
        assert raised.value.details() == "the model loads"  # pyright: ignore
    assert not mesh.front.hosts("inference")[mesh.inference.port]


def test_a_killed_one_costs_what_it_had_begun(mesh: Mesh, channel: grpc.Channel) -> None:
    doomed, other = mesh.retrieval
    holds = [Held(b"", b""), Held(b"", b"")]
    doomed.behaviour, other.behaviour = holds

    def stream() -> list[bytes] | StatusCode:
        try:
            return list(channel.unary_stream(SEARCH)(b"", timeout=60))
        except grpc.RpcError as error:
            return error.code()  # pyright: ignore

    with ThreadPoolExecutor(16) as pool:
        running = [pool.submit(stream) for _ in range(12)]
        until(lambda: doomed.calls["Search"] + other.calls["Search"] == 12)
        doomed.kill()
        other.behaviour = empty
        until(lambda: mesh.front.stat("cluster.retrieval.upstream_cx_destroy") > 0)
        after = [code(channel, SEARCH) for _ in range(30)]
        for hold in holds:
            hold.go.set()
        ends = [one.result() for one in running]
    assert set(after) == {StatusCode.OK}
    assert ends.count(StatusCode.UNAVAILABLE) == doomed.calls["Search"]
    assert ends.count([b"", b""]) == 12 - doomed.calls["Search"]
    assert mesh.front.hosts("retrieval")[doomed.port]
    assert {code(channel, SEARCH) for _ in range(10)} == {StatusCode.OK}


# Names and traces


def test_names_and_traces_pass(mesh: Mesh) -> None:
    mesh.inference.behaviour = empty
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    headers = {"x-request-id": "named-by-me", "traceparent": traceparent}
    path = "/penstock/v1/models/m:chat"
    answer = httpx.post(mesh.front.url + path, json=HELLO, headers=headers)
    assert answer.headers["x-request-id"] == "named-by-me"
    seen = mesh.inference.metadata
    assert (seen["x-request-id"], seen["traceparent"]) == ("named-by-me", traceparent)
    (entry,) = mesh.front.accesses(request_id="named-by-me")
    assert entry == entry | {
        "method": "POST",
        "path": path,
        "rpc": CHAT,
        "status": 200,
        "grpc_status": "OK",
        "traceparent": traceparent,
        "upstream": "inference",
        "upstream_host": mesh.inference.address,
        "attempts": 1,
    }
    secret = httpx.get(f"{mesh.front.url}/penstock/v1/models/m?key=s3cr3t")
    (made,) = mesh.front.accesses(path="/penstock/v1/models/m")
    assert made["request_id"] == secret.headers["x-request-id"]
    assert "s3cr3t" not in mesh.front.log.read_text()
    assert "hello" not in mesh.front.log.read_text()


def test_the_open_inference_protocol_goes_to_inference(mesh: Mesh, channel: grpc.Channel) -> None:
    mesh.inference.behaviour = empty
    mesh.inference.calls.clear()
    assert code(channel, "/inference.GRPCInferenceService/ServerLive") is StatusCode.OK
    assert mesh.inference.calls == {"ServerLive": 1}


def test_silence_is_longer_than_pings_are_apart() -> None:
    assert Options().stream_idle_s > 10 * EdgeSettings().ping_interval_s
    # Whoever asks for the longest time that requests may take gets it, silence included.
    assert Options().stream_idle_s > EdgeSettings().request_timeout_s
