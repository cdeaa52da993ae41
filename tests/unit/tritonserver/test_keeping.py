"""How models are kept on endpoints of Triton: what a real server does seldom, or never twice."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from policy.pem_files import PemFiles
from services.errors import FailedPrecondition
from services.rpc.transport import server_credentials
from services.settings import TritonModelSettings, TritonSettings
from services.tritonserver.endpoints import Endpoint, Triton
from services.tritonserver.hosted import HostedModel
from tests.conformance.recorder import until
from tests.integration.access.certificates import Authority
from tests.rotated_certificates import CertificateFolder
from tests.scripted_triton import ScriptedTriton


def settings_of(*servers: ScriptedTriton, **more: TritonModelSettings) -> TritonSettings:
    return TritonSettings(
        endpoints=tuple(server.address for server in servers), health_interval_s=0.05, models=more
    )


async def test_what_was_loaded_before_is_not_taken_for_what_is_wanted() -> None:
    async with ScriptedTriton().running() as good, ScriptedTriton("m").running() as stale:
        stale.failing = {"m"}
        triton = Triton(settings_of(good, stale))
        hosted = await HostedModel.open(triton, "m")
        assert hosted.addresses == [good.address]
        await until(lambda: stale.loads.count("m") > 1)
        assert hosted.addresses == [good.address]
        stale.failing.clear()
        await until(lambda: len(hosted.addresses) == 2)
        await hosted.close()
        await triton.close()


async def test_what_two_models_need_is_there_when_one_goes_as_the_other_comes() -> None:
    needs = {name: TritonModelSettings(needs=("shared",)) for name in ("first", "second")}
    async with ScriptedTriton().running() as server:
        triton = Triton(settings_of(server, **needs))
        first = await HostedModel.open(triton, "first")
        server.unload_s = 0.1
        closing = asyncio.create_task(first.close())
        await until(lambda: "first" not in server.loaded)  # next goes what it needed
        second = await HostedModel.open(triton, "second")
        await closing
        assert server.loaded == {"second", "shared"}
        await second.close()
        assert not server.loaded
        await triton.close()


async def test_certificates_change_while_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("policy.renewal._LOOK_S", 0)
    there, here = CertificateFolder(tmp_path / "triton"), CertificateFolder(tmp_path / "service")
    settings = TritonSettings(ca=here.ca, certificate=here.certificate, certificate_key=here.key)
    endpoint: Endpoint | None = None
    address = "localhost:0"
    for name in ("old", "new"):
        authority = Authority(tmp_path, name)
        there.fill(authority)
        here.fill(authority)
        files = PemFiles(certificate=there.certificate, key=there.key, ca=there.ca)
        async with ScriptedTriton().running(address, server_credentials(files)) as server:
            address = server.address
            endpoint = endpoint or Endpoint(address, settings)
            assert await endpoint.ready()
    assert endpoint is not None
    await endpoint.close()


def test_certificates_that_are_not_there_are_told(tmp_path: Path) -> None:
    triton = Triton(TritonSettings(ca=tmp_path / "none.crt"))
    with pytest.raises(FailedPrecondition, match=r"certificate or key of \[triton\]"):
        assert triton.endpoints
