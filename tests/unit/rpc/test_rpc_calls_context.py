"""Request IDs, traces, declarations and logs, each alone."""

import asyncio
import json
import logging
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.principals import ANONYMOUS
from policy.token_store import TokenSources
from services.rpc import access, logs
from services.rpc.access import Role, access_of, endless, open_method, requires
from services.rpc.call import Call, current, serving
from services.rpc.channels import ClientTls
from services.rpc.metadata import request_id_from
from telemetry.tracing import continue_trace

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@given(st.text(max_size=200) | st.binary(max_size=20) | st.none())
def test_a_request_id_is_always_fit_to_print(given_id: object) -> None:
    made = request_id_from(given_id)
    assert 0 < len(made) <= 128
    assert made.isascii()
    assert made.isprintable()
    if isinstance(given_id, str) and given_id.isascii() and given_id.isprintable():
        assert made == given_id or not 0 < len(given_id) <= 128


def test_request_ids_are_unique() -> None:
    made = {request_id_from(None) for _ in range(1000)}
    assert len(made) == 1000
    assert all(len(each) == len("req_") + 24 for each in made)


def test_a_trace_is_continued() -> None:
    trace = continue_trace(f"00-{TRACE}-{SPAN}-01")
    assert (trace.trace_id, trace.parent_id, trace.flags) == (TRACE, SPAN, "01")
    assert trace.span_id != SPAN
    assert trace.traceparent == f"00-{TRACE}-{trace.span_id}-01"
    # A later version may say more than this one knows.
    assert continue_trace(f"01-{TRACE}-{SPAN}-01-more").trace_id == TRACE


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "x",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}",
    ],
)
def test_a_malformed_trace_is_begun_anew(header: str | None) -> None:
    trace = continue_trace(header)
    assert trace.trace_id != TRACE
    assert trace.parent_id is None
    assert continue_trace(trace.traceparent).trace_id == trace.trace_id


def test_declarations() -> None:
    class Servicer:
        @requires(Role.USER, Role.SERVICE)
        def some(self) -> None: ...

        @open_method
        def anybody(self) -> None: ...

        @endless
        @requires(Role.USER)
        def watch(self) -> None: ...

        def nobody(self) -> None: ...

    servicer = Servicer()
    some, anybody, watch = map(access_of, (servicer.some, servicer.anybody, servicer.watch))
    assert some is not None
    assert (some.roles, some.endless) == ({Role.USER, Role.SERVICE}, False)
    assert anybody is not None
    assert anybody.roles == frozenset()
    assert watch is not None
    assert watch.endless
    assert access_of(servicer.nobody) is None
    with pytest.raises(TypeError):
        requires()


def call(**changes: object) -> Call:
    made = Call("/s/M", "q", continue_trace(f"00-{TRACE}-{SPAN}-01"), asyncio.Event())
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def test_a_call_is_known_within_it_only() -> None:
    assert current() is None
    with serving(call(principal=ANONYMOUS)):
        assert access.principal() is ANONYMOUS
        assert access.request_id() == "q"
        assert not access.draining().is_set()
    with serving(call()), pytest.raises(LookupError):
        access.principal()
    with pytest.raises(LookupError):
        access.principal()
    with pytest.raises(LookupError):
        access.request_id()


def record(message: str, *args: object, **extra: object) -> logging.LogRecord:
    made = logging.makeLogRecord({"name": "a.b", "msg": message, "args": args, "levelname": "INFO"})
    vars(made).update(extra)
    return made


def test_json_logs_say_which_call() -> None:
    formatter = logs.JsonFormatter()
    line = json.loads(formatter.format(record("x %s\n", 1, answer=42, odd={1}, none=None)))
    assert (line["message"], line["logger"], line["level"]) == ("x 1\n", "a.b", "info")
    assert (line["answer"], line["odd"]) == (42, "{1}")
    assert "none" not in line
    assert "request_id" not in line
    with serving(call()):
        line = json.loads(formatter.format(record("x")))
    assert (line["request_id"], line["trace_id"]) == ("q", TRACE)
    try:
        raise ValueError("why")
    except ValueError:
        line = json.loads(formatter.format(record("x", exc_info=sys.exc_info())))
    assert "ValueError: why" in line["error"]


def test_console_logs_cant_be_forged() -> None:
    with serving(call()):
        line = logs.ConsoleFormatter().format(record("a\nb %s", "c\r\nd"))
    assert "\n" not in line
    assert line.endswith("info    a.b: a\\nb c\\r\\nd (request_id=q)")


def test_logs_go_to_stderr_once(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        logs.set_up("warning", "json")
        logs.set_up("warning", "json")
        logging.getLogger("here").info("not this")
        logging.getLogger("here").warning("this")
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    out, err = capsys.readouterr()
    assert out == ""
    assert [json.loads(line)["message"] for line in err.splitlines()] == ["this"]


def test_secrets_are_not_shown() -> None:
    shown = repr(TokenSources(api_tokens=("s3cret",), api_key="s3cret", service_token="s3cret"))
    assert "s3cret" not in shown
    assert ClientTls().certificate is None
