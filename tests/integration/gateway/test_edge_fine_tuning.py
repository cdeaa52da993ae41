"""Fine-tuning jobs over real sockets: creating, listing, orders, events, checkpoints."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from penstock.training.v1 import file_pb2, job_pb2

from tests.integration.gateway.conftest import TOKEN, Edge
from tests.integration.gateway.edge_backend import CREATED, model
from tests.integration.gateway.job_peer import State
from tests.integration.gateway.test_edge_streams import read_chunk, read_head
from tests.integration.gateway.test_edge_vector_stores import error_of

JOBS = "/v1/fine_tuning/jobs"
FINE_TUNE = file_pb2.FILE_PURPOSE_FINE_TUNE


def put_file(edge: Edge, purpose: file_pb2.FilePurpose.ValueType = FINE_TUNE) -> str:
    return edge.vectors.training.put(b"{}\n", "a.jsonl", purpose)


async def post(edge: Edge, key: str | None = None, **more: Any) -> httpx.Response:
    body = {"model": "base", "training_file": put_file(edge), **more}
    headers = {} if key is None else {"idempotency-key": key}
    return await edge.http.post(JOBS, json=body, headers=headers)


async def start(edge: Edge, **more: Any) -> dict[str, Any]:
    answer = await post(edge, **more)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_job_is_started(edge: Edge) -> None:
    validation = put_file(edge)
    made = await start(
        edge,
        validation_file=validation,
        suffix="mine",
        metadata={"team": "a"},
        integrations=[{"type": "wandb", "wandb": {"project": "p"}}],
        method={"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.2, "n_epochs": 3}}},
    )
    auto = {"batch_size": "auto", "learning_rate_multiplier": "auto"}
    assert made.pop("training_file").startswith("file-")
    assert made == {
        "id": "ftjob-000000000000000000000001",
        "object": "fine_tuning.job",
        "created_at": CREATED + 1,
        "error": None,
        "fine_tuned_model": None,
        "finished_at": None,
        "hyperparameters": {"n_epochs": 3, **auto},
        "model": "base",
        "organization_id": "org-local",
        "result_files": [],
        "status": "validating_files",
        "trained_tokens": None,
        "validation_file": validation,
        "integrations": [],
        "seed": 42,
        "estimated_finish": None,
        "method": {
            "type": "dpo",
            "dpo": {"hyperparameters": {"n_epochs": 3, **auto, "beta": 0.2}},
        },
        "metadata": {"team": "a"},
    }
    peer = edge.vectors.training
    assert peer.requests[-1].job.suffix == "mine"
    assert peer.metadata[-1]["authorization"] == f"Bearer {TOKEN}"
    got = (await edge.http.get(f"{JOBS}/{made['id']}")).json()
    assert got["metadata"] == {"team": "a"}


async def test_a_key_starts_one_job_however_often_it_is_sent(edge: Edge) -> None:
    first = (await post(edge, "abc")).json()["id"]
    assert (await post(edge, "abc")).json()["id"] == first
    assert (await post(edge, "abd")).json()["id"] != first
    assert (await post(edge)).json()["id"] != first
    assert error_of(await post(edge, "k" * 129))["param"] == "Idempotency-Key"


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({}, "model", "missing_required_parameter"),
        ({"model": "base"}, "training_file", "missing_required_parameter"),
        ({"model": "base", "training_file": "f", "seed": -1}, "seed", "integer_below_min_value"),
        (
            {"model": "base", "training_file": "f", "method": {"type": "reinforcement"}},
            "method.type",
            "unsupported_parameter",
        ),
    ],
)
async def test_refused_by_the_edge(edge: Edge, body: Any, param: str, code: str) -> None:
    error = error_of(await edge.http.post(JOBS, json=body))
    assert (error["param"], error["code"]) == (param, code), error
    assert not edge.vectors.training.jobs


@pytest.mark.parametrize("param", ["training_file", "validation_file"])
async def test_files_that_are_unknown_or_for_something_else(edge: Edge, param: str) -> None:
    error = error_of(await post(edge, **{param: "file-none"}), 404)
    assert (error["param"], error["message"]) == (param, "No such File object: file-none")
    other = put_file(edge, file_pb2.FILE_PURPOSE_ASSISTANTS)
    assert error_of(await post(edge, **{param: other}))["param"] == param


@pytest.mark.parametrize(
    ("name", "more", "status", "param"),
    [
        ("no-such-model", {}, 404, "model"),
        ("fails-INVALID_ARGUMENT-job.base_model", {}, 400, "model"),
        ("fails-INVALID_ARGUMENT-job.suffix", {}, 400, "suffix"),
        ("fails-UNSUPPORTED_PARAMETER-job.dpo", {}, 400, "method.type"),
        (
            "fails-INVALID_ARGUMENT-job.hyperparameters.batch_size",
            {"hyperparameters": {"batch_size": 3}},
            400,
            "hyperparameters.batch_size",
        ),
        (
            "fails-INVALID_ARGUMENT-job.hyperparameters.batch_size",
            {"method": {"type": "dpo", "dpo": {"hyperparameters": {"batch_size": 3}}}},
            400,
            "method.dpo.hyperparameters.batch_size",
        ),
        ("fails-PERMISSION_DENIED", {}, 403, None),
        ("fails-QUEUE_FULL", {}, 503, None),
    ],
)
async def test_refused_by_the_service(
    edge: Edge, name: str, more: dict[str, Any], status: int, param: str | None
) -> None:
    error = error_of(await post(edge, model=name, **more), status)
    assert error["param"] == param
    if name == "no-such-model":
        assert error["code"] == "model_not_found"


PATHS = [
    ("GET", ""),
    ("POST", ""),
    ("GET", "/{id}"),
    ("POST", "/{id}/cancel"),
    ("POST", "/{id}/pause"),
    ("POST", "/{id}/resume"),
    ("GET", "/{id}/events"),
    ("GET", "/{id}/events?stream=true"),
    ("GET", "/{id}/checkpoints"),
]


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_who_may(edge: Edge, method: str, path: str) -> None:
    peer = edge.vectors.training
    url = JOBS + path.format(id=peer.put_job())
    body = {"model": "base", "training_file": put_file(edge)} if path == "" else None
    peer.untrusted.add(f"Bearer {TOKEN}")
    error = error_of(await edge.http.request(method, url, json=body), 403)
    assert (error["type"], error["code"]) == ("permission_error", "insufficient_permissions")
    async with httpx.AsyncClient(base_url=edge.http.base_url) as stranger:
        error_of(await stranger.request(method, url, json=body), 401)


@pytest.mark.parametrize(("method", "path"), PATHS[2:])
@pytest.mark.parametrize("job_id", ["ftjob-none", "x%00y", "%C3%A9", "ft:x"])
async def test_unknown_jobs(edge: Edge, method: str, path: str, job_id: str) -> None:
    error = error_of(await edge.http.request(method, JOBS + path.format(id=job_id)), 404)
    assert (error["param"], error["code"]) == ("fine_tune_id", "fine_tune_not_found")
    assert error["message"].startswith("Could not find fine tune: ")


@pytest.mark.parametrize("tail", ["/fly", "/events/x", "/cancel/x"])
async def test_no_such_routes(edge: Edge, tail: str) -> None:
    job_id = edge.vectors.training.put_job()
    error = error_of(await edge.http.get(f"{JOBS}/{job_id}{tail}"), 404)
    assert error["code"] == "unknown_url"


@pytest.mark.parametrize("order", ["cancel", "pause", "resume"])
async def test_orders_are_posted(edge: Edge, order: str) -> None:
    job_id = edge.vectors.training.put_job()
    answer = await edge.http.get(f"{JOBS}/{job_id}/{order}")
    assert error_of(answer, 405)["code"] == "method_not_supported"


@pytest.mark.parametrize("content", [b"", b"{}", b'{"x":1}'])
async def test_orders(edge: Edge, content: bytes) -> None:
    job_id = edge.vectors.training.put_job()
    headers = {"content-type": "application/json"}

    async def order(word: str) -> Any:
        url = f"{JOBS}/{job_id}/{word}"
        return (await edge.http.post(url, content=content, headers=headers)).json()

    assert (await order("pause"))["status"] == "paused"
    assert (await order("resume"))["status"] == "queued"
    assert (await order("cancel"))["status"] == "cancelled"
    assert (await order("cancel"))["status"] == "cancelled"
    assert (await order("pause"))["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("order", ["cancel", "pause", "resume"])
async def test_a_job_that_has_ended_takes_no_orders(edge: Edge, order: str) -> None:
    job_id = edge.vectors.training.put_job(state=State.STATE_SUCCEEDED)
    error_of(await edge.http.post(f"{JOBS}/{job_id}/{order}"))
    error_of(await edge.http.post(f"{JOBS}/{job_id}/{order}", content=b"{"))


async def pages(http: httpx.AsyncClient, url: str) -> list[list[str]]:
    """Turns the pages as the SDKs do."""
    found: list[list[str]] = []
    after = ""
    while True:
        page = (await http.get(f"{url}{after}")).json()
        assert page["object"] == "list"
        found.append([item["id"] for item in page["data"]])
        if not page["has_more"]:
            return found
        after = f"&after={found[-1][-1]}"


async def test_pages(edge: Edge) -> None:
    peer = edge.vectors.training
    ids = [peer.put_job() for _ in range(5)]
    events = [peer.tell(ids[0], f"event {n}") for n in range(3)]
    checkpoints = [peer.snap(ids[0], n) for n in range(3)]
    assert await pages(edge.http, f"{JOBS}?limit=2") == [ids[4:2:-1], ids[2:0:-1], ids[:1]]
    job = f"{JOBS}/{ids[0]}"
    assert await pages(edge.http, f"{job}/events?limit=2") == [events[:0:-1], events[:1]]
    assert await pages(edge.http, f"{job}/checkpoints?limit=3") == [checkpoints[::-1]]
    for url, size in ((JOBS, 20), (f"{job}/events", 20), (f"{job}/checkpoints", 10)):
        assert (await edge.http.get(url)).json()["has_more"] is False
        assert peer.requests[-1].page_size == size
    page = (await edge.http.get(f"{job}/checkpoints?limit=2")).json()
    assert (page["first_id"], page["last_id"]) == (checkpoints[2], checkpoints[1])


@pytest.mark.parametrize("path", ["", "/{id}/events", "/{id}/checkpoints"])
@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("after=nobody", "after"),
        ("after=a/b", "after"),
    ],
)
async def test_bad_queries(edge: Edge, path: str, query: str, param: str) -> None:
    url = JOBS + path.format(id=edge.vectors.training.put_job())
    assert error_of(await edge.http.get(f"{url}?{query}"))["param"] == param


async def test_jobs_by_their_labels(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    # Far fewer than a page of the service holds: the search must turn pages to find them all.
    monkeypatch.setattr("gateway.dialects.openai.fine_tuning_routes._LARGEST_PAGE", 3)
    peer = edge.vectors.training
    ids = [peer.put_job(metadata={"team": "ab"[n % 2], "n": str(n)}) for n in range(10)]
    bare = peer.put_job()
    of_a = ids[8::-2]
    assert await pages(edge.http, f"{JOBS}?metadata[team]=a") == [of_a]
    assert await pages(edge.http, f"{JOBS}?limit=2&metadata[team]=a") == [
        of_a[:2],
        of_a[2:4],
        of_a[4:],
    ]
    assert await pages(edge.http, f"{JOBS}?limit=5&metadata[team]=a") == [of_a]
    assert await pages(edge.http, f"{JOBS}?metadata[team]=a&metadata[n]=4") == [[ids[4]]]
    assert await pages(edge.http, f"{JOBS}?metadata[team]=") == [[]]
    assert await pages(edge.http, f"{JOBS}?metadata=null") == [[bare]]
    assert error_of(await edge.http.get(f"{JOBS}?metadata=x"))["param"] == "metadata"


def frames(text: str) -> list[Any]:
    *whole, rest = text.split("\n\n")
    assert rest == ""
    said = [frame.removeprefix("data: ") for frame in whole if not frame.startswith(":")]
    return [frame if frame == "[DONE]" else json.loads(frame) for frame in said]


async def test_a_stream_of_a_job_that_has_ended(edge: Edge) -> None:
    peer = edge.vectors.training
    job_id = peer.put_job(state=State.STATE_SUCCEEDED)
    report = job_pb2.MetricsReport(step=1, epoch=0.5, metrics={"train_loss": 2.5})
    ids = [peer.tell(job_id, "begun"), peer.tell(job_id, "step 1", metrics=report)]
    ids.append(peer.tell(job_id, "done"))
    url = f"{JOBS}/{job_id}/events?stream=true"
    answer = await edge.http.get(url)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    *events, end = frames(answer.text)
    assert end == "[DONE]"
    assert [event["id"] for event in events] == ids
    listed = (await edge.http.get(f"{JOBS}/{job_id}/events")).json()["data"]
    assert events == listed[::-1]
    assert events[1]["data"] == {"step": 1, "train_loss": 2.5, "epoch": 0.5}
    later = frames((await edge.http.get(f"{url}&after={ids[0]}")).text)
    assert later == [*events[1:], "[DONE]"]


async def test_a_stream_goes_on_until_the_job_has_ended(edge: Edge) -> None:
    peer = edge.vectors.training
    job_id = peer.put_job()
    peer.tell(job_id, "one")
    said: list[str] = []
    async with edge.http.stream("GET", f"{JOBS}/{job_id}/events?stream=true") as answer:
        async for line in answer.aiter_lines():
            if not line:
                continue
            said.append(line)
            if len(said) == 1:
                peer.tell(job_id, "two")
            elif len(said) == 2:
                peer.go(job_id, State.STATE_FAILED)
    assert said[-1] == "data: [DONE]"
    assert [json.loads(line[6:])["message"] for line in said[:-1]] == ["one", "two"]


async def raw_stream(edge: Edge, job_id: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection(edge.host, edge.port)
    path = f"{JOBS}/{job_id}/events?stream=true"
    head = f"GET {path} HTTP/1.1\r\nHost: edge\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    writer.write(head.encode())
    assert b"200 OK" in await read_head(reader)
    return reader, writer


async def test_the_answer_begins_before_anything_happens(edge: Edge) -> None:
    job_id = edge.vectors.training.put_job()
    reader, writer = await raw_stream(edge, job_id)
    edge.vectors.training.tell(job_id, "at last")
    assert b"at last" in await read_chunk(reader)
    writer.close()


async def test_a_client_that_leaves_ends_the_stream(edge: Edge) -> None:
    peer = edge.vectors.training
    _, writer = await raw_stream(edge, peer.put_job())
    await edge.backend.until(lambda: peer.live == 1)
    writer.close()
    await edge.backend.until(lambda: peer.live == 0)


class TestSilence:
    @pytest.fixture
    def edge_changes(self) -> dict[str, object]:
        return {"ping_interval_s": 0.05}

    async def test_silence_is_pinged(self, edge: Edge) -> None:
        reader, writer = await raw_stream(edge, edge.vectors.training.put_job(suffix="forever"))
        for _ in range(2):
            assert await read_chunk(reader) == b": ping\n\n"
        writer.close()


async def test_streams_that_fail(edge: Edge) -> None:
    peer = edge.vectors.training
    refused = peer.put_job(suffix="refused")
    error_of(await edge.http.get(f"{JOBS}/{refused}/events?stream=true"), 503)
    for suffix in ("breaks", "cut"):
        job_id = peer.put_job(suffix=suffix)
        peer.tell(job_id, "one")
        one, error = frames((await edge.http.get(f"{JOBS}/{job_id}/events?stream=true")).text)
        assert one["message"] == "one"
        assert set(error["error"]) == {"message", "type", "param", "code"}


async def test_a_stream_after_an_event_that_is_none(edge: Edge) -> None:
    url = f"{JOBS}/{edge.vectors.training.put_job()}/events?stream=true"
    assert error_of(await edge.http.get(f"{url}&after=ftevent-none"))["param"] == "after"
    assert error_of(await edge.http.get(f"{url}&limit=3"))["param"] == "limit"


async def test_head_of_a_stream_does_not_wait(edge: Edge) -> None:
    url = f"{JOBS}/{edge.vectors.training.put_job()}/events?stream=true"
    assert (await edge.http.head(url)).status_code == 200


async def test_a_result_is_deleted_as_a_model(edge: Edge) -> None:
    for name in ("ft:base:local:mine:abcdefgh", "ft:org/base:local::abcdefgh:ckpt-step-9"):
        edge.backend.models[f"models/{name}"] = model(name)
        url = f"/v1/models/{name}"
        assert (await edge.http.get(url)).json()["id"] == name
        gone = (await edge.http.delete(url)).json()
        assert gone == {"id": name, "object": "model", "deleted": True}
        assert error_of(await edge.http.delete(url), 404)["code"] == "model_not_found"


async def test_openapi_describes_jobs(edge: Edge) -> None:
    document: dict[str, Any] = (await edge.http.get("/openapi.json")).json()
    job = f"{JOBS}/{{fine_tuning_job_id}}"
    found = {
        (path, method)
        for path, item in document["paths"].items()
        if path.startswith(JOBS)
        for method in item
    }
    assert found == {
        (path, method.lower())
        for path, method in (
            (JOBS, "POST"),
            (JOBS, "GET"),
            (job, "GET"),
            *((f"{job}/{order}", "POST") for order in ("cancel", "pause", "resume")),
            (f"{job}/events", "GET"),
            (f"{job}/checkpoints", "GET"),
        )
    }
    required = document["components"]["schemas"]["FineTuningJobCreate"]["required"]
    assert required == ["model", "training_file"]
    events = document["paths"][f"{job}/events"]["get"]["responses"]["200"]["content"]
    assert set(events) == {"application/json", "text/event-stream"}
    parameters = document["paths"][JOBS]["get"]["parameters"]
    query = {item["name"]: item for item in parameters if "$ref" not in item}
    assert query["metadata"]["style"] == "deepObject"
    assert "style" not in query["limit"]
