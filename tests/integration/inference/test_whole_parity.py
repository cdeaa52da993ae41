"""What REST answers whole is what gRPC answers: a real edge before a real service."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import msgspec
import pytest

from gateway.app import build
from gateway.clients import Clients
from gateway.dialects.openai import schema, translate
from gateway.dialects.openai.answers import chat_completion, completion
from gateway.dialects.openai.envelope import error_body
from gateway.dialects.openai.fields import chat_spelling, completion_spelling
from gateway.errors import from_rpc_error
from gateway.settings import SERVICE_PORTS, ApiSettings, Settings
from tests.integration.inference.inference_platform import USER, Platform

CALL = '<tool_call>\n{"name": "f", "arguments": {"x": [1]}}\n</tool_call>'
TOOLS = [{"type": "function", "function": {"name": "f"}}]


@pytest.fixture
async def http(platform: Platform, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    addresses = dict.fromkeys(SERVICE_PORTS, platform.server.address)
    settings = Settings(
        api=ApiSettings(), api_tokens=("user-token",), data_dir=tmp_path, addresses=addresses
    )
    clients = Clients(settings)
    await clients.start()
    headers = {"authorization": "Bearer user-token"}
    transport = httpx.ASGITransport(build(settings, clients))
    async with httpx.AsyncClient(
        base_url="http://edge", transport=transport, headers=headers
    ) as http:
        yield http
    await clients.close()


def chat(text: str = "Wörter 😀 and words", **more: Any) -> dict[str, Any]:
    return {"model": "echo", "messages": [{"role": "user", "content": text}], **more}


def text(prompt: Any = "Wörter", **more: Any) -> dict[str, Any]:
    return {"model": "completer", "prompt": prompt, **more}


def unstamped(answer: dict[str, Any]) -> dict[str, Any]:
    """Without what differs from one generation to the next."""
    assert answer.pop("id")
    assert answer.pop("created")
    for choice in answer["choices"]:
        for call in choice.get("message", {}).get("tool_calls", ()):
            assert call.pop("id")
    return answer


async def by_grpc(platform: Platform, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Asks by the public RPC what the edge was asked, and renders the answer as the edge does."""
    data = json.dumps(body).encode()
    if "messages" in body:
        asked = msgspec.json.decode(data, type=schema.ChatCompletionRequest)
        call = platform.inference.Chat(translate.to_chat_request(asked), metadata=USER)
        spelling, render = chat_spelling(asked), lambda got: chat_completion(got, asked)
    else:
        wanted = msgspec.json.decode(data, type=schema.CompletionRequest)
        call = platform.inference.Complete(translate.to_complete_request(wanted), metadata=USER)
        spelling, render = completion_spelling(wanted), lambda got: completion(got, wanted)
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        problem = spelling(from_rpc_error(error))
        return problem.status, error_body(problem)
    return 200, unstamped(json.loads(msgspec.json.encode(render(answer))))


@pytest.mark.parametrize(
    "body",
    [
        chat(),
        chat(""),
        chat("x" * 3000),
        chat("ab", n=3, logprobs=True, top_logprobs=2, seed=1),
        chat("stop here or there", stop=["or"]),
        chat("cut short", max_tokens=3),
        chat(CALL, tools=TOOLS),
        chat(CALL, tools=TOOLS, tool_choice="none"),
        text(),
        text(["one", "two"], n=2, best_of=3, max_tokens=2),
        text([119, 111], echo=True, logprobs=3),
        text("long " * 1200, echo=True, logprobs=5, max_tokens=1),
        chat(model="nope"),
        chat(model="loading"),
        chat(model="broken"),
        chat("x" * 9000),
        chat("x" * 300_000),
        chat(temperature=0.5, top_k=-1, logit_bias={"99999999": 1}),
        chat(response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": {}}}),
        text([[1], [99_999]]),
        text(suffix="x"),
    ],
)
async def test_rest_is_grpc(
    platform: Platform, http: httpx.AsyncClient, body: dict[str, Any]
) -> None:
    path = "/v1/chat/completions" if "messages" in body else "/v1/completions"
    answer = await http.post(path, json=body)
    document = answer.json()
    got = unstamped(document) if answer.status_code == 200 else document
    assert (answer.status_code, got) == await by_grpc(platform, body)
