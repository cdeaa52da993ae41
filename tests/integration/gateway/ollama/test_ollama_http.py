"""Ollama's dialect before the real services."""

from __future__ import annotations

import asyncio
import base64
import json
import math
from typing import Any

import httpx
import pytest

from tests.integration.gateway.echo_platform import CHAT, COMPLETER, SLOW, VECTORS, EchoPlatform

HELLO = [{"role": "user", "content": "once upon a time"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
COUNTS = ("prompt_eval_count", "eval_count")
DURATIONS = ("total_duration", "load_duration", "prompt_eval_duration", "eval_duration")


def chat(**changes: Any) -> dict[str, Any]:
    return {"model": CHAT, "messages": HELLO} | changes


def generate(**changes: Any) -> dict[str, Any]:
    return {"model": CHAT, "prompt": "once upon a time"} | changes


def lines(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.text.endswith("\n")
    return [json.loads(line) for line in answer.text.splitlines()]


def error(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json()) == ["error"]
    return answer.json()["error"]


@pytest.mark.parametrize("prefix", ["/api", ""])
async def test_a_chat_whole_and_streamed(whole: EchoPlatform, prefix: str) -> None:
    answer = await whole.http.post(f"{prefix}/chat", json=chat())
    assert answer.headers["content-type"] == "application/json"
    said = answer.json()
    assert said["message"] == {"role": "assistant", "content": "once upon a time"}
    assert (said["model"], said["done"], said["done_reason"]) == (CHAT, True, "stop")
    assert said["total_duration"] == sum(said[name] for name in DURATIONS[1:])
    assert all(said[name] > 0 for name in COUNTS)

    stream = lines(await whole.http.post(f"{prefix}/chat", json=chat(stream=True)))
    assert "".join(line["message"]["content"] for line in stream) == "once upon a time"
    assert [line["done"] for line in stream] == [False] * (len(stream) - 1) + [True]
    assert all(name in stream[-1] for name in DURATIONS)
    assert all(stream[-1][name] == said[name] for name in COUNTS)
    assert len({line["created_at"] for line in stream}) == 1


@pytest.mark.parametrize("prefix", ["/api", ""])
async def test_a_prompt_is_answered_or_continued(whole: EchoPlatform, prefix: str) -> None:
    async def said(**changes: Any) -> dict[str, Any]:
        answer = await whole.http.post(f"{prefix}/generate", json=generate(**changes))
        assert answer.status_code == 200, answer.text
        return answer.json()

    assert (await said())["response"] == "once upon a time"
    with_system = await said(system="Be brief.")
    assert with_system["prompt_eval_count"] > (await said())["prompt_eval_count"]
    # The template is not put around it: nothing is left but its bytes.
    raw = await said(raw=True, options={"num_predict": 4})
    assert (raw["response"], raw["prompt_eval_count"]) == ("once", 16)
    assert (raw["done_reason"], raw["eval_count"]) == ("length", 4)
    # A model without a template needs no word for it.
    plain = await said(model=COMPLETER, options={"num_predict": 4})
    assert (plain["response"], plain["prompt_eval_count"]) == ("once", 16)

    for changes in ({}, {"raw": True}, {"model": COMPLETER}):
        body = generate(stream=True, **changes)
        stream = lines(await whole.http.post(f"{prefix}/generate", json=body))
        assert "".join(line["response"] for line in stream) == (await said(**changes))["response"]
        assert stream[-1]["done"] is True


async def test_streams_need_asking_for(whole: EchoPlatform) -> None:
    for path, body in (("chat", chat()), ("generate", generate())):
        for stream in ({}, {"stream": False}, {"stream": None}):
            answer = await whole.http.post(f"/api/{path}", json=body | stream)
            # One line, which is what who expects a stream takes for all of it.
            assert json.loads(answer.text)["done"] is True


async def test_names_may_have_the_tag_that_clients_add(whole: EchoPlatform) -> None:
    for path, body in (
        ("chat", chat()),
        ("generate", generate()),
        ("show", {"model": CHAT}),
        ("embed", {"model": VECTORS, "input": "x"}),
    ):
        name = f"{body['model']}:latest"
        answer = await whole.http.post(f"/api/{path}", json=body | {"model": name})
        assert answer.status_code == 200, answer.text
        assert answer.json().get("model", name) == name
        said = error(await whole.http.post(f"/api/{path}", json=body | {"model": "none:1"}), 404)
        assert "none" in said


CALL = '<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>'


async def test_a_call_of_a_tool_and_its_result(whole: EchoPlatform) -> None:
    turns: list[dict[str, Any]] = [{"role": "user", "content": CALL}]
    body = chat(messages=turns, tools=[TOOL])
    message = (await whole.http.post("/api/chat", json=body)).json()["message"]
    (call,) = message["tool_calls"]
    assert call["function"] == {"index": 0, "name": "f", "arguments": {"a": 1}}
    stream = lines(await whole.http.post("/api/chat", json=body | {"stream": True}))
    (told,) = [line for line in stream if "tool_calls" in line["message"]]
    assert told["message"]["tool_calls"][0]["function"] == call["function"]

    turns += [message, {"role": "tool", "tool_name": "f", "content": "42"}]
    turns.append({"role": "user", "content": "so?"})
    answer = await whole.http.post("/api/chat", json=body)
    assert answer.json()["message"] == {"role": "assistant", "content": "so?"}


async def test_logprobs(whole: EchoPlatform) -> None:
    body = chat(logprobs=True, top_logprobs=2)
    whole_ones = (await whole.http.post("/api/chat", json=body)).json()["logprobs"]
    assert "".join(token["token"] for token in whole_ones) == "once upon a time"
    assert all(len(token["top_logprobs"]) == 2 for token in whole_ones)
    stream = lines(await whole.http.post("/api/chat", json=body | {"stream": True}))
    assert [token for line in stream for token in line.get("logprobs", ())] == whole_ones


async def test_vectors(whole: EchoPlatform) -> None:
    texts = ["once", "upon"]
    for prefix in ("/api", ""):
        answer = await whole.http.post(f"{prefix}/embed", json={"model": VECTORS, "input": texts})
        body = answer.json()
        assert body["model"] == VECTORS
        assert body["prompt_eval_count"] > 0
        assert body["total_duration"] > 0
        assert [len(vector) for vector in body["embeddings"]] == [64, 64]
        for vector in body["embeddings"]:
            assert math.isclose(sum(x * x for x in vector), 1, rel_tol=1e-5)
    one = await whole.http.post("/api/embed", json={"model": VECTORS, "input": "once"})
    assert one.json()["embeddings"] == body["embeddings"][:1]
    old = await whole.http.post("/api/embeddings", json={"model": VECTORS, "prompt": "once"})
    assert len(old.json()["embedding"]) == 64
    nothing = await whole.http.post("/api/embeddings", json={"model": VECTORS})
    assert nothing.json() == {"embedding": []}
    nothing = await whole.http.post("/api/embed", json={"model": VECTORS, "input": []})
    assert nothing.json()["embeddings"] == []
    long = {"model": VECTORS, "input": "word " * 500}
    assert (await whole.http.post("/api/embed", json=long)).status_code == 200
    said = error(await whole.http.post("/api/embed", json=long | {"truncate": False}), 400)
    assert "input" in said


async def test_models(whole: EchoPlatform) -> None:
    for path in ("/api/tags", "/tags", "/api/ps"):
        found = {model["name"]: model for model in (await whole.http.get(path)).json()["models"]}
        # What draws, and what isn't there yet, is of no use to these clients.
        assert set(found) == {CHAT, SLOW, COMPLETER, VECTORS}
        assert len({model["digest"] for model in found.values()}) == 4
        assert all(len(model["digest"]) == 64 for model in found.values())
        assert found[CHAT]["model"] == CHAT
        assert found[CHAT]["details"]["parameter_size"] == "22.70M"
    shown = (await whole.http.post("/api/show", json={"model": CHAT})).json()
    assert shown["capabilities"] == ["completion", "tools"]
    assert shown["model_info"]["chatml.context_length"] == 4096
    assert "im_start" in shown["template"]
    shown = (await whole.http.post("/api/show", json={"name": VECTORS})).json()
    assert shown["capabilities"] == ["embedding"]
    assert shown["template"] == ""
    version = (await whole.http.get("/api/version")).json()
    assert version["version"]


async def test_loading_is_nothing_to_do(whole: EchoPlatform) -> None:
    for path, body in (("chat", {"messages": []}), ("generate", {"prompt": ""})):
        for keep_alive, reason in ((None, "load"), (0, "unload"), ("5m", "load")):
            asked = {"model": CHAT, "keep_alive": keep_alive} | body
            answer = (await whole.http.post(f"/api/{path}", json=asked)).json()
            assert (answer["done"], answer["done_reason"]) == (True, reason)
        error(await whole.http.post(f"/api/{path}", json={"model": "none"} | body), 404)


async def test_refusals(whole: EchoPlatform) -> None:
    http = whole.http
    for method, path in (
        *(("POST", path) for path in ("pull", "push", "create", "copy", "blobs/sha256:1")),
        ("DELETE", "delete"),
    ):
        said = error(await http.request(method, f"/api/{path}", json={"model": CHAT}), 501)
        assert "penstock models" in said
    assert (await http.head("/api/blobs/sha256:1")).status_code == 501
    error(await http.get("/api/chat"), 405)
    error(await http.get("/api/none"), 404)
    error(await http.post("/api/chat", content=b"{"), 400)
    image = base64.b64encode(b"image").decode()
    for path, body, field in (
        ("chat", chat(think="a lot"), "think"),
        ("chat", chat(format="xml"), "format"),
        ("chat", chat(format="json"), "format"),  # the echo engine has no guided decoding
        ("chat", chat(options={"temperature": 3}), "options.temperature"),
        ("chat", chat(options={"repeat_penalty": 1.5}), "options.repeat_penalty"),
        ("chat", chat(options={"num_predict": 10**8}), "messages"),
        ("chat", chat(top_logprobs=2), "top_logprobs"),
        ("chat", chat(messages=[{**HELLO[0], "images": [image]}]), "messages[0].images"),
        ("chat", chat(messages=[{**HELLO[0], "tool_calls": []}, {"role": "x"}]), "role"),
        ("chat", chat(tools=[{"function": {"name": "!"}}]), "tools[0].function.name"),
        ("generate", generate(template="x"), "template"),
        ("generate", generate(context=[1]), "context"),
        ("generate", generate(suffix="x"), "suffix"),
        ("generate", generate(images=[image]), "images"),
        ("generate", generate(raw=True, system="x"), "system"),
        ("generate", generate(options={"num_predict": 10**8}), "prompt"),
        ("generate", generate(model=VECTORS), "model"),
        ("embed", {"model": VECTORS}, "input"),
        ("embed", {"model": VECTORS, "input": ["x", ""]}, "input[1]"),
    ):
        said = error(await http.post(f"/api/{path}", json=body), 400 if body else 404)
        assert field in said, (body, said)
    async with httpx.AsyncClient(base_url=whole.url) as nobody:
        for method, path in (("POST", "/api/chat"), ("POST", "/generate"), ("GET", "/tags")):
            answer = await nobody.request(method, path)
            error(answer, 401)
            assert answer.headers["www-authenticate"] == "Bearer"


async def test_what_is_others_stays_theirs(whole: EchoPlatform) -> None:
    assert set((await whole.http.get("/api/v1/ai/models")).json()) == {"error", "message"}
    assert (await whole.http.get("/api/sd-models")).status_code == 503  # no images are served here
    assert "code" in (await whole.http.get("/api/sd-models")).json()["error"]


async def test_who_leaves_frees_the_engine(whole: EchoPlatform) -> None:
    body = generate(model=SLOW, prompt="x" * 2000, stream=True)
    async with whole.http.stream("POST", "/api/generate", json=body) as answer:
        assert answer.status_code == 200
        async for _ in answer.aiter_lines():
            break
        assert whole.running == 1
    async with asyncio.timeout(10):
        while whole.running:  # noqa: ASYNC110 - the engine has no event for it
            await asyncio.sleep(0.01)
