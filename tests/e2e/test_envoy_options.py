"""What a bootstrap has when it is rendered for it: signed tokens, limits of addresses, traces."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from grpc import StatusCode

from tests.e2e.envoy_peer import Peer
from tests.e2e.envoy_process import Front, alone, envoy
from tests.e2e.envoy_render import Jwt, Options
from tests.e2e.stack import until
from tests.unit.policy.identity_provider import (
    AUDIENCE,
    ISSUER,
    Provider,
    SigningKey,
    key_set,
    running_provider,
)

CHAT = "/penstock.inference.v1.InferenceService/Chat"
NATIVE = "/penstock/v1/models/m:chat"
HELLO = {"messages": [{"role": "ROLE_USER", "parts": [{"text": "hello"}]}]}
FIRST, SECOND, STRANGER = SigningKey("first"), SigningKey("second"), SigningKey("first")


@dataclass(frozen=True)
class Guarded:
    """A front that knows an issuer, what it keeps traces in, and what is behind it."""

    front: Front
    peer: Peer
    collector: Peer
    keys: Path

    def call(self, authorization: str | None, path: str = NATIVE) -> httpx.Response:
        headers = {} if authorization is None else {"authorization": authorization}
        return httpx.post(self.front.url + path, json=HELLO, headers=headers, timeout=30)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    keys = folder / "keys" / "jwks.json"
    keys.parent.mkdir()
    keys.write_bytes(key_set(FIRST))
    with Peer() as peer, Peer() as collector:
        options = Options(
            endpoints=alone(inference=(peer.address,)),
            jwt=Jwt(issuer=ISSUER, audience=AUDIENCE, jwks_file=str(keys)),
            otlp=collector.address,
        )
        with envoy(folder / "front", options, healthy=["inference"]) as front:
            yield Guarded(front, peer, collector, keys)


def signed(key: SigningKey = FIRST, **claims: Any) -> Callable[[], str]:
    """A token that begins to age when it is asked for."""
    return lambda: f"Bearer {key.sign(**claims)}"


TOKENS: dict[str, tuple[Callable[[], str | None], int]] = {
    "good": (signed(), 200),
    "expired": (signed(exp=time.time() - 3600), 401),
    "early": (signed(nbf=time.time() + 36_000), 401),
    "of another issuer": (signed(iss="https://evil.example"), 401),
    "for another audience": (signed(aud="somebody"), 403),
    "of another key": (signed(STRANGER), 401),
    "of a key not yet known": (signed(SECOND), 401),
    "changed": (lambda: f"{signed()()[:-4]}AAAA", 401),
    # Not the filter's: who keeps the keys tells.
    "a key": (lambda: "Bearer pnstk_0123456789", 200),
    "a password": (lambda: "Basic YTpi", 200),
    "nothing": (lambda: None, 200),
}


@pytest.mark.parametrize("name", TOKENS)
def test_wrong_tokens_go_no_further(guarded: Guarded, name: str) -> None:
    authorize, status = TOKENS[name]
    authorization = authorize()
    guarded.peer.calls.clear()
    answer = guarded.call(authorization)
    assert answer.status_code == status, answer.text
    assert guarded.peer.calls.total() == (status == 200)
    if status != 200:
        assert set(answer.json()) == {"code", "message", "details"}
        assert answer.json()["code"] == {401: 16, 403: 7}[status]
        refused = guarded.call(authorization, "/v1/chat/completions")
        assert refused.status_code == status
        assert set(refused.json()["error"]) == {"message", "type", "code"}
        with grpc.insecure_channel(guarded.front.address) as channel:
            metadata = (("authorization", authorization or ""),)
            with pytest.raises(grpc.RpcError) as raised:
                channel.unary_unary(CHAT)(b"", metadata=metadata, timeout=30)
        expected = {401: StatusCode.UNAUTHENTICATED, 403: StatusCode.PERMISSION_DENIED}
        assert raised.value.code() is expected[status]  # pyright: ignore
        assert "{" not in raised.value.details()  # pyright: ignore
    else:
        # It travels on: services look for themselves.
        assert guarded.peer.metadata.get("authorization") == authorization


def test_a_trace_goes_on_through_it_and_is_told(guarded: Guarded) -> None:
    told: list[bytes] = []

    def collect(request: bytes, _: Any) -> Iterator[bytes]:
        told.append(request)
        yield b""

    guarded.collector.behaviour = collect
    trace, span = "5f467fe7bf42676c05e20ba4a90e448e", "4c721bf33e3caf8f"
    headers = {"traceparent": f"00-{trace}-{span}-01", "x-request-id": "traced"}
    httpx.post(guarded.front.url + NATIVE, json=HELLO, headers=headers).raise_for_status()
    version, passed_trace, passed_span, flags = guarded.peer.metadata["traceparent"].split("-")
    assert (version, passed_trace, flags) == ("00", trace, "01")
    # The span of the front: a child of the caller's, and the parent of the service's.
    assert passed_span != span
    until(lambda: any(bytes.fromhex(passed_span) in message for message in told))
    (message,) = (message for message in told if bytes.fromhex(passed_span) in message)
    assert bytes.fromhex(trace) in message
    assert bytes.fromhex(span) in message
    assert b"traced" in message
    assert set(guarded.collector.calls) == {"Export"}


@dataclass(frozen=True)
class Limited:
    """A front that lets little in."""

    front: Front
    peer: Peer
    issuer: Provider


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Limited]:
    folder = tmp_path_factory.mktemp("limited") / "front"
    with Peer() as peer, running_provider() as issuer:
        issuer.tell(FIRST)
        options = Options(
            endpoints=alone(inference=(peer.address,)),
            jwt=Jwt(issuer=ISSUER, audience=AUDIENCE, jwks_url=issuer.url, cache_s=1),
            requests_per_minute=5,
        )
        with envoy(folder, options, healthy=["inference"]) as front:
            yield Limited(front, peer, issuer)


def test_one_address_has_so_many_requests(limited: Limited) -> None:
    front, peer = limited.front, limited.peer
    headers = {"authorization": f"Bearer {FIRST.sign()}"}

    def call(address: str) -> httpx.Response:
        transport = httpx.HTTPTransport(local_address=address)
        with httpx.Client(transport=transport, base_url=front.url, headers=headers) as client:
            return client.post(NATIVE, json=HELLO)

    assert [call("127.0.0.2").status_code for _ in range(7)] == [200] * 5 + [429] * 2
    refused = call("127.0.0.2")
    assert refused.headers["retry-after"] == "1"
    assert refused.json() == {"code": 8, "message": "local_rate_limited", "details": []}
    assert call("127.0.0.3").status_code == 200
    assert peer.calls.total() == 6
    with grpc.insecure_channel(front.address) as channel:
        codes: list[StatusCode] = []
        for _ in range(6):
            try:
                channel.unary_unary(CHAT)(b"", timeout=30)
            except grpc.RpcError as error:
                codes.append(error.code())  # pyright: ignore
    assert codes == [StatusCode.RESOURCE_EXHAUSTED]


def test_keys_are_fetched_and_may_change(limited: Limited) -> None:
    hosts = itertools.count(1)

    def status(key: SigningKey) -> int:
        transport = httpx.HTTPTransport(local_address=f"127.0.1.{next(hosts)}")
        headers = {"authorization": f"Bearer {key.sign()}"}
        with httpx.Client(transport=transport, base_url=limited.front.url) as client:
            return client.post(NATIVE, json=HELLO, headers=headers).status_code

    assert [status(key) for key in (FIRST, SECOND)] == [200, 401]
    limited.issuer.tell(FIRST, SECOND)
    until(lambda: status(SECOND) == 200)
    assert status(FIRST) == 200


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"http3": True}, "needs certificates"),
        ({"jwt": Jwt(issuer=ISSUER)}, "either a file of its keys, or their URL"),
        ({"jwt": Jwt(issuer=ISSUER, jwks_file="a", jwks_url="b")}, "either a file"),
        ({"endpoints": {"inferense": ("a:1",)}}, "no such service: inferense"),
    ],
)
def test_options_that_make_no_sense(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Options(**given)
