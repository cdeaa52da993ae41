"""`POST /api/v1/ai/inference` and its neighbours, before real services with models of each kind."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import jsonschema
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.integration.gateway.odd_bodies import damage
from tests.integration.gateway.raw_platform import RawPlatform, document_schema, raw_platform
from tests.integration.gateway.test_edge_bad_bodies import HORRORS, JSON

API = "/api/v1/ai"
INFERENCE = f"{API}/inference"

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def platform(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RawPlatform]:
    async with raw_platform(tmp_path_factory.mktemp("raw")) as platform:
        yield platform


@pytest_asyncio.fixture(loop_scope="module")
async def http(platform: RawPlatform) -> AsyncIterator[httpx.AsyncClient]:
    async with platform.client() as http:
        yield http


async def infer(http: httpx.AsyncClient, model: str, sent: Any, **parameters: Any) -> Any:
    body = {"model": model, "input": sent, "parameters": parameters}
    answer = await http.post(INFERENCE, json=body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    found = answer.json()
    assert list(found) == ["model", "output", "usage", "latency_ms"]
    assert found["model"] == model
    assert found["latency_ms"] >= 0
    return found


async def refused(http: httpx.AsyncClient, status: int, body: Any, path: str = INFERENCE) -> str:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = await http.post(path, content=content)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    found = answer.json()
    assert list(found) == ["error", "message"]
    assert found["error"] == {400: "bad_request", 404: "not_found"}[status]
    return found["message"]


async def test_a_text_is_answered_or_continued(http: httpx.AsyncClient) -> None:
    for model in ("talker", "org/talker", "writer"):
        found = await infer(http, model, "hello", max_tokens=3, temperature=0, stop="x")
        assert found["output"] == "hel"
        usage = found["usage"]
        assert usage["completion_tokens"] == 3
        assert usage["total_tokens"] == usage["prompt_tokens"] + 3
    plain = await http.post(INFERENCE, json={"model": "writer", "input": "ab", "parameters": None})
    assert plain.json()["output"] == "ab"


async def test_a_text_becomes_a_vector(http: httpx.AsyncClient) -> None:
    found = await infer(http, "vectors", "one two")
    listed = await http.post("/v1/embeddings", json={"model": "vectors", "input": "one two"})
    assert found["output"] == listed.json()["data"][0]["embedding"]
    assert found["usage"]["prompt_tokens"] == listed.json()["usage"]["prompt_tokens"]
    assert found["usage"]["completion_tokens"] == 0


async def test_a_text_is_drawn(http: httpx.AsyncClient) -> None:
    wishes = {"width": 64, "height": 48, "steps": 3, "seed": 7, "negative_prompt": "blue"}
    found = await infer(http, "painter", "a red circle", **wishes)
    picture = Image.open(io.BytesIO(base64.b64decode(found["output"], validate=True)))
    assert (picture.format, picture.size) == ("PNG", (64, 48))
    again = await infer(http, "painter", "a red circle", **wishes)
    assert again["output"] == found["output"]
    other = await infer(http, "painter", "a red circle", **(wishes | {"seed": 8}))
    assert other["output"] != found["output"]
    assert "Steps: 3" in picture.info["parameters"]


async def test_arrays_are_computed_with(http: httpx.AsyncClient) -> None:
    found = await infer(http, "linear", [[1, 1, 1], [0, 1, 2]])
    assert found["output"] == [[6.0, 9.0], [10.0, 13.0]]
    assert found["usage"] is None
    named = await infer(http, "linear", {"x": [[1, 1, 1]]})
    assert named["output"] == {"y": [[6.0, 9.0]]}
    both = await infer(http, "pair", {"b": [3, 4], "a": [1, 2]})
    assert both["output"] == {"sum": [4.0, 6.0], "product": [3.0, 8.0]}
    echoed = await infer(http, "echo-arrays", [[[0.5]], [[-1]]])
    assert echoed["output"] == [[[0.5]], [[-1.0]]]
    large = [[float(number)] * 3 for number in range(40_000)]
    assert len((await infer(http, "linear", large))["output"]) == 40_000


@pytest.mark.parametrize(
    ("model", "sent", "says"),
    [
        ("talker", [[1]], "takes a text, but got an array"),
        ("talker", {"x": 1}, "takes a text, but got an object"),
        ("writer", [], "takes a text"),
        ("vectors", [1.5], "takes a text"),
        ("painter", {"prompt": "x"}, "takes a text that tells what to draw"),
        ("linear", "text", "takes arrays of numbers"),
        ("judge", "text", "takes part in no inference"),
        ("judge", [1], "takes part in no inference"),
    ],
)
async def test_a_model_says_what_it_takes(
    http: httpx.AsyncClient, model: str, sent: Any, says: str
) -> None:
    message = await refused(http, 400, {"model": model, "input": sent})
    assert says in message
    assert model in message


@pytest.mark.parametrize(
    ("model", "sent", "parameters", "named"),
    [
        ("talker", "x", {"nope": 1}, "parameters.nope"),
        ("talker", "x", {"temperature": "1"}, "parameters.temperature"),
        ("talker", "x", {"temperature": 3}, "parameters.temperature"),
        ("talker", "x", {"max_tokens": True}, "parameters.max_tokens"),
        ("talker", "x", {"seed": 2**60}, "parameters.seed"),
        ("talker", "x", {"n": 2}, "parameters.n"),
        ("talker", "x", {"stop": [["x"]]}, "parameters.stop"),
        ("talker", "x", {"stop": [None]}, "parameters.stop"),
        ("talker", "x", {"logit_bias": {"5": {"a": 1}}}, "parameters.logit_bias"),
        ("talker", "x", {"mirostat": 2}, "parameters.mirostat"),
        ("talker", "x", {"max_tokens": 10**6}, "maximum context length"),
        ("vectors", "x", {"dimensions": 0}, "parameters.dimensions"),
        ("vectors", "x", {"dimensions": "8"}, "parameters.dimensions"),
        ("vectors", "x", {"dimension": 8}, "Did you mean 'dimensions'?"),
        ("vectors", "x", {"temperature": 1}, "parameters.temperature"),
        ("vectors", "x", {"prompt_name": "nope"}, "parameters.prompt_name"),
        ("painter", "x", {"width": 65}, "parameters.width"),
        ("painter", "x", {"steps": 1.5}, "parameters.steps"),
        ("painter", "x", {"steps": 51}, "parameters.steps"),
        ("painter", "x", {"sampler": "nope"}, "parameters.sampler"),
        ("painter", "x", {"n": 2}, "parameters.n"),
        ("linear", [[1, 1, 1]], {"temperature": 1}, "parameters.temperature"),
    ],
)
async def test_no_parameter_is_ignored(
    http: httpx.AsyncClient, model: str, sent: Any, parameters: dict[str, Any], named: str
) -> None:
    body = {"model": model, "input": sent, "parameters": parameters}
    assert named in await refused(http, 400, body)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "'model'"),
        ({"model": "talker"}, "'input'"),
        ({"input": "x"}, "'model'"),
        ({"model": 5, "input": "x"}, "'model'"),
        ({"model": "", "input": "x"}, "'model'"),
        ({"model": "talker", "input": 5}, "'input'"),
        ({"model": "talker", "input": None}, "'input'"),
        ({"model": "talker", "input": "x", "parameters": []}, "'parameters'"),
        ({"model": "vectors", "input": ""}, "'input'"),
        ({"model": "linear", "input": [1, 1, 1]}, "[any, 3]"),
        ({"model": "linear", "input": [[1, 1, "1"]]}, "'input[0][2]'"),
        ({"model": "linear", "input": [[1, 1], [1]]}, "equally long"),
        ({"model": "linear", "input": {"z": [[1, 1, 1]]}}, "'input.z'"),
        ({"model": "linear", "input": {}}, "'input.x'"),
        ({"model": "pair", "input": [1]}, "an array for each of a, b"),
        ({"model": "pair", "input": {"a": [1, 2], "b": [1, 2, 3]}}, "input"),
        (b"[]", "object"),
        (b'{"model": "linear", "input": [[1, 1, 1e999]]}', "input"),
        (b'{"model": "linear", "input": ' + b"[" * 900 + b"]" * 900 + b"}", "input"),
    ],
)
async def test_bodies_that_are_not_as_they_should_be(
    http: httpx.AsyncClient, body: Any, says: str
) -> None:
    assert says in await refused(http, 400, body)


async def test_answers_are_as_the_document_says(http: httpx.AsyncClient) -> None:
    schema = await document_schema(http, "post", INFERENCE)
    size = {"width": 16, "height": 16, "steps": 1}
    for found in (
        await infer(http, "talker", "x", max_tokens=2),
        await infer(http, "vectors", "x"),
        await infer(http, "painter", "x", **size),
        await infer(http, "linear", [[1, 1, 1]]),
        await infer(http, "pair", {"a": [1], "b": [2]}),
        await infer(http, "echo-arrays", {"input": 1}),
    ):
        jsonschema.validate(found, schema)
    for path in ("chat/completions", "embeddings"):
        assert await document_schema(http, "post", f"{API}/{path}")


async def test_unknown_models(http: httpx.AsyncClient) -> None:
    for name in ("nobody", "models/talker", "deploy", "a b", "x" * 263, "\x00", "é"):
        message = await refused(http, 404, {"model": name, "input": "x"})
        assert "does not exist" in message


async def test_chat_in_openais_form(http: httpx.AsyncClient) -> None:
    messages = [{"role": "user", "content": "hello"}]
    path = f"{API}/chat/completions"
    body = {"messages": messages, "max_tokens": 3}
    ours, theirs = [
        (await http.post(where, json=body | {"model": "talker"})).json()
        for where in (path, "/v1/chat/completions")
    ]
    assert ours["choices"] == theirs["choices"]
    assert ours["usage"] == theirs["usage"]
    default = (await http.post(path, json=body)).json()
    assert default["model"] == "talker"
    assert default["choices"][0]["message"]["content"] == "hel"
    async with http.stream("POST", path, json=body | {"stream": True}) as answer:
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        frames = (await answer.aread()).decode().split("\n\n")
    assert frames[-2:] == ["data: [DONE]", ""]
    chunks = [json.loads(frame.removeprefix("data: ")) for frame in frames[:-2]]
    texts = [chunk["choices"][0]["delta"].get("content", "") for chunk in chunks]
    assert "".join(texts) == "hel"
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert "'messages'" in await refused(http, 400, {"model": "talker"}, path)
    assert "'temperature'" in await refused(http, 400, body | {"temperature": 3}, path)
    await refused(http, 404, body | {"model": "nobody"}, path)
    assert "embedding" in await refused(http, 400, body | {"model": "vectors"}, path)


async def test_embeddings_in_openais_form(http: httpx.AsyncClient) -> None:
    path = f"{API}/embeddings"
    body = {"input": ["one", "two"], "encoding_format": "base64"}
    ours = (await http.post(path, json=body)).json()
    theirs = (await http.post("/v1/embeddings", json=body | {"model": "vectors"})).json()
    assert ours == theirs
    assert "'input'" in await refused(http, 400, {"input": []}, path)
    await refused(http, 404, body | {"model": "nobody"}, path)
    assert "chat" in await refused(http, 400, body | {"model": "talker"}, path)


GENERATED = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
VALID = {
    "talker": {"input": "x", "parameters": {"max_tokens": 2, "stop": ["x"], "logit_bias": {}}},
    "vectors": {"input": "x", "parameters": {"dimensions": 8, "normalize": True}},
    "painter": {"input": "x", "parameters": {"width": 16, "height": 16, "steps": 1, "seed": 1}},
    "linear": {"input": [[1, 1, 1]], "parameters": {}},
    "pair": {"input": {"a": [1], "b": [2]}, "parameters": {}},
}


def settle(answer: httpx.Response) -> None:
    """Whatever it was: it was taken, or refused as it should be."""
    assert answer.headers["content-type"] == "application/json"
    if answer.status_code != 200:
        assert answer.status_code in (400, 404, 413), answer.text
        assert list(answer.json()) == ["error", "message"]


@pytest.mark.parametrize("model", VALID)
@GENERATED
@given(data=st.data())
async def test_generated_values(http: httpx.AsyncClient, model: str, data: st.DataObject) -> None:
    body: dict[str, Any] = {"model": model, **VALID[model]}
    names = st.sampled_from(["model", "input", "parameters", "x"])
    changed = body | data.draw(st.dictionaries(names, JSON, max_size=2))
    if isinstance(changed["parameters"], dict) and data.draw(st.booleans()):
        keys = st.sampled_from([*body["parameters"], "temperature", "x"])
        more = data.draw(st.dictionaries(keys, JSON, min_size=1, max_size=2))
        changed["parameters"] = body["parameters"] | more
    content = json.dumps(changed).encode("utf-8", "replace")
    settle(await http.post(INFERENCE, content=content))


@pytest.mark.parametrize("model", VALID)
@GENERATED
@given(data=st.data())
async def test_generated_damage(http: httpx.AsyncClient, model: str, data: st.DataObject) -> None:
    body = bytearray(json.dumps({"model": model, **VALID[model]}).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        damage(data.draw, body)
    settle(await http.post(INFERENCE, content=bytes(body)))


async def test_horrors(http: httpx.AsyncClient) -> None:
    for path in (INFERENCE, f"{API}/chat/completions", f"{API}/embeddings"):
        for name, body in HORRORS.items():
            answer = await http.post(path, content=body)
            settle(answer)
            assert answer.status_code != 200, (path, name)


async def test_any_key_will_do_but_one_is_needed(platform: RawPlatform) -> None:
    bodies = {
        INFERENCE: {"model": "linear", "input": [[1, 1, 1]]},
        f"{API}/chat/completions": {"messages": [{"role": "user", "content": "x"}]},
        f"{API}/embeddings": {"input": "x"},
    }
    for path, body in bodies.items():
        async with platform.client("") as http:
            answer = await http.post(path, json=body)
            assert (answer.status_code, answer.json()["error"]) == (401, "unauthorized")
            by_key = {"x-api-key": "user-key"}
            assert (await http.post(path, json=body, headers=by_key)).status_code == 200
            wrong = {"x-api-key": "nobodys-key"}
            answer = await http.post(path, json=body, headers=wrong)
            assert (answer.status_code, answer.json()["error"]) == (401, "invalid_api_key")
        async with platform.client("nobodys-key") as http:
            answer = await http.post(path, json=body)
            assert (answer.status_code, answer.json()["error"]) == (401, "invalid_token")
        async with platform.client("admin-token") as http:
            assert (await http.post(path, json=body)).status_code == 200
        async with platform.client() as http:
            answer = await http.get(path)
            assert (answer.status_code, answer.json()["error"]) == (405, "method_not_allowed")
            assert answer.headers["allow"] == "POST"
