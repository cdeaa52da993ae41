"""LLM for Unity's calls, over a raw socket and by its own ways of reading."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.integration.gateway.velesio.root_platform import CONTEXT, Root
from tests.integration.gateway.velesio.unity_shim import asked, said, unity_2, unity_3

TEXTS = [
    "Hi.",
    "data: is not the beginning: of a frame, data: nor is\n\ndata: this",
    'Tabs\t"quotes" \\data: back\\slashes and\u2028separators\u0085 \x01',
    "ä €, 日本語 and 🎲🎲",
    "",
]


def completion(prompt: str, **more: Any) -> dict[str, Any]:
    """All that version 2 sends, with its own defaults."""
    return {
        "prompt": prompt,
        "id_slot": -1,
        "temperature": 0.2,
        "top_k": 40,
        "top_p": 0.9,
        "min_p": 0.05,
        "n_predict": -1,
        "n_keep": -1,
        "stream": True,
        "stop": [],
        "typical_p": 1.0,
        "repeat_penalty": 1.1,
        "repeat_last_n": 64,
        "penalize_nl": True,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "penalty_prompt": "",
        "mirostat": 0,
        "mirostat_tau": 5.0,
        "mirostat_eta": 0.1,
        "grammar": "",
        "json_schema": "",
        "seed": 0,
        "ignore_eos": False,
        "logit_bias": None,
        "n_probs": 0,
        "cache_prompt": True,
        "messages": [],
    } | more


@pytest.mark.parametrize("text", TEXTS)
async def test_both_versions_read_every_stream(root: Root, text: str) -> None:
    async with asked(root.host, root.port, "/completion", completion(text)) as call:
        assert call.status == 200
        chunks = [chunk async for chunk in call.chunks()]
    body = b"".join(chunks)
    assert body.startswith(b'data: {"content":')
    assert b"[DONE]" not in body
    parts = unity_2(body)
    assert parts == [unity_3(chunk) for chunk in chunks]
    assert [part["stop"] for part in parts] == [False] * (len(parts) - 1) + [True]
    async with asked(root.host, root.port, "/completion", completion(text, stream=False)) as call:
        (whole,) = unity_2(await call.body())
    assert said(parts) == said([whole])
    assert text.strip() in said(parts)


@pytest.mark.parametrize("letter", ["x", "\x01", "é", "🎲", "data: "])
async def test_frames_are_short(root: Root, letter: str) -> None:
    text = letter * (900 // len(letter.encode()))
    # All of the answer may be the beginning of this, so it comes at once, with its end.
    held = completion(text, stop=[text + "!"])
    async with asked(root.host, root.port, "/completion", held) as call:
        chunks = [chunk async for chunk in call.chunks()]
    assert 3 <= len(chunks) < 20
    assert max(map(len, chunks)) < 4096
    for chunk in chunks:
        assert chunk.startswith(b"data: ")
        assert chunk.endswith(b"\n\n")
        assert chunk.count(b"\n\n") == chunk.count(b"data: ") == 1
        assert b"\n:" not in chunk
    assert said(unity_2(b"".join(chunks))) == text.strip()


async def test_a_warm_up_says_nothing(root: Root) -> None:
    async with asked(root.host, root.port, "/completion", completion("Hi", n_predict=0)) as call:
        chunks = [chunk async for chunk in call.chunks()]
    (only,) = (unity_3(chunk) for chunk in chunks)
    assert (only["content"], only["stop"]) == ("", True)


async def test_a_chat_of_version_2(root: Root) -> None:
    async def ask(path: str, body: Any) -> Any:
        async with asked(root.host, root.port, path, body) as call:
            assert call.status == 200
            return json.loads(await call.body())

    assert (await ask("/template", {}))["template"] == "chatml"
    tokens = (await ask("/tokenize", {"content": "Hello"}))["tokens"]
    assert (await ask("/detokenize", {"tokens": tokens})) == {"content": "Hello"}
    vector = (await ask("/embeddings", {"content": "Hello"}))["embedding"]
    assert all(isinstance(number, float) for number in vector)
    slot = {"id_slot": 0, "filepath": "save.bin", "action": "save"}
    assert (await ask("/slots", slot)) == {"filename": "save.bin"}


async def test_a_chat_of_version_3(root: Root) -> None:
    async def ask(path: str, body: Any) -> Any:
        async with asked(root.host, root.port, path, body) as call:
            assert call.status == 200
            return json.loads(await call.body())

    async with asked(root.host, root.port, "/health", None, token="wrong") as call:
        assert call.status // 100 == 2
    props = await ask("/props", {"stream": False})
    assert props["default_generation_settings"]["n_ctx"] == CONTEXT
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
    prompt = (await ask("/apply-template", {"messages": messages, "stream": False}))["prompt"]
    assert prompt.endswith("<|im_start|>assistant\n")
    (item,) = await ask("/embeddings", {"content": "Hello", "stream": False})
    assert item["index"] == 0
    (vector,) = item["embedding"]
    assert isinstance(vector[0], float)
    async with asked(root.host, root.port, "/completion", completion(prompt)) as call:
        parts = [unity_3(chunk) async for chunk in call.chunks()]
    assert parts[-1]["stop"]
    async with asked(root.host, root.port, "/tokenize", {"content": "x"}, token="wrong") as call:
        assert call.status == 401
        assert json.loads(await call.body())["error"]["code"] == "unauthorized"


async def test_a_failure_in_the_middle_is_a_frame(own_root: Root) -> None:
    body = completion("x" * 200, model="slow", ignore_eos=True)
    async with asked(own_root.host, own_root.port, "/completion", body) as call:
        chunks = call.chunks()
        unity_3(await anext(chunks))
        await own_root.registry.resolve("slow").loaded.engine.close()
        *_, last = [chunk async for chunk in chunks]
    assert set(unity_3(last)) == {"error"}
    assert set(unity_3(last)["error"]) == {"code", "message", "details"}
