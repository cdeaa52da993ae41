"""Thoughts in Ollama's dialect, before the real services and with Ollama's own client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.integration.gateway.echo_platform import (
    CHAT,
    COMPLETER,
    TOKEN,
    EchoPlatform,
    echo_platform,
)
from tests.integration.gateway.plain_model import PLAIN, plain_model

SAID = "<think>hm, “so”</think>the answer"
THOUGHT, TEXT = "hm, “so”", "the answer"
PYTHON = Path(__file__).parents[3] / ".venv" / "clients" / "ollama" / "bin" / "python"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def whole(
    module_loop: None, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[EchoPlatform]:
    folder = tmp_path_factory.mktemp("echo")
    async with echo_platform(folder) as platform, plain_model(platform):
        yield platform


def chat(text: str = SAID, **changes: Any) -> dict[str, Any]:
    return {"model": CHAT, "messages": [{"role": "user", "content": text}]} | changes


def generate(text: str = SAID, **changes: Any) -> dict[str, Any]:
    return {"model": CHAT, "prompt": text} | changes


def lines(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


async def error(whole: EchoPlatform, path: str, body: dict[str, Any]) -> str:
    for stream in (False, True):
        answer = await whole.http.post(path, json=body | {"stream": stream})
        assert answer.status_code == 400, answer.text
    return answer.json()["error"]


@pytest.mark.parametrize("think", [None, True, "low", "medium", "high", "max"])
async def test_thoughts_are_apart(whole: EchoPlatform, think: Any) -> None:
    (said,) = lines(await whole.http.post("/api/chat", json=chat(think=think)))
    assert said["message"] == {"role": "assistant", "content": TEXT, "thinking": THOUGHT}
    stream = lines(await whole.http.post("/api/chat", json=chat(think=think, stream=True)))
    messages = [line["message"] for line in stream]
    thoughts = [message for message in messages if "thinking" in message]
    assert all(message["content"] == "" for message in thoughts)
    assert messages[: len(thoughts)] == thoughts
    assert "".join(message["thinking"] for message in thoughts) == THOUGHT
    assert "".join(message["content"] for message in messages) == TEXT

    (said,) = lines(await whole.http.post("/api/generate", json=generate(think=think)))
    assert (said["response"], said["thinking"]) == (TEXT, THOUGHT)
    stream = lines(await whole.http.post("/api/generate", json=generate(think=think, stream=True)))
    assert "".join(line.get("thinking", "") for line in stream) == THOUGHT
    assert "".join(line["response"] for line in stream) == TEXT
    assert "thinking" not in stream[-1]


async def test_thoughts_that_are_not_wanted_are_not_told(whole: EchoPlatform) -> None:
    for body in (chat(think=False), chat("the answer"), chat("the answer", think=True)):
        for stream in (False, True):
            told = lines(await whole.http.post("/api/chat", json=body | {"stream": stream}))
            assert not any("thinking" in line["message"] for line in told)
            assert "".join(line["message"]["content"] for line in told) == TEXT
    for stream in (False, True):
        body = generate(think=False, stream=stream)
        told = lines(await whole.http.post("/api/generate", json=body))
        assert not any("thinking" in line for line in told)
        assert "".join(line["response"] for line in told) == TEXT


async def test_thoughts_go_back(whole: EchoPlatform) -> None:
    (said,) = lines(await whole.http.post("/api/chat", json=chat()))
    user = {"role": "user", "content": SAID}
    again = chat(messages=[user, said["message"], user])
    assert lines(await whole.http.post("/api/chat", json=again))[0]["message"] == said["message"]
    wrong = chat(messages=[user | {"thinking": "hm"}])
    assert "messages[0].thinking" in await error(whole, "/api/chat", wrong)


async def test_models_that_do_not_think(whole: EchoPlatform) -> None:
    for name in (PLAIN, f"{PLAIN}:latest"):
        for path, body in (
            ("/api/chat", chat(model=name, think=True)),
            ("/api/chat", chat(model=name, think="low")),
            ("/api/generate", generate(model=name, think=True)),
        ):
            assert await error(whole, path, body) == f'"{name}" does not support thinking'
    said = await error(whole, "/api/generate", generate(model=COMPLETER, think=True))
    assert said == f'"{COMPLETER}" does not support thinking'
    for think in (None, False):
        body = chat("hi", model=PLAIN, think=think)
        (said,) = lines(await whole.http.post("/api/chat", json=body))
        assert said["message"] == {"role": "assistant", "content": "hi"}


async def test_refusals(whole: EchoPlatform) -> None:
    for path, body in (
        ("/api/chat", chat(think="a lot")),
        ("/api/chat", chat(think=1)),
        ("/api/generate", generate(think="")),
        ("/api/generate", generate(think=True, raw=True)),
    ):
        assert "'think'" in await error(whole, path, body)


async def test_the_description_has_thoughts(whole: EchoPlatform) -> None:
    schemas = (await whole.http.get("/openapi.json")).json()["components"]["schemas"]
    for name in ("OllamaMessage", "OllamaAnswerMessage", "OllamaGenerateAnswer"):
        assert "thinking" in schemas[name]["properties"], name
    for name in ("OllamaChatRequest", "OllamaGenerateRequest"):
        assert "medium" in json.dumps(schemas[name]["properties"]["think"]), name


SESSION = """
import sys, ollama
url, key, model, plain, said = sys.argv[1:]
client = ollama.Client(url, headers={"authorization": f"Bearer {key}"}, timeout=60)
turns = [{"role": "user", "content": said}]
whole = client.chat(model, turns, think=True)
parts = list(client.chat(model, turns, think="high", stream=True))
assert "".join(part.message.thinking or "" for part in parts) == whole.message.thinking
assert "".join(part.message.content or "" for part in parts) == whole.message.content
again = client.chat(model, [*turns, whole.message, *turns])
assert again.message == whole.message, again
assert client.chat(model, turns, think=False).message.thinking is None
made = client.generate(model, said, think=True)
assert (made.thinking, made.response) == (whole.message.thinking, whole.message.content), made
try:
    client.chat(plain, turns, think=True)
except ollama.ResponseError as error:
    assert (error.status_code, error.error) == (400, f'"{plain}" does not support thinking')
else:
    raise AssertionError("it was not refused")
print(whole.message.thinking, whole.message.content, sep="|")
"""


async def test_ollama_python(whole: EchoPlatform) -> None:
    client = await asyncio.create_subprocess_exec(
        *(PYTHON, "-c", SESSION, whole.url, TOKEN, CHAT, PLAIN, SAID),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await client.communicate()
    assert client.returncode == 0, err.decode()
    assert out.decode() == f"{THOUGHT}|{TEXT}\n"
