"""What a key with some models sees of the catalogue: the others do not exist for it."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from penstock.model.v1 import model_pb2 as pb
from penstock.model.v1 import model_service_pb2 as service_pb
from penstock.model.v1.model_service_pb2_grpc import ModelServiceStub

from policy.key_secrets import digest
from tests.integration.reasons import reason

SOME = {"id": "some", "roles": ["admin"], "allowed_models": ["a*", "best"]}


@pytest.fixture
async def stubs(
    start_service, tmp_path: Path, weights: str
) -> AsyncIterator[tuple[ModelServiceStub, ModelServiceStub]]:
    """Of an admin, and of one who may use some models."""
    file = tmp_path / "tokens.json"
    document = json.loads(file.read_text())
    document["tokens"].append({"sha256": digest("some"), **SOME})
    file.write_text(json.dumps(document))
    async with start_service(f"sqlite:///{tmp_path / 'model.db'}") as service:
        admin = service.stub("admin")
        for number in range(12):
            for id in (f"a{number}", f"b{number}"):
                await admin.DeployModel(deployment(weights, id))
        await admin.DeployModel(deployment(weights, "c", aliases=["best", "x"]))
        yield admin, service.stub("some")


def deployment(weights: str, id: str, **fields) -> service_pb.DeployModelRequest:
    return service_pb.DeployModelRequest(
        model_id=id, source=weights, kind=pb.MODEL_KIND_CHAT, **fields
    )


async def test_lists_hold_what_may_be_used(stubs) -> None:
    _, some = stubs
    seen, token = [], ""
    while True:
        request = service_pb.ListModelsRequest(page_size=4, page_token=token)
        page = await some.ListModels(request)
        seen.append([model.name.removeprefix("models/") for model in page.models])
        if not (token := page.next_page_token):
            break
    assert [len(page) for page in seen] == [4, 4, 4, 1]
    assert [id for page in seen for id in page] == [
        *sorted(f"a{number}" for number in range(12)),
        "c",
    ]


async def test_other_models_do_not_exist(stubs, weights: str) -> None:
    admin, some = stubs
    for name in ("c", "best", "x", "a0"):
        assert (await some.GetModel(service_pb.GetModelRequest(name=f"models/{name}"))).name
    for name in ("b0", "nowhere"):
        config = pb.ModelConfig(name=f"models/{name}/config", system_prompt="s")
        for call in (
            some.GetModel(service_pb.GetModelRequest(name=f"models/{name}")),
            some.DeleteModel(service_pb.DeleteModelRequest(name=f"models/{name}")),
            some.ListRevisions(service_pb.ListRevisionsRequest(parent=f"models/{name}")),
            some.GetModelConfig(service_pb.GetModelConfigRequest(name=f"models/{name}/config")),
            some.UpdateModelConfig(
                service_pb.UpdateModelConfigRequest(
                    config=config, update_mask=FieldMask(paths=["system_prompt"])
                )
            ),
            some.SetModelAliases(
                service_pb.SetModelAliasesRequest(name=f"models/{name}", aliases=["a99"])
            ),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert reason(caught.value)[0] == "MODEL_NOT_FOUND"
            assert caught.value.details().replace(name, "M") == (
                "There is no model 'M'. ListModels names all."
            )
    assert (await admin.GetModel(service_pb.GetModelRequest(name="models/b0"))).name
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await some.DeployModel(deployment(weights, "b99"))
    assert reason(caught.value) == ("PERMISSION_DENIED", "model_id")
    await some.DeployModel(deployment(weights, "a99"))


async def test_a_watch_tells_of_nothing_else(stubs, weights: str) -> None:
    admin, some = stubs
    # A position to resume from is not taken: what was shown before it is not known.
    watch = some.WatchModels(service_pb.WatchModelsRequest(resume_sequence=1))
    events = aiter(watch)

    async def heard() -> service_pb.WatchModelsEvent:
        async with asyncio.timeout(20):
            return await anext(events)

    snapshot = await heard()
    assert len(snapshot.snapshot.models) == 13
    alias = service_pb.SetModelAliasesRequest
    await admin.DeployModel(deployment(weights, "b100"))
    await admin.DeleteModel(service_pb.DeleteModelRequest(name="models/b1"))
    await admin.SetModelAliases(alias(name="models/b2", aliases=["a-alias"]))
    assert (await heard()).changed.name == "models/b2", "it may be used from now on"
    await admin.SetModelAliases(alias(name="models/b2", aliases=[]))
    assert (await heard()).deleted == "models/b2"
    await admin.DeleteModel(service_pb.DeleteModelRequest(name="models/b2"))
    await admin.DeleteModel(service_pb.DeleteModelRequest(name="models/a1"))
    assert (await heard()).deleted == "models/a1"
    watch.cancel()
    with contextlib.suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
        await anext(events)
