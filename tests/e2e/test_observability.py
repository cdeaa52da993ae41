"""What the running platform tells of itself: metrics, traces and logs; and what is made of them."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

import grpc
import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.promql import ADDED, asked
from tests.e2e.stack import MINILM, REPOSITORY, USER_TOKEN, Platform, configuration, running
from tests.e2e.trace_collector import Collector, SpanSeen, collecting

OBSERVABILITY = REPOSITORY / "deploy" / "observability"
RULES = OBSERVABILITY / "prometheus-rules.yaml"
DASHBOARDS = sorted((OBSERVABILITY / "dashboards").glob("*.json"))
RUNBOOK = REPOSITORY / "docs" / "runbook.md"
PAGE = REPOSITORY / "docs" / "observability.md"

SERVICES = ("model", "inference", "embedding", "image", "training", "retrieval", "gateway")
MODELS = {
    "talker": {"path": "echo", "type": "chat"},
    "keeper": {"path": "echo", "type": "chat"},
    "writer": {"path": "echo", "type": "completion"},
    "vectors": {"path": str(MINILM), "type": "embedding"},
    "ahead": {"path": str(MINILM), "type": "embedding"},
    "painter": {"path": "echo", "type": "image"},
    "warmer": {"path": "echo", "type": "image"},
}
SETTINGS = """
[log]
format = "json"
level = "debug"
[limits]
tokens_per_day = 2000
[telemetry]
otlp_endpoint = "http://127.0.0.1:{port}"
[services.inference]
engine = "echo"
[services.embedding]
engine = "echo"
[services.image]
engine = "echo"
"""
SECRET = "xylophone-marmalade-7731"
"""Stands in all that is asked, and may stand nowhere else."""
REQUEST_ID = "req-of-the-observed"
CALLER = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as started:
        yield started


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[Platform]:
    config = configuration(MODELS, SETTINGS.format(port=collector.port))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
        with running(tmp_path_factory.mktemp("observed"), config) as started:
            yield started


@pytest.fixture(scope="module")
def usage(platform: Platform) -> Mapping[str, Any]:
    """Asks for something of every kind; returns what the answer to the chat said was used."""
    with httpx.Client(base_url=platform.url, headers=_key(), timeout=60) as http:
        _settle(http)
        chat = http.post(
            "/v1/chat/completions",
            json=_chat(f"{SECRET} one"),
            headers={
                "traceparent": f"00-{CALLER[0]}-{CALLER[1]}-01",
                "tracestate": "vendor=1",
                "x-request-id": REQUEST_ID,
            },
        )
        assert chat.status_code == 200, chat.text
        used = json.loads(chat.text.split("data: ")[-2])["usage"]
        asked_for = [
            http.post("/v1/completions", json={"model": "writer", "prompt": SECRET}),
            http.post(
                "/v1/responses",
                json={"model": "keeper", "input": SECRET, "store": True, "max_output_tokens": 20},
            ),
            http.post("/v1/embeddings", json={"model": "vectors", "input": [SECRET, "two"]}),
            http.post(
                "/v1/images/generations",
                json={"model": "painter", "prompt": SECRET, "size": "64x64"},
            ),
        ]
        assert [answer.status_code for answer in (chat, *asked_for)] == [200] * 5
        refused = [
            http.post("/v1/chat/completions", json=_chat(SECRET, max_tokens=3000)),
            http.post("/v1/chat/completions", json=_chat(SECRET, temperature=SECRET)),
            http.post("/v1/chat/completions", content=f'{{"model": "{SECRET}"'),
        ]
        assert [answer.status_code for answer in refused] == [429, 400, 400]
        _make_things_up(http)
    return used


def _settle(http: httpx.Client) -> None:
    """Waits until each service is reached and the ledger has told it what was used today: that
    takes a moment, in which nobody is served."""
    deadline = time.monotonic() + 60
    for path, body in {
        "/v1/chat/completions": _chat("hello", model="keeper"),
        "/v1/embeddings": {"model": "ahead", "input": "hello"},
        "/v1/images/generations": {"model": "warmer", "prompt": "hello", "size": "64x64"},
        "/v1/vector_stores": {"name": "first"},
    }.items():
        while http.post(path, json=body).status_code != 200:
            assert time.monotonic() < deadline, path
            time.sleep(0.2)


def _make_things_up(http: httpx.Client) -> None:
    """Asks for what there is not."""
    for name, unusual in (("nowhere", "PROPFIND"), ("nothing", "PURGE"), ("nobody", "REPORT")):
        model = {"model": f"{name}-{SECRET}", "messages": [{"role": "user", "content": SECRET}]}
        assert http.post("/v1/chat/completions", json=model).status_code == 404
        assert http.get(f"/{name}/{SECRET}").status_code == 404
        assert http.request(unusual, "/v1/models").status_code == 405
        assert http.get("/v1/models", headers={"authorization": f"Bearer {name}"}).is_error


def _key() -> dict[str, str]:
    return {"authorization": f"Bearer {USER_TOKEN}"}


def _chat(text: str, **more: Any) -> dict[str, Any]:
    options = {"include_usage": True}
    messages = [{"role": "user", "content": text}]
    body = {"model": "talker", "messages": messages, "max_tokens": 20, "stream": True}
    return body | {"stream_options": options} | more


def _log(platform: Platform, service: str) -> str:
    return (platform.data_dir / "logs" / f"{service}.log").read_text()


def _scrape(platform: Platform, service: str) -> Series:
    where = re.search(r"http://[0-9.:]+/metrics", _log(platform, service))
    assert where is not None, service
    answer = httpx.get(where[0], timeout=30)
    assert answer.status_code == 200
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def _everything(platform: Platform) -> dict[str, Series]:
    return {service: _scrape(platform, service) for service in SERVICES}


def _value(series: Series, name: str, **labels: str) -> float:
    return series[name, frozenset(labels.items())]


def _exposed(platform: Platform) -> dict[str, set[str]]:
    """Labels by the names of all series of the platform."""
    found: dict[str, set[str]] = {"up": set()}  # Prometheus makes this one
    for series in _everything(platform).values():
        for name, labels in series:
            found.setdefault(name, set()).update(key for key, _ in labels)
    return found


def test_models_tell_what_the_answers_told(platform: Platform, usage: Mapping[str, Any]) -> None:
    series = _scrape(platform, "inference")
    about = {
        "gen_ai_operation_name": "chat",
        "gen_ai_provider_name": "penstock",
        "gen_ai_request_model": "talker",
    }
    assert (
        _value(series, "penstock_tokens_total", model="talker", type="prompt")
        == (usage["prompt_tokens"])
    )
    assert (
        _value(series, "penstock_tokens_total", model="talker", type="completion")
        == (usage["completion_tokens"])
    )
    for name, more in {
        "gen_ai_server_request_duration_seconds": {"error_type": ""},
        "gen_ai_server_time_to_first_token_seconds": {},
        "gen_ai_server_time_per_output_token_seconds": {},
        "gen_ai_client_token_usage": {"gen_ai_token_type": "output"},
    }.items():
        assert _value(series, f"{name}_count", **about, **more) == 1, name
        assert _value(series, f"{name}_sum", **about, **more) > 0, name
    assert _value(series, "penstock_queue_time_seconds_count", model="talker") == 1
    assert _value(series, "penstock_batch_size_sum", model="talker") >= usage["completion_tokens"]
    assert _value(series, "penstock_model_ready", model="talker") == 1
    assert _value(series, "penstock_requests_waiting", model="talker") == 0
    images = _scrape(platform, "image")
    assert _value(images, "penstock_images_total", model="painter") == 1
    vectors = _scrape(platform, "embedding")
    assert _value(vectors, "penstock_batch_size_sum", model="vectors") == 2


def test_refusals_are_told_by_their_reasons(platform: Platform, usage: Mapping[str, Any]) -> None:
    edge, inference = _scrape(platform, "gateway"), _scrape(platform, "inference")
    assert _value(inference, "penstock_limits_refused_total", limit="day") == 1
    method = "penstock.inference.internal.v1.StepService/StepStream:chat"
    told = {"rpc_method": method, "reason": "MODEL_NOT_FOUND"}
    assert _value(inference, "penstock_rpc_errors_total", **told) == 3
    for reason, count in {
        "RATE_LIMITED": 1,
        "MODEL_NOT_FOUND": 3,
        "INVALID_CREDENTIALS": 3,
    }.items():
        found = _value(edge, "penstock_http_errors_total", dialect="openai", reason=reason)
        assert found == count, reason


def test_callers_make_no_series(platform: Platform, usage: Mapping[str, Any]) -> None:
    before = _everything(platform)
    assert SECRET not in repr(before)
    with httpx.Client(base_url=platform.url, headers=_key(), timeout=60) as http:
        _make_things_up(http)
    with grpc.insecure_channel(platform.address("inference")) as channel:
        for name in (b"Nowhere", b"Nothing"):
            method = channel.unary_unary(f"/{SECRET}.Service/{name.decode()}")
            with pytest.raises(grpc.RpcError):
                method(b"", timeout=30)
    after = _everything(platform)
    new = {each for service in after for each in after[service].keys() - before[service].keys()}
    # Services that report to each other go on doing so meanwhile.
    methods = {dict(labels).get("rpc_method", "") for _, labels in new}
    assert {method for method in methods if not method.startswith("penstock.")} == {"_OTHER"}
    assert SECRET not in repr(after)


def test_a_trace_goes_through_the_step_stream(
    platform: Platform, usage: Mapping[str, Any], collector: Collector
) -> None:
    names = ("/v1/chat/completions", "StepStream:chat", "chat talker")
    spans = collector.wait(CALLER[0], lambda found: len(found) >= 3)
    edge, call, work = (_named(spans, name) for name in names)
    assert (edge.service, edge.name) == ("penstock-gateway", "POST /v1/chat/completions")
    assert [edge.parent_id, call.parent_id, work.parent_id] == [
        CALLER[1],
        edge.span_id,
        call.span_id,
    ]
    assert call.service == work.service == "penstock-inference"
    assert edge.attributes["penstock.request_id"] == REQUEST_ID
    assert edge.attributes["http.response.status_code"] == 200
    assert work.attributes["gen_ai.operation.name"] == "chat"
    assert work.attributes["gen_ai.usage.input_tokens"] == usage["prompt_tokens"]
    assert work.attributes["gen_ai.usage.output_tokens"] == usage["completion_tokens"]
    assert SECRET not in repr(collector.spans)


def test_a_trace_goes_through_services_that_call_each_other(
    platform: Platform, usage: Mapping[str, Any], collector: Collector
) -> None:
    trace = "11111111111111111111111111111111"
    headers = platform.headers() | {"traceparent": f"00-{trace}-{CALLER[1]}-01"}
    with httpx.Client(base_url=platform.url, headers=headers, timeout=60) as http:
        made = http.post("/v1/vector_stores", json={"name": "books"}).json()
        found = http.post(f"/v1/vector_stores/{made['id']}/search", json={"query": SECRET})
        assert found.status_code == 200, found.text
    way = ["penstock-embedding", "penstock-retrieval", "penstock-gateway"]
    collector.wait(trace, lambda spans: way in [_way(spans, span) for span in spans])


def _way(spans: list[SpanSeen], span: SpanSeen) -> list[str]:
    """The services from a span to the first that has none before it."""
    by_id = {span.span_id: span for span in spans}
    found = [span.service]
    while span.parent_id in by_id:
        span = by_id[span.parent_id]
        if span.service != found[-1]:
            found.append(span.service)
    return found


def _named(spans: list[SpanSeen], end: str) -> SpanSeen:
    (found,) = [span for span in spans if span.name.endswith(end)]
    return found


def test_logs_are_json_that_name_request_and_trace(
    platform: Platform, usage: Mapping[str, Any]
) -> None:
    for service in ("gateway", "inference"):
        lines = [json.loads(line) for line in _log(platform, service).splitlines()]
        about = [line for line in lines if line.get("request_id") == REQUEST_ID]
        assert about, service
        assert {line["trace_id"] for line in about} == {CALLER[0]}
        assert {"time", "level", "logger", "message"} <= about[0].keys()


def test_nothing_that_was_asked_is_in_any_log(platform: Platform, usage: Mapping[str, Any]) -> None:
    for service in SERVICES:
        log = _log(platform, service)
        assert f"{service} tells its metrics" in log
        # Models and paths that callers made up are named where they are refused.
        kept = [line for line in log.splitlines() if SECRET in line]
        assert all(f"-{SECRET}" in line or f"/{SECRET}" in line for line in kept), kept
    assert SECRET not in platform.log.read_text()


def _rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def _panels() -> list[tuple[str, str]]:
    """Expressions of all panels, with their legends."""
    found: list[tuple[str, str]] = []
    for file in DASHBOARDS:
        dashboard = json.loads(file.read_text())
        ids = [panel["id"] for panel in dashboard["panels"]]
        assert len(ids) == len(set(ids))
        for panel in dashboard["panels"]:
            for target in panel.get("targets", ()):
                expression = target["expr"].replace("$__rate_interval", "5m")
                found.append((expression.replace("$model", ".*"), target["legendFormat"]))
    return found


def test_dashboards_and_rules_ask_for_what_is_exposed(
    platform: Platform, usage: Mapping[str, Any]
) -> None:
    exposed = _exposed(platform)
    expressions = [rule["expr"] for rule in _rules()] + [panel for panel, _ in _panels()]
    assert len(expressions) > 40
    for expression in expressions:
        for name, labels in asked(expression):
            assert name in exposed, expression
            assert labels <= exposed[name], (expression, labels - exposed[name])
    for file in DASHBOARDS:
        asks = re.findall(r"label_values\((\w+), (\w+)\)", file.read_text())
        assert all(label in exposed[name] for name, label in asks), file.name
    for expression, legend in _panels():
        known = set().union(*(exposed[name] for name, _ in asked(expression))) | ADDED
        assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= known, legend


def test_the_page_lists_every_metric_and_label(
    platform: Platform, usage: Mapping[str, Any]
) -> None:
    page = PAGE.read_text()
    for name, labels in _exposed(platform).items():
        listed = re.sub(r"_(bucket|sum|count)$", "", name)
        assert f"`{listed}`" in page or name == "up", name
        assert all(f"`{label}`" in page for label in labels), (name, labels)
    rows = re.findall(r"^\| `(\w+)`", PAGE.read_text(), re.MULTILINE)
    told = {re.sub(r"_(bucket|sum|count)$", "", name) for name in _exposed(platform)}
    assert set(rows) <= told


def test_each_alert_has_its_lines_in_the_runbook() -> None:
    titles = re.findall(r"^## (\w+)$", RUNBOOK.read_text(), re.MULTILINE)
    rules = _rules()
    assert [rule["alert"] for rule in rules] == list(dict.fromkeys(r["alert"] for r in rules))
    assert sorted(titles) == sorted(rule["alert"] for rule in rules)
    for rule in rules:
        assert rule["annotations"]["runbook"] == f"docs/runbook.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"]


def test_the_scrape_configuration_names_every_process() -> None:
    document = yaml.safe_load((OBSERVABILITY / "prometheus.yml").read_text())
    (job,) = document["scrape_configs"]
    assert job["job_name"] == "penstock"
    assert {config["labels"]["service"] for config in job["static_configs"]} == set(SERVICES)
    assert all((OBSERVABILITY / name).is_file() for name in document["rule_files"])
