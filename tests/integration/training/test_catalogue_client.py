"""Base models found, and results deployed, through a real ModelService."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from penstock.model.v1 import model_pb2 as pb
from penstock.model.v1 import model_service_pb2 as service_pb
from penstock.model.v1.model_service_pb2_grpc import (
    ModelServiceStub,
    add_ModelServiceServicer_to_server,
)

from policy.key_secrets import digest
from policy.principals import Principal, Role
from policy.token_store import TokenSources
from services.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    ModelNotFound,
    Unavailable,
)
from services.model.catalog import Catalog
from services.model.records import ModelKind
from services.model.reports import Reports
from services.model.seeds import Seed, plant
from services.model.servicer import ModelServicer
from services.model.sources import SourcePolicy
from services.model.stores.sql import SqlStore
from services.model.watches import ChangeFeed, Watches, keep
from services.rpc.authentication import CallAuthenticator
from services.rpc.call import Call, serving
from services.rpc.channels import channel
from services.rpc.server import Registration, Server, ServerSettings
from services.training.clients import IDEMPOTENT, CatalogueClient
from services.training.folder import job_folder, model_link
from telemetry.tracing import continue_trace

FT = "ft:base:local:hours:AbCd1234"
ABLE = pb.Capabilities(context_length=512)


@dataclass
class Catalogue:
    """A running ModelService, with a client of it as TrainingService has."""

    address: str
    catalog: Catalog
    root: Path
    weights: Path
    admin: ModelServiceStub
    process: ModelServiceStub
    client: CatalogueClient
    """One that doesn't wait for results to serve."""
    patient: CatalogueClient

    async def put(self, model_id: str, source: Path | str = "", **more: Any) -> pb.Model:
        values = {"model_id": model_id, "source": str(source or self.weights)} | more
        values.setdefault("kind", pb.MODEL_KIND_CHAT)
        return await self.admin.DeployModel(service_pb.DeployModelRequest(**values))

    async def get(self, model_id: str) -> pb.Model:
        return await self.admin.GetModel(service_pb.GetModelRequest(name=f"models/{model_id}"))

    async def delete(self, model_id: str) -> None:
        await self.admin.DeleteModel(service_pb.DeleteModelRequest(name=f"models/{model_id}"))

    async def report(
        self, state: Any, *model_ids: str, message: str = "", able: pb.Capabilities = ABLE
    ) -> None:
        """Tells what a serving process would."""
        seen = [
            pb.Observation(
                reporter="r",
                revision=f"models/{model_id}/revisions/1",
                state=state,
                message=message,
                capabilities=able if state == pb.Observation.STATE_READY else None,
            )
            for model_id in model_ids
        ]
        await self.process.ReportModelState(
            service_pb.ReportModelStateRequest(
                reporter="r", service="inference", address="h:1", observations=seen
            )
        )

    def result(self, model_id: str, job_id: str = "ftjob-1", *, adapter: bool = True) -> Path:
        """Makes a result as the supervisor leaves it."""
        result = job_folder(self.root, job_id).result
        result.mkdir(parents=True)
        (result / ("adapter_config.json" if adapter else "model.safetensors")).write_text("{}")
        link = model_link(self.root, model_id)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(result)
        return result.resolve()


@pytest.fixture
async def catalogue(tmp_path: Path) -> AsyncIterator[Catalogue]:
    tokens = [{"id": "a", "sha256": digest("admin"), "name": "a", "roles": ["admin"]}]
    (tmp_path / "tokens.json").write_text(json.dumps({"tokens": tokens}))
    root, weights = tmp_path / "training", tmp_path / "weights"
    weights.mkdir()
    (weights / "model.safetensors").write_text("")
    async with contextlib.AsyncExitStack() as stack:
        store = await SqlStore.open(f"sqlite:///{tmp_path / 'model.db'}")
        await stack.enter_async_context(contextlib.aclosing(store))
        feed = ChangeFeed()
        catalog = Catalog(store, announce=feed.announce)
        reports = Reports(catalog)
        sources = SourcePolicy(training=root)
        servicer = ModelServicer(catalog, reports, Watches(catalog, feed), sources, version="1")
        server = Server(
            ServerSettings(grace_s=1.0),
            [Registration(add_ModelServiceServicer_to_server, servicer)],
            authenticator=CallAuthenticator(
                TokenSources(service_token="service", token_file=tmp_path / "tokens.json")
            ),
        )
        keeping = asyncio.create_task(keep(catalog, reports, feed))
        stack.push_async_callback(ended, [keeping])
        await stack.enter_async_context(server)

        def to(token: str) -> Any:
            opened = channel(server.address, token=token, idempotent=IDEMPOTENT)
            stack.push_async_callback(opened.close)
            return opened

        yield Catalogue(
            server.address,
            catalog,
            root,
            weights,
            ModelServiceStub(to("admin")),
            ModelServiceStub(to("service")),
            CatalogueClient(to("service"), root, patience_s=0.0),
            CatalogueClient(to("service"), root, patience_s=600.0),
        )


async def ended(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_base_is_found_by_id_or_alias(catalogue: Catalogue) -> None:
    options = pb.LoadOptions(context_length=100)
    await catalogue.put("org/base", aliases=["b"], load_options=options)
    for name in ("org/base", "b"):
        base = await catalogue.client.find(name)
        assert (base.id, base.whole_id, base.kind) == ("org/base", "org/base", "chat")
        assert (base.folder, base.adapter) == (catalogue.weights.resolve(), None)
        assert base.context_length == 100
    await catalogue.report(pb.Observation.STATE_READY, "org/base")
    assert (await catalogue.client.find("b")).context_length == 512
    await catalogue.put("words", kind=pb.MODEL_KIND_COMPLETION)
    base = await catalogue.client.find("words")
    assert (base.kind, base.context_length) == ("completion", 0)


async def test_an_adapter_comes_with_the_model_that_serves_it(catalogue: Catalogue) -> None:
    await catalogue.put("base")
    result = catalogue.result(FT)
    await catalogue.put(FT, FT, base_model="base")
    await catalogue.report(pb.Observation.STATE_READY, "base")
    base = await catalogue.client.find(FT)
    assert (base.id, base.whole_id, base.adapter) == (FT, "base", result)
    assert base.folder == catalogue.weights.resolve()
    assert base.context_length == 512
    # Merged weights were made from another model too, and are whole.
    merged = catalogue.result("ft:base:local::AbCd5678", "ftjob-2", adapter=False)
    await catalogue.put("merged", "ft:base:local::AbCd5678", base_model="base")
    base = await catalogue.client.find("merged")
    assert (base.id, base.whole_id, base.folder) == ("merged", "merged", merged)
    assert base.adapter is None


@pytest.mark.parametrize("name", ["none", "x\ny", "x" * 1000, "a/../b", "b:setAliases", "ä\0"])
async def test_a_base_that_is_not_there(catalogue: Catalogue, name: str) -> None:
    with pytest.raises(ModelNotFound) as caught:
        await catalogue.client.find(name)
    assert caught.value.field == "job.base_model"


@pytest.mark.parametrize(
    ("allowed", "found"), [((), True), (("org/*",), True), (("b",), True), (("other",), False)]
)
async def test_a_base_that_a_key_may_not_use(
    catalogue: Catalogue, allowed: tuple[str, ...], found: bool
) -> None:
    await catalogue.put("org/base", aliases=["b"])
    who = Principal("k", "k", frozenset({Role.TRAINER}), allowed_models=allowed)
    trace = continue_trace(None)
    with serving(Call("/x", "req_1", trace, asyncio.Event(), principal=who)):
        for name in ("org/base", "b"):
            if found:
                assert (await catalogue.client.find(name)).id == "org/base"
                continue
            with pytest.raises(ModelNotFound) as caught:
                await catalogue.client.find(name)
            with pytest.raises(ModelNotFound) as other:
                await catalogue.client.find("x" * len(name))
            assert caught.value.message.replace(name, "x" * len(name)) == other.value.message


async def test_a_base_that_is_not_wanted_any_more(catalogue: Catalogue) -> None:
    seed = Seed(id="old", source=str(catalogue.weights), kind=ModelKind.CHAT)
    await plant(catalogue.catalog, [seed])
    assert (await catalogue.client.find("old")).id == "old"
    await plant(catalogue.catalog, [])
    with pytest.raises(ModelNotFound):
        await catalogue.client.find("old")


async def test_bases_that_can_not_be_trained(catalogue: Catalogue, tmp_path: Path) -> None:
    for kind in (pb.MODEL_KIND_EMBEDDING, pb.MODEL_KIND_IMAGE, pb.MODEL_KIND_RERANK):
        await catalogue.put(f"m{kind}", kind=kind)
        with pytest.raises(InvalidArgument) as caught:
            await catalogue.client.find(f"m{kind}")
        assert caught.value.field == "job.base_model"
    gone = tmp_path / "gone"
    gone.mkdir()
    await catalogue.put("gone", gone)
    gone.rmdir()
    with pytest.raises(FailedPrecondition) as refused:
        await catalogue.client.find("gone")
    assert refused.value.field == "job.base_model"
    assert str(tmp_path) not in refused.value.message


async def test_a_result_gets_the_settings_of_its_base(catalogue: Catalogue) -> None:
    config = pb.ModelConfig(
        default_temperature=0.25, max_batch_size=4, system_prompt="Be kind.", stop=["END"]
    )
    options = pb.LoadOptions(context_length=99, quantization="float32")
    await catalogue.put("base", config=config, load_options=options, aliases=["b"])
    result = catalogue.result(FT)
    told = await catalogue.client.deploy(FT, "base", "ftjob-1", "somebody")
    assert "waits" in told, "nothing serves it in this test"
    model = await catalogue.get(FT)
    assert (model.owned_by, model.base_model, model.kind) == ("somebody", "base", 1)
    assert model.revision.source == str(result)
    assert model.revision.load_options == pb.LoadOptions()
    assert model.config.default_temperature == 0.25
    assert (model.config.system_prompt, list(model.config.stop)) == ("Be kind.", ["END"])
    assert not model.config.HasField("max_batch_size")
    # A result of training on top of it is attached to the same model.
    catalogue.result(second := "ft:base:local:more:AbCd9999", "ftjob-2")
    await catalogue.client.deploy(second, FT, "ftjob-2", "x" * 300)
    model = await catalogue.get(second)
    assert (model.base_model, model.owned_by) == ("base", "x" * 128)
    assert model.config.system_prompt == "Be kind."
    # Whole weights are loaded as the base's are, and say where they come from.
    catalogue.result(whole := "ft:base:local:all:AbCd7777", "ftjob-3", adapter=False)
    await catalogue.client.deploy(whole, "base", "ftjob-3", "me")
    model = await catalogue.get(whole)
    assert (model.base_model, model.revision.load_options) == ("base", options)
    assert model.config.max_batch_size == 4


async def test_deploying_again_changes_nothing(catalogue: Catalogue) -> None:
    await catalogue.put("base")
    catalogue.result(FT)
    for _ in range(2):
        await catalogue.client.deploy(FT, "base", "ftjob-1", "me")
    first = await catalogue.get(FT)
    # The base has got other settings since: what was deployed first stays.
    await catalogue.admin.UpdateModelConfig(
        service_pb.UpdateModelConfigRequest(
            config=pb.ModelConfig(name="models/base/config", system_prompt="New.")
        )
    )
    await catalogue.client.deploy(FT, "base", "ftjob-1", "me")
    again = await catalogue.get(FT)
    assert (again.uid, again.revision.name, again.config.system_prompt) == (
        first.uid,
        first.revision.name,
        "",
    )
    await catalogue.delete(FT)
    told = await catalogue.client.deploy(FT, "base", "ftjob-1", "me")
    assert told == "It was deleted."
    with pytest.raises(ModelNotFound):
        await catalogue.client.find(FT)


async def test_a_result_that_people_deployed_first_is_left_to_them(catalogue: Catalogue) -> None:
    await catalogue.put("base")
    catalogue.result(FT)
    theirs = await catalogue.put(FT, FT, base_model="base", display_name="Theirs")
    await catalogue.client.deploy(FT, "base", "ftjob-1", "me")
    assert (await catalogue.get(FT)).uid == theirs.uid
    catalogue.result(other := "ft:base:local:other:AbCd9999", "ftjob-2")
    await catalogue.put(other)  # other weights
    with pytest.raises(AlreadyExists):
        await catalogue.client.deploy(other, "base", "ftjob-2", "me")
    catalogue.result(third := "ft:base:local:third:AbCd9999", "ftjob-3")
    await catalogue.put("fourth", aliases=[third])
    with pytest.raises(AlreadyExists):
        await catalogue.client.deploy(third, "base", "ftjob-3", "me")


async def test_it_is_told_whether_a_result_serves(catalogue: Catalogue) -> None:
    await catalogue.put("base")
    catalogue.result(FT)
    client = catalogue.patient
    deploying = asyncio.create_task(client.deploy(FT, "base", "ftjob-1", "me"))
    while True:
        with contextlib.suppress(grpc.aio.AioRpcError):
            await catalogue.get(FT)
            break
        await asyncio.sleep(0.01)
    assert not deploying.done()
    await catalogue.report(pb.Observation.STATE_READY, "base", FT)
    assert await deploying == ""
    await catalogue.report(pb.Observation.STATE_FAILED, FT, message="There is no room.")
    assert "There is no room." in await client.deploy(FT, "base", "ftjob-1", "me")


async def test_a_result_needs_its_base_and_its_weights(catalogue: Catalogue) -> None:
    await catalogue.put("base")
    with pytest.raises(FailedPrecondition, match="result of the training is gone"):
        await catalogue.client.deploy(FT, "base", "ftjob-1", "me")
    catalogue.result(FT)
    await catalogue.delete("base")
    with pytest.raises(FailedPrecondition, match="'base' was deleted during the training"):
        await catalogue.client.deploy(FT, "base", "ftjob-1", "me")


async def test_no_catalogue_is_to_be_tried_again(catalogue: Catalogue, tmp_path: Path) -> None:
    await catalogue.put("base")
    catalogue.result(FT)
    for address, token in (("127.0.0.1:1", "service"), (catalogue.address, "wrong")):
        async with channel(address, token=token) as opened:
            client = CatalogueClient(opened, catalogue.root)
            with pytest.raises(Unavailable):
                await client.find("base")
            with pytest.raises(Unavailable):
                await client.deploy(FT, "base", "ftjob-1", "me")
    async with channel(catalogue.address) as opened:  # nobody's token shows no folders
        with pytest.raises(Unavailable, match="PENSTOCK_SERVICE_TOKEN"):
            await CatalogueClient(opened, catalogue.root).find("base")
