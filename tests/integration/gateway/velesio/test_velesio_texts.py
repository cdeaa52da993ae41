"""Tokens, templates, embeddings and chats at the root, over a live edge and real services."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest

from services.inference.engines.echo_text import SPECIAL
from tests.integration.gateway.velesio.root_platform import CONTEXT, Root
from tests.integration.gateway.velesio.unity_shim import unity_3

REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("/tokenize", {}, "content"),
    ("/tokenize", {"content": 3}, "content"),
    ("/tokenize", {"content": "x", "parse_special": False}, "parse_special"),
    ("/detokenize", {}, "tokens"),
    ("/detokenize", {"tokens": [10**6]}, "tokens"),
    ("/detokenize", {"tokens": [-1]}, "tokens[0]"),
    ("/detokenize", {"tokens": ["a"]}, "tokens[0]"),
    ("/apply-template", {}, "messages"),
    ("/apply-template", {"messages": []}, "messages"),
    ("/apply-template", {"messages": [{"role": "bot", "content": ""}]}, "messages[0].role"),
    ("/slots", {"action": "save"}, "filepath"),
    ("/slots", {"action": "burn", "filepath": "x"}, "action"),
    ("/embedding", {}, "content"),
    ("/embedding", {"content": ""}, "content"),
    ("/embedding", {"content": []}, "content"),
    ("/embedding", {"content": ["a", ""]}, "content[1]"),
    ("/embedding", {"content": ["a", 1]}, "content[1]"),
    ("/embedding", {"content": [1, "a"]}, "content[1]"),
    ("/embedding", {"content": "a", "embd_normalize": 1}, "embd_normalize"),
    ("/embeddings", {"input": ""}, "input"),
    ("/chat/completions", {}, "messages"),
    (
        "/chat/completions",
        {"messages": [{"role": "user", "content": 3}]},
        "messages[0].content",
    ),
]
ASKED: list[tuple[str, dict[str, Any]]] = [
    ("/completion", {"prompt": "x"}),
    ("/completion", {"prompt": "x", "n_predict": 1}),
    ("/completion", {"prompt": "x", "n_predict": 1, "stream": True}),
    ("/completion", {"prompt": [1, "x"], "n_predict": 1}),
    ("/chat/completions", {"messages": [{"role": "user", "content": "x"}]}),
    ("/apply-template", {"messages": [{"role": "user", "content": "x"}]}),
    ("/template", {}),
    ("/props", {}),
    ("/tokenize", {"content": "x"}),
    ("/detokenize", {"tokens": [1]}),
    ("/embedding", {"content": "x"}),
    ("/embeddings", {"input": "x"}),
]


async def asked(root: Root, path: str, body: Any = None, status: int = 200) -> Any:
    answer = await root.http.post(path, json=body)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_template(root: Root, method: str) -> None:
    for model in ("base", "default"):
        given = {"params": {"model": model}} if method == "GET" else {"json": {"model": model}}
        answer = await root.http.request(method, "/template", **given)  # type: ignore[arg-type]
        got = answer.json()
        assert (got["template"], got["model"]) == ("chatml", "base")
        assert "<|im_start|>" in got["chat_template"]
    answer = await root.http.request(method, "/template")
    assert answer.json()["model"] == "base"


async def test_tokens(root: Root) -> None:
    assert await asked(root, "/tokenize", {"content": "ä!"}) == {"tokens": [0xC3, 0xA4, 33]}
    pieces = await asked(root, "/tokenize", {"content": "ä!", "with_pieces": True})
    assert pieces["tokens"] == [
        {"id": 0xC3, "piece": [0xC3]},
        {"id": 0xA4, "piece": [0xA4]},
        {"id": 33, "piece": "!"},
    ]
    (special, text), *_ = SPECIAL.items()
    assert await asked(root, "/tokenize", {"content": text}) == {"tokens": [special]}
    assert await asked(root, "/tokenize", {"content": ""}) == {"tokens": []}
    assert await asked(root, "/detokenize", {"tokens": []}) == {"content": ""}
    assert await asked(root, "/detokenize", {"tokens": [0xC3, 0xA4]}) == {"content": "ä"}


async def test_refused(root: Root) -> None:
    for path, body, named in REFUSED:
        error = (await asked(root, path, body, 400))["error"]
        assert set(error) == {"code", "message", "details"}
        assert error["code"] == "invalid_request"
        assert error["details"] == f"The field at fault is '{named}'.", (path, body)


async def test_unknown_models(root: Root) -> None:
    for path, body in ASKED:
        error = (await asked(root, path, body | {"model": "nobody"}, 404))["error"]
        assert error["code"] == "model_not_found", (path, body)


async def test_prompts_of_conversations(root: Root) -> None:
    messages: list[dict[str, Any]] = [{"role": "user", "content": "Hi"}]
    opened = (await asked(root, "/apply-template", {"messages": messages}))["prompt"]
    body = {"messages": messages, "add_generation_prompt": False}
    closed = (await asked(root, "/apply-template", body))["prompt"]
    assert opened == closed + "<|im_start|>assistant\n"
    parts = [{"type": "text", "text": "Hi"}]
    body = {"messages": [{"role": "user", "content": parts}], "model": "base"}
    assert (await asked(root, "/apply-template", body))["prompt"] == opened


async def test_props(root: Root) -> None:
    props = await asked(root, "/props", {"stream": False})
    assert props == (await root.http.get("/props")).json()
    assert props["default_generation_settings"]["n_ctx"] == CONTEXT
    assert props["total_slots"] == 4
    assert props["model_alias"] == "base"
    assert props["modalities"] == {"vision": False, "audio": False}
    writer = (await root.http.get("/props", params={"model": "writer"})).json()
    assert writer["model_alias"] == "writer"


@pytest.mark.parametrize("path", ["/embedding", "/embeddings"])
async def test_three_forms_of_embeddings(root: Root, path: str) -> None:
    documented = await asked(root, path, {"input": ["a", "b"], "stream": False, "content": "x"})
    assert [item["index"] for item in documented["data"]] == [0, 1]
    assert documented["model"] == "vectors"
    first, second = (item["embedding"] for item in documented["data"])
    coded = await asked(root, path, {"input": "a", "encoding_format": "base64"})
    raw = base64.b64decode(coded["data"][0]["embedding"])
    assert np.array_equal(np.frombuffer(raw, "<f4"), np.array(first, "<f4"))
    assert await asked(root, path, {"content": "a"}) == {"embedding": first}
    assert await asked(root, path, {"content": "a", "input": None}) == {"embedding": first}
    assert await asked(root, path, {"content": ["a", "b"]}) == {"embedding": [first, second]}
    assert await asked(root, path, {"content": "a", "stream": False}) == [
        {"index": 0, "embedding": [first]}
    ]
    assert await asked(root, path, {"content": ["a", "b"], "stream": True}) == [
        {"index": 0, "embedding": [first]},
        {"index": 1, "embedding": [second]},
    ]
    tokens = await asked(root, path, {"content": [1, 2, 3]})
    assert tokens == {
        "embedding": (await asked(root, path, {"content": [[1, 2, 3]]}))["embedding"][0]
    }


async def test_chat_without_a_model(root: Root) -> None:
    messages = [{"role": "user", "content": "word " * 100}]
    got = await asked(root, "/chat/completions", {"messages": messages})
    assert (got["object"], got["model"]) == ("chat.completion", "base")
    assert got["usage"]["completion_tokens"] == 150
    assert got["choices"][0]["finish_reason"] == "length"
    named = await asked(
        root, "/chat/completions", {"messages": messages, "max_completion_tokens": 3}
    )
    assert named["usage"]["completion_tokens"] == 3


@pytest.mark.parametrize("stream", [False, True])
async def test_a_default_that_does_not_fit_is_no_error(root: Root, stream: bool) -> None:
    asked_text = "x" * (CONTEXT - 100)
    messages = [{"role": "user", "content": asked_text}]
    for path, body in (
        ("/chat/completions", {"messages": messages}),
        ("/completion", {"prompt": asked_text}),
    ):
        answer = await root.http.post(path, json=body | {"stream": stream})
        assert answer.status_code == 200, answer.text
        assert '"finish_reason":"length"' in answer.text
        refused = await root.http.post(path, json=body | {"stream": stream, "max_tokens": 150})
        assert refused.status_code == 400
        assert "maximum context length" in refused.json()["error"]["message"]
        too_long = {"messages": [{"role": "user", "content": "x" * CONTEXT}]}
        answer = await root.http.post(path, json=too_long | {"prompt": "x" * CONTEXT})
        assert answer.status_code == 400


async def test_a_chat_stream_that_fails_says_so_in_this_dialect(own_root: Root) -> None:
    body = {
        "model": "slow",
        "messages": [{"role": "user", "content": "x" * 200}],
        "stream": True,
    }
    async with own_root.http.stream("POST", "/chat/completions", json=body) as answer:
        frames = answer.aiter_bytes()
        assert unity_3((await anext(frames)).split(b"\n\n")[0])["object"] == "chat.completion.chunk"
        await own_root.registry.resolve("slow").loaded.engine.close()
        rest = b"".join([frame async for frame in frames])
    *_, last, empty = rest.split(b"\n\n")
    assert empty == b""
    assert set(json.loads(last.removeprefix(b"data: "))["error"]) == {"code", "message", "details"}


async def test_model_lists(root: Root) -> None:
    got = (await root.http.get("/models")).json()
    assert got == {
        "text_models": [
            {"name": "base", "size": "7.2B", "type": "chat", "loaded": True},
            {"name": "vectors", "size": "", "type": "embedding", "loaded": True},
            {"name": "writer", "size": "135M", "type": "completion", "loaded": True},
        ],
        "image_models": [],
    }
