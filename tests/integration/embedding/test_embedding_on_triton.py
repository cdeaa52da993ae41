"""The control loop has a real Triton load and unload encoders, and tells why it can't."""

import asyncio
from pathlib import Path

import grpc
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from services.embedding.batching import Limits
from services.embedding.engines.triton_export import export
from services.embedding.engines.triton_loader import TritonLoader
from services.embedding.loading import loading
from services.embedding.registry import Registry
from services.errors import ModelNotReady, Unavailable
from services.serving.catalogue import Deleted, LoadKey, ObservedState, Snapshot, WantedModel
from services.serving.deployments import Deployments
from services.serving.loading import Loading
from services.serving.models import ModelKind
from services.settings_triton import TritonModelSettings, TritonSettings
from services.tritonserver.endpoints import Triton
from services.tritonserver.export.options import read_options
from tests.conformance.embedding.tiny_encoders import save_encoder
from tests.triton_server import TritonServer, running_triton


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_encoder(tmp_path_factory.mktemp("models") / "tiny", num_hidden_layers=1)


def states(server: TritonServer) -> dict[str, str]:
    with grpc.insecure_channel(server.address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        found = stub.RepositoryIndex(service_pb2.RepositoryIndexRequest()).models
    return {one.name: one.state for one in found}


async def test_models_come_and_go_with_the_catalogue(triton: TritonServer, folder: Path) -> None:
    options = {"name": "loop-encoder", "dtype": "float32", "weights": "link", "warmup": False}
    export(folder, triton.repository, "embedding", read_options(options))
    broken = {**options, "name": "broken-encoder", "weights": "/nowhere"}
    export(folder, triton.repository, "embedding", read_options(broken))
    names = {
        "acme/encoder:1": TritonModelSettings(name="loop-encoder"),
        "broken": TritonModelSettings(name="broken-encoder"),
    }
    hosting = Triton(TritonSettings(endpoints=(triton.address,), models=names))
    registry = Registry()
    loader = Loading({"triton": lambda: TritonLoader(hosting)}, "triton", loading(Limits()))
    deployments = Deployments(loader, registry, lambda _model, _serving: None)

    def wanted(id: str) -> WantedModel:
        return WantedModel(id, ModelKind.EMBEDDING, LoadKey(id, f"{id}/1", str(folder)))

    async def settled() -> dict[str, tuple[ObservedState, str]]:
        while True:
            found = {one.revision: (one.state, one.message) for one in deployments.observations()}
            if found and all(state is not ObservedState.LOADING for state, _ in found.values()):
                return found
            deployments.changed.clear()
            await deployments.changed.wait()

    ids = ("acme/encoder:1", "broken", "absent")
    deployments.apply(Snapshot(1, [wanted(id) for id in ids]))
    async with asyncio.timeout(110):
        found = await settled()
        assert {id: found[f"{id}/1"][0] for id in ids} == {
            "acme/encoder:1": ObservedState.READY,
            "broken": ObservedState.FAILED,
            "absent": ObservedState.FAILED,
        }
        assert "does not exist" in found["broken/1"][1]
        assert "no model `absent`" in found["absent/1"][1]
        served = registry.resolve("acme/encoder:1")
        text = served.loaded.encoder.text
        tokens = [text.single(ids) for ids in text.encode(["water", "sky"])]
        vectors, _ = await served.loaded.batcher.compute(tokens)
        assert [len(vector) for vector in vectors] == [4 * served.info.dimensions] * 2
        assert states(triton)["loop-encoder"] == "READY"
        deployments.apply(Deleted(2, "acme/encoder:1"))
        while states(triton)["loop-encoder"] == "READY":  # noqa: ASYNC110  (nobody is told)
            await asyncio.sleep(0.05)
    await deployments.close()
    await hosting.close()


@pytest.mark.slow  # a server and two loads of its own
async def test_a_killed_triton_is_noticed_and_comes_back(folder: Path) -> None:
    with running_triton() as server:
        export(
            folder,
            server.repository,
            "embedding",
            read_options({"name": "tiny", "weights": "link", "warmup": False}),
        )
        hosting = Triton(TritonSettings(endpoints=(server.address,), health_interval_s=0.2))
        registry = Registry()
        loader = Loading({"triton": lambda: TritonLoader(hosting)}, "triton", loading(Limits()))
        deployments = Deployments(loader, registry, lambda _model, _serving: None)
        wanted = WantedModel("tiny", ModelKind.EMBEDDING, LoadKey("tiny", "tiny/1", str(folder)))

        async def until(state: ObservedState) -> None:
            while [one.state for one in deployments.observations()] != [state]:
                deployments.changed.clear()
                await deployments.changed.wait()

        deployments.apply(Snapshot(1, [wanted]))
        async with asyncio.timeout(110):
            await until(ObservedState.READY)
            encoder = registry.resolve("tiny").loaded.encoder
            tokens = [encoder.text.single(ids) for ids in encoder.text.encode(["water"])]
            server.kill()
            with pytest.raises(Unavailable):
                await encoder.encode(tokens, normalize=True)
            while "tiny" in registry.served():  # noqa: ASYNC110  (the registry tells nobody)
                await asyncio.sleep(0.05)
            with pytest.raises(ModelNotReady):
                registry.resolve("tiny")
            server.start()
            await until(ObservedState.READY)
            encoder = registry.resolve("tiny").loaded.encoder
            assert len(await encoder.encode(tokens, normalize=True)) == 1
        await deployments.close()
        await hosting.close()
