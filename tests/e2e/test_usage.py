"""What each dialect's requests used stands in the ledger: once, as the answers said."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.e2e.stack import REPOSITORY, Platform, configuration, running, until

pytestmark = pytest.mark.timeout(600)  # where others work too, processes start slowly
ECHO = "".join(
    f'[services.{name}]\nengine = "echo"\n' for name in ("inference", "embedding", "image")
)
HELLO = [{"role": "user", "content": "Tell me of it"}]
CHAT = {"model": "talker", "messages": HELLO, "max_tokens": 6}


def openai(answer: Any) -> tuple[int, int]:
    return answer["usage"]["prompt_tokens"], answer["usage"].get("completion_tokens", 0)


def anthropic(answer: Any) -> tuple[int, int]:
    usage = answer["usage"]
    read = usage["input_tokens"] + (usage.get("cache_read_input_tokens") or 0)
    return read, usage["output_tokens"]


def ollama(answer: Any) -> tuple[int, int]:
    return answer["prompt_eval_count"], answer["eval_count"]


def streamed(text: str) -> tuple[int, int]:
    lines = [line.removeprefix("data: ") for line in text.splitlines() if "usage" in line]
    return openai(json.loads(lines[-1]))


TEXT: dict[str, tuple[str, str, dict[str, Any], Any]] = {
    "chat": ("openai", "/v1/chat/completions", CHAT, openai),
    "stream": (
        "openai",
        "/v1/chat/completions",
        CHAT | {"stream": True, "stream_options": {"include_usage": True}},
        streamed,
    ),
    "choices": ("openai", "/v1/chat/completions", CHAT | {"n": 3}, openai),
    "completion": (
        "openai",
        "/v1/completions",
        {"model": "talker", "prompt": ["a b", "c"], "max_tokens": 4},
        openai,
    ),
    "embeddings": (
        "openai",
        "/v1/embeddings",
        {"model": "embedder", "input": ["a", "b c"]},
        openai,
    ),
    "anthropic": ("anthropic", "/v1/messages", CHAT, anthropic),
    "ollama": (
        "ollama",
        "/api/chat",
        {"model": "talker", "messages": HELLO, "stream": False, "options": {"num_predict": 6}},
        ollama,
    ),
    "velesio": ("velesio", "/chat/completions", CHAT, openai),
    "botserver": ("botserver", "/api/v1/ai/chat/completions", CHAT, openai),
}
"""Dialect, path, body, and how its answer tells of tokens."""
IMAGES = {
    "image": (
        "openai",
        "/v1/images/generations",
        {"model": "drawer", "prompt": "a b", "n": 2, "size": "64x64"},
    ),
    "webui": (
        "velesio",
        "/sdapi/v1/txt2img",
        {"prompt": "a b", "width": 64, "height": 64, "steps": 2, "n_iter": 2, "seed": 1},
    ),
}


@pytest.fixture(scope="module")
def echoing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """The whole platform on echo engines."""
    folder = tmp_path_factory.mktemp("usage")
    kinds = {"talker": "chat", "embedder": "embedding", "drawer": "image"}
    models = {id: {"path": str(folder), "type": kind} for id, kind in kinds.items()}
    with running(folder, configuration(models, ECHO), ready_within_s=300) as platform:
        yield platform


def ledger(platform: Platform, *words: str) -> list[dict[str, Any]]:
    """What `penstock usage` says."""
    command = [sys.executable, "-m", "services.cli.main", "usage", *words, "--json"]
    ran = subprocess.run(
        [*command, "--data-dir", str(platform.data_dir)],
        capture_output=True,
        text=True,
        check=True,
        cwd=REPOSITORY,
        env={k: v for k, v in os.environ.items() if not k.startswith("PENSTOCK_")},
    )
    return json.loads(ran.stdout)


def test_every_dialect_is_in_the_books(echoing: Platform) -> None:
    headers = echoing.headers()
    wanted: dict[str, tuple[Any, ...]] = {}
    with httpx.Client(base_url=echoing.url, headers=headers, timeout=120) as http:
        for id, (dialect, path, body, read) in TEXT.items():
            for _ in range(2):  # a retry is no second request
                answer = http.post(path, json=body, headers={"x-request-id": id})
                assert answer.status_code == 200, (id, answer.text)
            told = read(answer.text if read is streamed else answer.json())
            wanted[id] = (dialect, *told, 0)
        for id, (dialect, path, body) in IMAGES.items():
            answer = http.post(path, json=body, headers={"x-request-id": id})
            assert answer.status_code == 200, (id, answer.text)
            wanted[id] = (dialect, 2)
        http.post("/v1/chat/completions", json=CHAT, headers={"x-request-id": "last"})
        os.kill(echoing.pid("inference"), signal.SIGKILL)
        wanted["last"] = wanted["chat"]
    until_told(echoing)
    records = {record["request_id"]: record for record in ledger(echoing, "list")}
    assert set(records) == set(wanted)
    for id, record in records.items():
        found = [record["dialect"]]
        if id not in IMAGES:
            found += [record["prompt_tokens"], record["completion_tokens"]]
        assert (*found, record["images"]) == wanted[id], id
        assert (record["principal"], record["outcome"]) == ("admin-key", "ok")
    (total,) = ledger(echoing, "sum", "--by", "principal")
    assert total["requests"] == len(wanted)


def until_told(platform: Platform) -> None:
    """Waits until nothing waits: the ledger was told all, also by the service that was killed."""
    folder = platform.data_dir / "usage"
    until(lambda: not list(folder.glob("*.jsonl")), within_s=120)
