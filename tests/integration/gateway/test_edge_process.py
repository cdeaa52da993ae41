"""`python -m gateway` as a process: its ready line, its errors, its end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from tests.integration.gateway.edge_backend import Backend

ROOT = Path(__file__).parents[3]


async def launch(backend: Backend, data_dir: Path, *arguments: str, **env: str):  # type: ignore[no-untyped-def]
    variables = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{ROOT}:{ROOT / 'protos/gen/python'}",
        "API_TOKENS": " sk-test , ",
        "PENSTOCK_SERVICES_MODEL_ADDRESS": backend.address,
        "PENSTOCK_SERVICES_INFERENCE_ADDRESS": backend.address,
        **env,
    }
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "gateway",
        *(arguments or ("--port", "0")),
        "--data-dir",
        str(data_dir),
        env=variables,
        cwd=data_dir,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@pytest_asyncio.fixture(loop_scope="module")
async def process(backend: Backend, tmp_path: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await launch(backend, tmp_path)
    yield process
    if process.returncode is None:
        process.kill()
        await process.wait()


async def ready(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    line = json.loads(await asyncio.wait_for(process.stdout.readline(), 15))
    assert line["service"] == "gateway"
    return f"http://{line['address']}"


async def test_sigterm_drains(process: asyncio.subprocess.Process) -> None:
    url = await ready(process)
    body = {
        "model": "words",
        "stream": True,
        "messages": [{"role": "user", "content": "x " * 3000}],
    }
    headers = {"authorization": "Bearer sk-test"}
    async with (
        httpx.AsyncClient(base_url=url, headers=headers) as http,
        http.stream("POST", "/v1/chat/completions", json=body) as answer,
    ):
        lines = answer.aiter_lines()
        await anext(lines)
        process.send_signal(signal.SIGTERM)
        rest = [line async for line in lines if line]
    assert rest[-1] == "data: [DONE]"
    assert len(rest) > 3000
    assert await asyncio.wait_for(process.wait(), 10) == 0


async def test_admin_key_file(process: asyncio.subprocess.Process, tmp_path: Path) -> None:
    url = await ready(process)
    async with httpx.AsyncClient(base_url=url) as http:
        headers = {"authorization": "Bearer penstock-admin"}
        assert (await http.get("/v1/models", headers=headers)).status_code == 401
        (tmp_path / "admin-key").write_text("penstock-admin\n")
        assert (await http.get("/v1/models", headers=headers)).status_code == 200


async def test_a_taken_port_is_said(backend: Backend, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        process = await launch(backend, tmp_path, "--port", str(port))
        out, err = await asyncio.wait_for(process.communicate(), 15)
    assert process.returncode == 1
    assert out == b""
    assert err.decode() == f"gateway: can't listen on 127.0.0.1:{port}: Address already in use\n"


async def test_an_unknown_setting_is_said(backend: Backend, tmp_path: Path) -> None:
    process = await launch(backend, tmp_path, PENSTOCK_API_ADRESS="127.0.0.1:0")
    _, err = await asyncio.wait_for(process.communicate(), 15)
    assert process.returncode == 1
    assert b"PENSTOCK_API_ADDRESS" in err
    assert b"Traceback" not in err


@pytest.mark.parametrize(
    ("file", "env", "said"),
    [
        ("{", {}, "is not JSON"),
        ("", {"PENSTOCK_AUTH_JWT_ISSUER": "https://id.example.org"}, "auth.jwt.audience"),
        ("", {"PENSTOCK_AUTH_JWT_ISUER": "x"}, "did you mean `PENSTOCK_AUTH_JWT_ISSUER`"),
    ],
)
async def test_keys_that_cant_be_read_are_said(
    backend: Backend, tmp_path: Path, file: str, env: dict[str, str], said: str
) -> None:
    (tmp_path / "tokens.json").write_text(file)
    process = await launch(backend, tmp_path, **env)
    _, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 1
    *before, last = errors.decode().splitlines()
    assert last.startswith("gateway: ")
    assert said in last
    assert all(" INFO " in line for line in before)
