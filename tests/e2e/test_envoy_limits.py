"""Bounds of time, size and number, and streams that outlive a front's orders to drain."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from grpc import StatusCode

from tests.e2e.envoy_peer import Held, Peer, empty
from tests.e2e.envoy_process import Front, alone, envoy
from tests.e2e.envoy_render import Options
from tests.e2e.envoy_streams import EVENTS, HELLO, WAYS, over_grpc
from tests.e2e.stack import until


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Front, Peer]]:
    folder = tmp_path_factory.mktemp("narrow") / "front"
    with Peer() as peer:
        options = Options(
            endpoints=alone(inference=(peer.address,)),
            stream_idle_s=1,
            most_requests=1,
            max_body_bytes=100_000,
        )
        with envoy(folder, options, healthy=["inference"]) as front:
            yield front, peer


def test_silent_streams_are_ended_and_pinged_ones_are_not(narrow: tuple[Front, Peer]) -> None:
    front, peer = narrow

    def pinged(_: bytes, __: Any) -> Iterator[bytes]:
        for _ in range(8):
            yield EVENTS[1]
            time.sleep(0.25)

    peer.behaviour = pinged
    assert len(list(over_grpc(front))) == 8
    peer.behaviour = silent = Held(*EVENTS)
    with pytest.raises(grpc.RpcError) as raised:
        list(over_grpc(front))
    silent.go.set()
    assert raised.value.code() is StatusCode.INTERNAL  # pyright: ignore
    (entry,) = front.accesses(flags="SI")
    assert entry["details"] == "stream_idle_timeout"


def test_what_is_one_too_many_is_turned_away_at_once(narrow: tuple[Front, Peer]) -> None:
    front, peer = narrow
    peer.behaviour = held = Held(*EVENTS)
    first = over_grpc(front)
    next(first)
    answer = httpx.post(f"{front.url}/penstock/v1/models/m:chat", json=HELLO)
    assert answer.status_code == 503
    reason = "upstream connect error or disconnect/reset before headers. reset reason: overflow"
    assert answer.json() == {"code": 14, "message": reason, "details": []}
    held.go.set()
    assert len(list(first)) == 1
    peer.behaviour = empty
    until(lambda: front.stat("cluster.inference.upstream_rq_active") == 0)
    answer = httpx.post(f"{front.url}/penstock/v1/models/m:chat", json=HELLO)
    assert answer.status_code == 200


def test_bodies_have_a_bound(narrow: tuple[Front, Peer]) -> None:
    front, peer = narrow
    peer.behaviour = empty
    body = {"messages": [{"role": "ROLE_USER", "parts": [{"text": "x" * 200_000}]}]}
    answer = httpx.post(f"{front.url}/penstock/v1/models/m:chat", json=body)
    assert answer.status_code == 413
    assert (set(answer.json()), answer.json()["code"]) == ({"code", "message", "details"}, 8)


def test_streams_end_whole_when_it_drains(tmp_path: Path) -> None:
    with Peer() as peer:
        peer.behaviour = held = Held(*EVENTS)
        options = Options(endpoints=alone(inference=(peer.address,)))
        with envoy(tmp_path / "front", options, healthy=["inference"]) as front:
            streams = [way(front) for way in WAYS.values()]
            for stream in streams:
                assert list(next(stream)) == ["started"]
            front.post("/drain_listeners?graceful")
            host, _, port = front.address.rpartition(":")

            def closed() -> bool:
                with socket.socket() as caller:
                    return caller.connect_ex((host, int(port))) != 0

            until(closed)
            held.go.set()
            assert [len(list(stream)) for stream in streams] == [1, 1, 1]
