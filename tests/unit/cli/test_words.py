"""What the command says: errors, models, settings, screens."""

import io
import time
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc import aio
from penstock.model.v1 import model_pb2
from rich.console import Console

from services.cli.catalog import is_settled, pick_chat_model, progress_of, state_name
from services.cli.config_fields import apply_settings, config_facts
from services.cli.failures import Failure, Peer, explain
from services.cli.key_options import parse_span
from services.cli.logfile import LogFile
from services.cli.output import Output, printable
from services.cli.screen import Screen, level_of
from services.cli.standing import Standing, Standings
from services.cli.supervisor import Program, State
from services.cli.welcome import Welcome, curl_line, to_json, welcome_screen

PEER = Peer("model", "127.0.0.1:50051", "--model-address")
Model, Observation = model_pb2.Model, model_pb2.Observation


def rpc_error(code: grpc.StatusCode, text: str, *details: object) -> aio.AioRpcError:
    trailing = aio.Metadata()
    if details:
        status = status_pb2.Status(code=code.value[0], message=text)
        for detail in details:
            packed = any_pb2.Any()
            packed.Pack(detail)
            status.details.append(packed)
        trailing.add("grpc-status-details-bin", status.SerializeToString())
    return aio.AioRpcError(code, aio.Metadata(), trailing, text)


def test_a_rich_error_in_words() -> None:
    violation = error_details_pb2.BadRequest.FieldViolation(field="sampling.top_k", description="x")
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromMilliseconds(1500)
    failure = explain(
        rpc_error(
            grpc.StatusCode.INVALID_ARGUMENT,
            "top_k must be positive.",
            error_details_pb2.ErrorInfo(reason="INVALID_ARGUMENT", domain="penstock"),
            error_details_pb2.BadRequest(field_violations=[violation]),
            retry,
        ),
        PEER,
    )
    assert failure.to_text().plain.splitlines() == [
        "Error: top_k must be positive.",
        "  reason INVALID_ARGUMENT",
        "  field  sampling.top_k",
        "  retry  in 1.5 s",
    ]
    assert failure.to_dict()["error"] == {
        "message": "top_k must be positive.",
        "code": "INVALID_ARGUMENT",
        "reason": "INVALID_ARGUMENT",
        "field": "sampling.top_k",
        "retry_after_s": 1.5,
    }


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (grpc.StatusCode.UNAVAILABLE, "Can't reach the model service at 127.0.0.1:50051."),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "did not answer in time"),
        (grpc.StatusCode.UNIMPLEMENTED, "is not Penstock's model service"),
        (grpc.StatusCode.UNKNOWN, "as it came"),
    ],
)
def test_bare_errors_in_words(code: grpc.StatusCode, words: str) -> None:
    assert words in explain(rpc_error(code, "as it came"), PEER).message


def test_unavailable_with_a_reason_keeps_the_servers_words() -> None:
    info = error_details_pb2.ErrorInfo(reason="MODEL_NOT_READY", domain="penstock")
    error = rpc_error(grpc.StatusCode.UNAVAILABLE, "It still loads.", info)
    assert explain(error, PEER).message == "It still loads."


def test_broken_details_do_no_harm() -> None:
    trailing = aio.Metadata(("grpc-status-details-bin", b"\xff\xff"))
    error = aio.AioRpcError(grpc.StatusCode.INTERNAL, aio.Metadata(), trailing, "oh")
    assert explain(error, PEER).message == "oh"


def test_text_from_elsewhere_can_not_steer_the_terminal() -> None:
    assert printable("a\x1b[2Jb\x07\x9bc\nd\té€") == "a[2Jbc\nd\té€"


def model(id_: str, state: int = Model.STATE_READY, **fields: object) -> model_pb2.Model:
    found = Model(name=f"models/{id_}", state=state, kind=model_pb2.MODEL_KIND_CHAT, **fields)
    found.revision.name = f"models/{id_}/revisions/2"
    return found


def test_the_model_to_chat_with() -> None:
    a, b = model("a"), model("b", aliases=["default"])
    assert pick_chat_model([a, b]) == "b"
    assert pick_chat_model([a]) == "a"
    b.state = Model.STATE_FAILED
    assert pick_chat_model([b, a]) == "a"
    with pytest.raises(Failure, match="c still loads"):
        pick_chat_model([model("c", Model.STATE_DEPLOYING), b])
    with pytest.raises(Failure, match="No chat model is ready"):
        pick_chat_model([b])
    image = model("i")
    image.kind = model_pb2.MODEL_KIND_IMAGE
    with pytest.raises(Failure):
        pick_chat_model([image])


def test_where_a_model_stands() -> None:
    found = model("a", Model.STATE_DEPLOYING)
    assert (state_name(found), progress_of(found), is_settled(found)) == ("deploying", None, False)
    found.observations.add(
        reporter="x", revision=found.revision.name, state=Observation.STATE_LOADING, progress=0.5
    )
    assert (state_name(found), progress_of(found)) == ("loading", 0.5)
    found.state = Model.STATE_READY
    found.serving_revisions.append("models/a/revisions/1")
    assert not is_settled(found), "the old revision serves"
    found.serving_revisions.insert(0, found.revision.name)
    assert is_settled(found)


def observed(
    found: model_pb2.Model, state: int, ago_s: float, revision: int = 2
) -> model_pb2.Model:
    seen = found.observations.add(
        reporter=f"x{ago_s}", revision=f"{found.name}/revisions/{revision}", state=state
    )
    seen.report_time.FromMilliseconds(int((time.time() - ago_s) * 1000))
    return found


def test_only_what_living_processes_say_counts() -> None:
    standings = Standings(["model", "inference"])

    def state(found: model_pb2.Model) -> str:
        return standings.judge([found])[0].state

    assert state(observed(model("a"), Observation.STATE_READY, ago_s=5)) == "deploying"
    fresh = observed(model("a"), Observation.STATE_LOADING, ago_s=-1)
    assert state(fresh) == "loading"
    assert state(observed(fresh, Observation.STATE_READY, ago_s=-1)) == "ready"
    old = observed(model("a"), Observation.STATE_READY, ago_s=-1, revision=1)
    assert state(observed(old, Observation.STATE_FAILED, ago_s=-1)) == "failed"
    assert state(model("a", Model.STATE_FAILED)) == "failed"
    assert state(model("a", Model.STATE_STOPPED)) == "stopped"
    standings.restarted("inference")
    standings._since["inference"] += 10
    assert state(fresh) == "deploying"


def test_a_kind_that_no_service_here_serves_is_not_waited_for() -> None:
    image = model("i", Model.STATE_DEPLOYING)
    image.kind = model_pb2.MODEL_KIND_IMAGE
    standing = Standings(["model", "inference"]).judge([image])[0]
    assert not standing.has_service
    assert standing.is_settled


def test_settings_as_words() -> None:
    config, mask = apply_settings(
        ["default_temperature=0", "max_tokens_limit=", 'stop=["a","b"]', "system_prompt=Be = kind."]
    )
    assert list(mask.paths) == ["default_temperature", "max_tokens_limit", "stop", "system_prompt"]
    assert config.HasField("default_temperature")
    assert not config.HasField("max_tokens_limit")
    assert list(config.stop) == ["a", "b"]
    assert config.system_prompt == "Be = kind."
    facts = config_facts(config)
    assert facts["default_temperature"] == "0"
    assert facts["default_top_p"] == "–"
    assert facts["stop"] == '["a", "b"]'


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("default_temperature", "not KEY=VALUE"),
        ("temperature=1", "no setting"),
        ("default_temperature=warm", "must be a number"),
        ("max_batch_size=1.5", "must be a number"),
        ("stop=END", "must be a JSON list"),
        ('stop="END"', "must be a JSON list"),
        ("etag=x", "no setting"),
    ],
)
def test_wrong_settings(word: str, words: str) -> None:
    with pytest.raises(Failure, match=words) as caught:
        apply_settings([word])
    assert caught.value.exit_code == 2


def test_spans() -> None:
    assert parse_span("90m") == timedelta(minutes=90)
    assert parse_span("8w") == timedelta(weeks=8)
    for wrong in ("", "5", "d", "0d", "-1d", "1y", "1.5h", "999999d"):
        with pytest.raises(Failure):
            parse_span(wrong)


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("12:00:00.123 warning services.x: The error is mild", "WARNING"),
        ('{"time":"…","level":"error","message":"no"}', "ERROR"),
        ("INFO:     Started", "INFO"),
        ("  File x, line 3, in informal", None),
    ],
)
def test_levels_of_log_lines(line: str, level: str | None) -> None:
    assert level_of(line) == level


async def nothing(address: str) -> None: ...


def program(name: str, tmp_path: Path, log: LogFile) -> Program:
    return Program(name, ["true"], {}, log, 0, nothing, state=State.READY, address="127.0.0.1:1")


@pytest.fixture
def screen(tmp_path: Path):
    out = Console(file=io.StringIO(), width=100, highlight=False)
    log = LogFile(tmp_path / "log")
    yield Screen(Output(out=out, err=out), ["model"]), program("model", tmp_path, log), out
    log.close()


def test_only_warnings_are_shown_and_only_once_it_is_ready(screen, tmp_path: Path) -> None:
    shown, model_, out = screen
    warning = "12:00:00.000 warning x: the catalogue is away"
    shown.line(model_, warning)
    assert out.file.getvalue() == "", "while things start, they miss each other"
    shown.ready(welcome(tmp_path, [model_]))
    shown.line(model_, warning)
    shown.line(model_, "12:00:00.000 info x: fine")
    shown.line(model_, "12:00:00.000 error x: bad")
    shown.line(model_, "Traceback (most recent call last):")
    lines = out.file.getvalue().splitlines()
    assert lines[-3:] == [
        f"model │ {warning}",
        "model │ 12:00:00.000 error x: bad",
        "model │ Traceback (most recent call last):",
    ]


def test_a_flood_of_lines_is_cut(screen, tmp_path: Path) -> None:
    shown, model_, out = screen
    for number in range(100):
        shown.line(model_, f"12:00:00.000 error x: {number}")
        shown.line(model_, "12:00:00.000 error penstock.access: /Chat UNAVAILABLE")
    lines = out.file.getvalue().splitlines()
    assert lines[-2:] == [
        "model │ 12:00:00.000 error x: 7",
        f"model │ … more in {tmp_path / 'log'}",
    ]


def test_a_death_is_said_with_its_last_words(screen) -> None:
    shown, model_, out = screen
    model_.log.write("no such file")
    for wait_s in (0.5, 1.0):
        shown.died(model_, "ended with exit code 1", wait_s)
    shown.died(model_, "was killed by SIGKILL", 2.0)
    assert out.file.getvalue().splitlines() == [
        "model ended with exit code 1. Restarting in 0.5 s.",
        "model │ no such file",
        "model ended with exit code 1. Restarting in 1.0 s.",
        "model was killed by SIGKILL. Restarting in 2.0 s.",
    ]


def welcome(tmp_path: Path, programs: list[Program], *models: Standing) -> Welcome:
    return Welcome(
        version="1.2.3",
        url="http://127.0.0.1:8080",
        admin_key_file=tmp_path / "admin key",
        new_key=None,
        log_dir=tmp_path / "logs",
        took_s=1.25,
        programs=programs,
        models=models,
    )


def test_the_welcome(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "log")
    image = model("pictures", Model.STATE_DEPLOYING)
    image.kind = model_pb2.MODEL_KIND_IMAGE
    broken = model("broken", Model.STATE_FAILED, state_message="no weights")
    programs = [program("model", tmp_path, log), program("inference", tmp_path, log)]
    found = welcome(
        tmp_path,
        programs,
        Standing(model("starter"), "ready"),
        Standing(image, "deploying", has_service=False),
        Standing(broken, "failed"),
    )
    out = Console(file=io.StringIO(), width=80)
    for part in welcome_screen(found):
        out.print(part, soft_wrap=True)
    screen = out.file.getvalue()
    for words in (
        "Penstock 1.2.3 is ready after 1.2 s.",
        "no service for this kind runs here",
        "no weights",
        "http://127.0.0.1:8080/v1",
        curl_line(found),
    ):
        assert words in screen
    assert curl_line(found) == (
        "curl http://127.0.0.1:8080/v1/chat/completions "
        f"-H \"Authorization: Bearer $(cat '{tmp_path}/admin key')\" "
        "-H 'Content-Type: application/json' "
        '-d \'{"model":"starter","messages":[{"role":"user","content":"Hello!"}]}\''
    )
    assert "penstock image" not in screen, "nothing could draw"
    *_, last = welcome_screen(welcome(tmp_path, programs, Standing(image, "ready")))
    assert "penstock image" in str(last)
    data = to_json(found)
    assert data["models"][0] == {"id": "starter", "kind": "chat", "state": "ready"}
    log.close()
