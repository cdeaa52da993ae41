"""Keys of the database on a whole platform: made on the command line, taken by the edge and by a
service, good while ModelService is away, and revoked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from click.testing import CliRunner, Result
from penstock.inference.v1 import inference_service_pb2 as inference_pb
from penstock.inference.v1.inference_service_pb2_grpc import InferenceServiceStub
from penstock.model.v1.model_service_pb2_grpc import ModelServiceStub

from gateway.settings import Settings
from services.cli.main import main
from tests.integration.gateway.conftest import live_edge
from tests.integration.reasons import reason
from tests.integration.serving_processes import Processes, run_processes, until_ready

CONFIG = """
[services.inference]
engine = "echo"
[api.models.talker]
path = "nothing"
aliases = ["org/talker"]
[api.models.secret]
path = "nothing"
aliases = ["hidden"]
"""


@dataclass
class Platform:
    """ModelService, an inference service and an edge."""

    processes: Processes
    settings: Settings
    edge: httpx.AsyncClient
    inference: InferenceServiceStub

    async def penstock(self, *arguments: str) -> Result:
        """Runs the command line."""
        options = (
            *("--data-dir", str(self.processes.folder)),
            *("--model-address", self.processes.address("model")),
        )
        arguments = (*arguments, *options)
        return await asyncio.to_thread(CliRunner().invoke, main, list(arguments))

    async def told(self, *arguments: str) -> Any:
        """What the command line says as JSON."""
        result = await self.penstock(*arguments, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    async def at_edge(self, key: str, model: str = "talker") -> int:
        """Status of a chat over HTTP."""
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
        answer = await self.edge.post(
            "/v1/chat/completions", json=body, headers={"authorization": f"Bearer {key}"}
        )
        return answer.status_code

    async def at_service(self, key: str, model: str = "talker") -> str:
        """Outcome of a tokenization over gRPC."""
        request = inference_pb.TokenizeRequest(model=model, text="hi")
        metadata = (("authorization", f"Bearer {key}"),)
        try:
            await self.inference.Tokenize(request, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            return reason(error)[0]
        return "OK"


@pytest.fixture
async def platform(tmp_path: Path) -> AsyncIterator[Platform]:
    async with AsyncExitStack() as stack:
        processes = await stack.enter_async_context(run_processes(tmp_path, "inference", CONFIG))
        models = await stack.enter_async_context(
            grpc.aio.insecure_channel(processes.address("model"))
        )
        for name in ("talker", "secret"):
            await until_ready(ModelServiceStub(models), name)
        addresses = dict.fromkeys(Settings().addresses, "127.0.0.1:1")
        addresses |= {name: processes.address(name) for name in processes.ports}
        settings = Settings(data_dir=tmp_path, addresses=addresses, service_token="service-token")
        _, _, host, port = await stack.enter_async_context(live_edge(settings))
        http = httpx.AsyncClient(base_url=f"http://{host}:{port}", timeout=60)
        inference = await stack.enter_async_context(
            grpc.aio.insecure_channel(processes.address("inference"))
        )
        edge = await stack.enter_async_context(http)
        yield Platform(processes, settings, edge, InferenceServiceStub(inference))


async def becomes(ask: Callable[[], Awaitable[Any]], wanted: Any) -> None:
    """Waits until an answer is the wanted one."""
    async with asyncio.timeout(60):
        while True:
            if await ask() == wanted:
                return
            await asyncio.sleep(0.02)


async def test_a_key_lives_and_ends_everywhere(platform: Platform) -> None:
    made = await platform.told("keys", "create", "laptop", "--model", "org/*", "--rpm", "1000")
    key = made["key"]
    assert made["kept"] == "database"
    assert (made["allowed_models"], made["limits"]["rpm"]) == (["org/*"], 1000)
    await becomes(lambda: platform.at_edge(key), 200)
    await becomes(lambda: platform.at_service(key), "OK")

    # A model that it may not use does not exist for it, whatever its name.
    headers = {"authorization": f"Bearer {key}"}
    for name in ("secret", "hidden", "nowhere"):
        assert await platform.at_edge(key, name) == 404
        assert await platform.at_service(key, name) == "MODEL_NOT_FOUND"
        assert (await platform.edge.get(f"/v1/models/{name}", headers=headers)).status_code == 404
    listed = (await platform.edge.get("/v1/models", headers=headers)).json()["data"]
    assert [model["id"] for model in listed] == ["talker"]

    filed = await platform.told("keys", "create", "old", "--file")
    assert filed["kept"] == "file"
    both = {one["name"]: one["kept"] for one in await platform.told("keys", "list")}
    assert both == {"laptop": "database", "old": "file"}
    assert made["key"] not in (await platform.penstock("keys", "list")).output
    shown = await platform.told("keys", "show", made["id"])
    assert shown == {name: value for name, value in made.items() if name != "key"}
    changed = await platform.told("keys", "update", made["id"], "--any-model", "--rpm", "default")
    assert (changed["allowed_models"], changed["limits"]["rpm"]) == ([], None)
    await becomes(lambda: platform.at_edge(key, "secret"), 200)
    await becomes(lambda: platform.at_service(key, "hidden"), "OK")
    for arguments in (
        ("update", filed["id"], "--name", "x"),
        ("update", "key_nobody", "--name", "x"),
        ("show", "key_nobody"),
        ("revoke", "key_nobody"),
        ("create", "x", "--role", "superadmin"),
    ):
        assert (await platform.penstock("keys", *arguments)).exit_code == 1, arguments

    # ModelService is away: what was heard stays in force, and a new edge knows nothing yet.
    await platform.processes.kill("model")
    assert await platform.at_edge(key) == 200
    assert await platform.at_service(key) == "OK"
    async with live_edge(platform.settings) as (_, _, host, port):
        url = f"http://{host}:{port}/v1/models"
        async with httpx.AsyncClient() as http:
            answer = await http.get(url, headers=headers)
            assert answer.status_code == 503
            assert "can't be checked yet" in answer.json()["error"]["message"]
            assert answer.headers["retry-after"]
            unlike = {"authorization": "Bearer sk-unlike-ours"}
            assert (await http.get(url, headers=unlike)).status_code == 401
            failed = await platform.penstock("keys", "create", "lost")
            assert failed.exit_code == 1
            assert "--file" in failed.output
            await platform.processes.start("model")

            async def status() -> int:
                return (await http.get(url, headers=headers)).status_code

            await becomes(status, 200)

    assert (await platform.told("keys", "revoke", made["id"])) == {
        "revoked": made["id"],
        "kept": "database",
    }
    await becomes(lambda: platform.at_edge(key), 401)
    await becomes(lambda: platform.at_service(key), "INVALID_CREDENTIALS")
    assert (await platform.told("keys", "revoke", filed["id"]))["kept"] == "file"
