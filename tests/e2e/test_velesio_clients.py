"""The root paths of the running platform: OpenAI's client, and LLM for Unity on a real model."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.stack import Platform
from tests.e2e.test_clients import CLIENTS, run
from tests.integration.gateway.velesio.unity_shim import asked, said, unity_2, unity_3

SESSION = Path(__file__).parent / "openai_root_session.py"
CHAT = [{"role": "user", "content": "Tell me a story about a fox. " * 8}]


@pytest.fixture(scope="module")
def client(platform: Platform) -> Any:
    headers = platform.headers()
    with httpx.Client(base_url=platform.url, headers=headers, timeout=60) as opened:
        yield opened


def answer(client: httpx.Client, path: str, body: Any) -> Any:
    given = client.post(path, json=body)
    assert given.status_code == 200, given.text
    return given.json()


@pytest.mark.parametrize("version", ["openai-1", "openai-3"])
def test_openai_python_at_the_root(platform: Platform, version: str) -> None:
    python = CLIENTS / version / "bin" / "python"
    assert run(python, SESSION, platform.url, platform.key).count("ok") == 3


def test_a_chat_of_llm_for_unity(platform: Platform, client: httpx.Client) -> None:
    assert answer(client, "/template", {})["template"] == "chatml"
    prompt = answer(client, "/apply-template", {"messages": CHAT})["prompt"]
    body = {
        "prompt": prompt,
        "n_predict": 64,
        "temperature": 0.2,
        "repeat_penalty": 1.1,
        "repeat_last_n": 64,
        "presence_penalty": 0.5,
        "seed": 0,
        "stop": ["<|im_end|>"],
        "cache_prompt": True,
    }

    async def streamed() -> list[bytes]:
        host, _, port = platform.url.removeprefix("http://").rpartition(":")
        wanted = body | {"stream": True}
        async with asked(host, int(port), "/completion", wanted, token=platform.key) as call:
            assert call.status == 200
            assert "warning" not in call.headers  # the engine does all of it
            return [chunk async for chunk in call.chunks()]

    chunks = asyncio.run(streamed())
    parts = [unity_3(chunk) for chunk in chunks]
    assert unity_2(b"".join(chunks)) == parts
    whole = answer(client, "/completion", body | {"return_tokens": True})
    assert said(parts) == whole["content"].strip()
    assert [token for part in parts for token in part["tokens"]] == whole["tokens"]
    assert parts[-1]["stop_type"] == whole["stop_type"]
    assert whole["timings"]["prompt_ms"] > 0
    assert whole["timings"]["predicted_per_second"] > 0
    assert whole["tokens_cached"] > 0  # the stream before had read the prompt
    assert whole["tokens_evaluated"] == len(
        answer(client, "/tokenize", {"content": prompt, "add_special": True})["tokens"]
    )
    text = answer(client, "/detokenize", {"tokens": whole["tokens"]})["content"]
    assert text.startswith(whole["content"])


def test_forms(client: httpx.Client) -> None:
    body = {"prompt": "The capital of France is", "n_predict": 24, "seed": 1}
    grammar = 'root ::= ("yes" | "no") "!"'
    assert answer(client, "/completion", body | {"grammar": grammar})["content"] in ("yes!", "no!")
    wanted = {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}},
        "required": ["ok"],
        "additionalProperties": False,
    }
    for form in (wanted, json.dumps(wanted)):
        found = answer(client, "/completion", body | {"json_schema": form})
        assert isinstance(json.loads(found["content"])["ok"], bool)
    refused = client.post("/completion", json=body | {"grammar": "root ::= ("})
    assert refused.status_code == 400
    assert "'grammar" in refused.json()["error"]["details"]


def test_biases_and_probabilities(client: httpx.Client) -> None:
    body = {"prompt": "One two three", "n_predict": 1, "temperature": 0, "n_probs": 5}
    first = answer(client, "/completion", body)
    (score,) = first["completion_probabilities"]
    best, second = score["top_logprobs"][:2]
    assert best["id"] == score["id"]
    assert best["logprob"] >= second["logprob"]
    banned = answer(client, "/completion", body | {"logit_bias": [[best["id"], False]]})
    assert banned["completion_probabilities"][0]["id"] == second["id"]
    by_text = answer(client, "/completion", body | {"logit_bias": [[best["token"], False]]})
    assert by_text["content"] == banned["content"]


def test_queue_and_health_of_the_running_platform(client: httpx.Client) -> None:
    queue = client.get("/queue/status").json()
    assert {worker["type"] for worker in queue["workers"]} >= {"llm", "embed"}
    models = client.get("/models").json()
    assert list(models) == ["text_models", "image_models"]
    loaded = {model["name"]: model for model in models["text_models"]}
    assert loaded["penstock-starter"]["loaded"]
    assert loaded["penstock-starter"]["size"][-1] in "MB"
    health = client.post("/health", headers={"authorization": ""}).json()
    assert health["services"]["llm_worker"] == "ready"
