from __future__ import annotations

import pytest

from gateway.context import new_id, open_context
from gateway.cors import Cors
from gateway.settings import ApiSettings
from gateway.sse import frame, line_safe


def test_ids_are_base62() -> None:
    ids = {new_id("req_") for _ in range(200)}
    assert len(ids) == 200
    for one in ids:
        assert one.startswith("req_")
        assert len(one) == 28
        assert one[4:].isalnum()


@pytest.mark.parametrize("given", ["a", "x" * 128, "with space"])
def test_the_callers_id_is_kept(given: str) -> None:
    scope = {"headers": [(b"x-request-id", given.encode()), (b"x-request-id", b"second")]}
    assert open_context(scope).request_id == given


@pytest.mark.parametrize("given", ["", "x" * 129, "tab\t", "ümlaut", "a\nb"])
def test_a_strange_id_is_replaced(given: str) -> None:
    scope = {"headers": [(b"x-request-id", given.encode())]}
    assert open_context(scope).request_id.startswith("req_")


def test_only_clean_traces_travel() -> None:
    headers = [(b"traceparent", b"00-1-2-01"), (b"tracestate", b"a\x00b"), (b"cookie", b"c")]
    assert set(open_context({"headers": headers}).metadata()) == {"x-request-id", "traceparent"}


def test_lines_stay_whole() -> None:
    data = frame({"a": "x\u2028y\u2029z\u0085\r\n"})
    assert data == b'data: {"a":"x\\u2028y\\u2029z\\u0085\\r\\n"}\n\n'
    assert line_safe("ü🌊".encode()) == "ü🌊".encode()


def test_chosen_origins() -> None:
    cors = Cors(ApiSettings(cors_origins=("https://a.example/",)))
    headers = dict(cors.headers("https://a.example"))
    assert headers[b"access-control-allow-origin"] == b"https://a.example"
    assert headers[b"vary"] == b"Origin"
    for other in ("https://b.example", None):
        assert dict(cors.headers(other)) == {b"vary": b"Origin"}


def test_cors_off() -> None:
    cors = Cors(ApiSettings(cors_enabled=False))
    asked = {"origin": "https://a.example", "access-control-request-method": "GET"}
    assert cors.headers("https://a.example") == []
    assert cors.preflight("OPTIONS", asked) is None


def test_only_preflights_are_answered() -> None:
    cors = Cors(ApiSettings())
    asked = {"origin": "https://a.example", "access-control-request-method": "GET"}
    assert cors.preflight("OPTIONS", asked) is not None
    assert cors.preflight("GET", asked) is None
    assert cors.preflight("OPTIONS", {"origin": "https://a.example"}) is None
