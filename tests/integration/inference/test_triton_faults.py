"""The Triton engine when things go wrong: real servers are killed, told to stop, and come back."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from services.errors import ModelNotReady, Unavailable
from services.inference.engine import LoadedModel, ModelSpec, Priority
from services.inference.engines.triton_loader import TritonTextLoader
from services.inference.engines.triton_settings import TritonTextSettings
from services.inference.engines.triton_vllm import VllmContract
from services.inference.loading import load
from services.inference.registry import Registry
from services.serving.catalogue import LoadKey, ObservedState, Snapshot, WantedModel
from services.serving.deployments import Deployments
from services.serving.loading import Loading
from services.serving.models import ModelKind
from services.settings import TritonModelSettings, TritonSettings
from services.tritonserver.endpoints import Triton
from services.tritonserver.hosted import HostedModel
from tests.conformance.recorder import Recorder, sequence, submit, until
from tests.conformance.tiny_models import save_model
from tests.triton_models import add_ticker
from tests.triton_server import TritonServer, running_triton

pytestmark = pytest.mark.timeout(300)
PROMPT = [ord(character) - 30 for character in "a-long-story"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def servers() -> Iterator[list[TritonServer]]:
    with running_triton() as first, running_triton() as second:
        for server in (first, second):
            add_ticker(server)
        yield [first, second]


@pytest.fixture(autouse=True)
def up(servers: list[TritonServer]) -> None:
    """A test finds both servers running, whatever the one before did to them."""
    for server in servers:
        if server.process is None or server.process.poll() is not None:
            server.kill()
            server.start()


def settings_of(*servers: TritonServer) -> TritonSettings:
    return TritonSettings(
        endpoints=tuple(server.address for server in servers),
        health_interval_s=0.1,
        probe_interval_s=0,
        prefix_affinity=False,
    )


@asynccontextmanager
async def serving(folder: Path, *servers: TritonServer) -> AsyncIterator[LoadedModel]:
    triton = Triton(settings_of(*servers))
    loader = TritonTextLoader(triton, TritonTextSettings())
    loaded = await loader.load(ModelSpec("ticker", "1", folder), lambda share: None)
    try:
        yield loaded
    finally:
        await loaded.close()
        await triton.close()


def ticks(loaded: LoadedModel, count: int, **more: object) -> Recorder:
    return submit(loaded.engine, sequence(PROMPT, count, ignore_eos=True), **more)


async def test_what_goes_with_a_request_reaches_triton(
    servers: list[TritonServer], folder: Path
) -> None:
    server = servers[0]
    async with serving(folder, server) as loaded:
        deadline = asyncio.get_running_loop().time() + 50
        told = {"request_id": "req-carried", "priority": Priority.HIGH, "deadline": deadline}
        recorder = await ticks(loaded, 2, **told).until_over()
        assert len(recorder.tokens()) == 2
        [line] = [line for line in server.log.splitlines() if "begins: req-carried" in line]
        microseconds = int(line.split("req-carried ")[1].split()[0])
        assert 0 < microseconds <= 50_000_000


async def test_settings_are_laid_over_and_failures_to_load_are_told(
    servers: list[TritonServer],
) -> None:
    server = servers[0]
    config = (server.repository / "ticker" / "config.pbtxt").read_text()
    broken = {"config.pbtxt": config.replace('"ticker"', '"broken"')}
    server.add("broken", {**broken, "1/model.py": "raise ValueError('kaputt')"})
    over = TritonModelSettings(
        name="ticker", config='{"parameters": {"depth": {"string_value": "2"}}}'
    )
    triton = Triton(replace(settings_of(server), models={"org/over": over}))
    for name, told in (("broken", "ValueError: kaputt"), ("nowhere", "no model `nowhere`")):
        with pytest.raises(Unavailable, match=told):
            await HostedModel.open(triton, name)
    first = await HostedModel.open(triton, "org/over")
    assert first.config.parameters["depth"].string_value == "2"
    second = await HostedModel.open(triton, "org/over")
    await first.close()  # the second still uses it
    assert await triton.endpoints[0].model_ready("ticker")
    await second.close()
    assert not await triton.endpoints[0].model_ready("ticker")
    await triton.close()


async def test_only_the_backend_s_own_words_tell_of_adapters(
    servers: list[TritonServer], folder: Path
) -> None:
    server = servers[0]
    add_ticker(server, "vague")
    file = server.repository / "vague" / "1" / "model.py"
    file.write_text(file.read_text().replace("LoRA feature is not enabled.", "out of memory"))
    triton = Triton(settings_of(server))
    loader = TritonTextLoader(triton, TritonTextSettings())
    loaded = await loader.load(ModelSpec("vague", "1", folder), lambda share: None)
    assert not loaded.engine.info.capabilities.lora
    await loaded.close()
    await triton.close()


async def test_probes_leave_nothing_behind(servers: list[TritonServer], folder: Path) -> None:
    def contracts() -> int:
        gc.collect()
        return sum(type(one) is VllmContract for one in gc.get_objects())

    async with serving(folder, servers[0]) as loaded:
        await loaded.engine.probe()
        before = contracts()
        for _ in range(3):
            await loaded.engine.probe()
        assert contracts() == before


async def test_cancelling_reaches_the_model(servers: list[TritonServer], folder: Path) -> None:
    server = servers[0]
    async with serving(folder, server) as loaded:
        recorder = ticks(loaded, 100_000, request_id="req-cancelled")
        await recorder.until(lambda: len(recorder.tokens()) > 2)
        assert recorder.handle is not None
        recorder.handle.cancel()
        await until(lambda: "cancelled: req-cancelled" in server.log)
        late = ticks(
            loaded,
            100_000,
            request_id="req-late",
            deadline=asyncio.get_running_loop().time() + 0.3,
        )
        await late.until_over()
        await until(lambda: "cancelled: req-late" in server.log)


async def test_endpoints_share_the_load_and_one_may_stop(
    servers: list[TritonServer], folder: Path
) -> None:
    first, second = servers
    async with serving(folder, first, second) as loaded:
        recorders = [ticks(loaded, 150, request_id=f"shared-{n}") for n in range(4)]
        for recorder in recorders:
            await recorder.until(lambda recorder=recorder: len(recorder.tokens()) > 2)
        halves = [server.log.count("begins: shared-") for server in servers]
        assert halves == [2, 2]
        assert first.process is not None
        first.process.send_signal(signal.SIGTERM)  # it lets what runs come to its end
        later = [ticks(loaded, 3, request_id=f"later-{n}") for n in range(6)]
        for recorder in (*recorders, *later):
            await recorder.until_over()
            assert recorder.failure is None
        await until(lambda: not _ready(loaded.engine, first), timeout=60)
        await ticks(loaded, 2, request_id="last").until_over()
        assert "begins: last" in second.log
        await asyncio.to_thread(first.process.wait, 30)
        first.kill()
        assert (await ticks(loaded, 2).until_over()).failure is None
        first.start()
        hosted_at = loaded.engine
        await until(lambda: _ready(hosted_at, first), timeout=60)


def _ready(engine: object, server: TritonServer) -> bool:
    return server.address in engine.addresses  # type: ignore[attr-defined]


async def test_a_dead_model_is_loaded_anew(servers: list[TritonServer], folder: Path) -> None:
    server = servers[0]
    async with serving(folder, server) as loaded:
        for pid in server.stubs():
            os.kill(pid, signal.SIGKILL)
        failure = (await ticks(loaded, 2).until_over()).failure
        assert isinstance(failure, Unavailable)
        assert failure.retry_after_s
        # The call finds it, or the engine's own look at its models does.
        assert "has died" in failure.message or "is not there" in failure.message
        await until(lambda: _ready(loaded.engine, server), timeout=60)
        assert (await ticks(loaded, 2).until_over()).failure is None


async def test_a_killed_triton_is_not_ready_and_comes_back(
    servers: list[TritonServer], folder: Path
) -> None:
    server = servers[0]
    triton = Triton(settings_of(server))
    loader = TritonTextLoader(triton, TritonTextSettings())
    registry = Registry()
    health: dict[str, bool | None] = {}
    deployments = Deployments(
        Loading({"triton": lambda: loader}, "triton", load), registry, health.__setitem__
    )
    key = LoadKey("u1", "models/ticker/revisions/1", str(folder))
    deployments.apply(Snapshot(1, [WantedModel("ticker", ModelKind.CHAT, key)]))
    await until(lambda: "ticker" in registry.served(), timeout=60)
    served = registry.resolve("ticker")
    recorder = ticks(served.loaded, 100_000)
    await recorder.until(lambda: len(recorder.tokens()) > 2)
    server.kill()
    await recorder.until_over()
    assert isinstance(recorder.failure, Unavailable)
    assert "try again" in recorder.failure.message
    await until(lambda: health["models/ticker"] is False)
    with pytest.raises(ModelNotReady):
        registry.resolve("ticker")
    states = {one.state for one in deployments.observations()}
    assert ObservedState.READY not in states
    server.start()
    await until(lambda: health["models/ticker"] is True, timeout=60)
    assert (await ticks(registry.resolve("ticker").loaded, 2).until_over()).failure is None
    await deployments.close()
    await triton.close()
