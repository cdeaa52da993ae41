"""A whole process: its arguments, ready line, logs, signals and exit code."""

import asyncio
import json
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from grpc.aio import AioRpcError

from services.rpc.channels import channel
from tests.integration.rpc.rpc_kinds import KindsStub, named

REPOSITORY = Path(__file__).resolve().parents[3]
METADATA = (("authorization", "Bearer t0ken"), ("x-request-id", "q"))


@asynccontextmanager
async def process(*arguments: str, **env: str) -> AsyncIterator[Process]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PENSTOCK_")}
    path = f"{REPOSITORY}:{REPOSITORY}/protos/gen/python"
    module = "tests.integration.rpc.rpc_process"
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *arguments),
        stdout=PIPE,
        stderr=PIPE,
        env=clean | {"PYTHONPATH": path, "API_TOKENS": "t0ken"} | env,
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.communicate()


async def address_of(child: Process) -> str:
    assert child.stdout is not None
    line = await asyncio.wait_for(child.stdout.readline(), 20)
    ready = json.loads(line)
    assert ready["service"] == "model"
    return ready["address"]


async def test_a_process_serves_drains_and_exits(tmp_path: Path) -> None:
    config = tmp_path / "penstock.toml"
    config.write_text('[log]\nformat = "json"\n[services.model]\naddress = "127.0.0.1:1"\n')
    options = ("--port", "0", "--config", str(config), "--data-dir", str(tmp_path))
    async with process(*options) as child:
        address = await address_of(child)
        assert address.startswith("127.0.0.1:")
        assert child.stderr is not None
        async with channel(address) as to_it:
            stub = KindsStub(to_it)
            call = asyncio.ensure_future(
                asyncio.wait_for(stub.One(named("models/sleep0.5"), metadata=METADATA), 10)
            )
            lines = []
            while not lines or b"sleeping" not in lines[-1]:
                lines.append(await asyncio.wait_for(child.stderr.readline(), 10))
            child.send_signal(signal.SIGTERM)
            assert (await call).name == "models/sleep0.5"
        out, err = await asyncio.wait_for(child.communicate(), 30)
        assert (child.returncode, out) == (0, b"")
        logged = [json.loads(x) for x in (b"".join(lines) + err).splitlines() if x != b"sleeping"]
        access = next(line for line in logged if line["logger"] == "penstock.access")
        assert (access["code"], access["request_id"]) == ("OK", "q")
        assert access["principal"] == "api-token-b46c0967"
        assert len(access["trace_id"]) == 32
        assert access["ms"] >= 500
        assert b"t0ken" not in err


async def test_a_second_signal_cuts_the_drain_short(tmp_path: Path) -> None:
    async with process("--port", "0", "--data-dir", str(tmp_path)) as child:
        address = await address_of(child)
        assert child.stderr is not None
        async with channel(address) as to_it:
            call = asyncio.ensure_future(
                asyncio.wait_for(
                    KindsStub(to_it).One(named("models/sleep60"), metadata=METADATA), 20
                )
            )
            while b"sleeping" not in await asyncio.wait_for(child.stderr.readline(), 10):
                pass
            child.send_signal(signal.SIGINT)
            await asyncio.sleep(0.3)
            assert child.returncode is None
            start = time.monotonic()
            child.send_signal(signal.SIGINT)
            _, err = await asyncio.wait_for(child.communicate(), 30)
            assert time.monotonic() - start < 20
            assert child.returncode == 0
            assert b"freed" in err
            assert b"Traceback" not in err
            with pytest.raises(AioRpcError):
                await call


async def test_a_process_told_to_stop_while_it_starts_cleans_up(tmp_path: Path) -> None:
    options = ("--port", "0", "--data-dir", str(tmp_path))
    async with process(*options, PENSTOCK_API_ADDRESS="127.0.0.1:1") as child:
        assert child.stdout is not None
        assert await asyncio.wait_for(child.stdout.readline(), 20) == b"loading\n"
        child.send_signal(signal.SIGTERM)
        out, err = await asyncio.wait_for(child.communicate(), 30)
        assert (child.returncode, out) == (0, b"cleaned up\n")
        assert b"Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "env", "code", "said"),
    [
        ((), {"PENSTOCK_LOG_LEVL": "info"}, 1, "did you mean 'PENSTOCK_LOG_LEVEL'?"),
        (("--config", "/nowhere.toml"), {}, 1, "model: /nowhere.toml can't be read"),
        (("--port", "70000"), {}, 2, "--port must be between 0 and 65535"),
    ],
)
async def test_a_wrong_setting_is_said_in_one_line(
    arguments: tuple[str, ...], env: dict[str, str], code: int, said: str
) -> None:
    async with process(*arguments, **env) as child:
        _, err = await asyncio.wait_for(child.communicate(), 20)
        assert child.returncode == code
        assert said in err.decode()
        assert "Traceback" not in err.decode()


async def test_a_taken_port_is_said_in_one_line(tmp_path: Path) -> None:
    async with process("--port", "0", "--data-dir", str(tmp_path)) as first:
        port = (await address_of(first)).rpartition(":")[2]
        async with process("--port", port, "--data-dir", str(tmp_path)) as second:
            out, err = await asyncio.wait_for(second.communicate(), 20)
            assert (second.returncode, out) == (1, b"")
            assert f"model: Can't listen on 127.0.0.1:{port}: the port is taken" in err.decode()
