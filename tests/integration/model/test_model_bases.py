"""Models made from others: what the catalogue takes as a base, and what it keeps for adapters."""

from pathlib import Path

import grpc
import pytest
from penstock.model.v1 import model_pb2 as pb
from penstock.model.v1 import model_service_pb2 as service_pb

from tests.integration.model.test_model_service import EMBEDDING, INVALID, deployment, refused

UNFIT = grpc.StatusCode.FAILED_PRECONDITION


@pytest.fixture
def adapter(tmp_path: Path) -> str:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    return str(folder)


def delete(model_id: str) -> service_pb.DeleteModelRequest:
    return service_pb.DeleteModelRequest(name=f"models/{model_id}")


async def test_an_adapter_is_a_model_that_holds_its_base(service, weights, adapter):
    manager = service.stub("model_manager")
    await manager.DeployModel(deployment(weights, "base", aliases=["b"]))
    model = await manager.DeployModel(deployment(adapter, "tuned", base_model="b"))
    assert (model.name, model.base_model) == ("models/tuned", "base")
    page = await service.stub("user").ListModels(service_pb.ListModelsRequest())
    assert [(m.name, m.base_model) for m in page.models] == [
        ("models/base", ""),
        ("models/tuned", "base"),
    ]
    error = await refused(manager.DeleteModel(delete("base")), UNFIT, "FAILED_PRECONDITION")
    assert "'tuned'" in (error.details() or "")
    await manager.DeployModel(deployment(weights, "deeper"))
    call = manager.DeployModel(
        deployment(adapter, "base", base_model="deeper", allow_update=True)
    )  # `tuned` would be attached to an adapter
    await refused(call, UNFIT, "FAILED_PRECONDITION")
    await manager.DeleteModel(delete("deeper"))
    again = deployment(adapter, "tuned", allow_update=True)  # its base stays
    assert (await manager.DeployModel(again)).base_model == "base"
    for model_id in ("tuned", "base"):
        await manager.DeleteModel(delete(model_id))


async def test_whole_weights_hold_no_base(service, weights):
    manager = service.stub("model_manager")
    await manager.DeployModel(deployment(weights, "base"))
    await manager.DeployModel(deployment(weights, "merged", base_model="base"))
    await manager.DeleteModel(delete("base"))
    model = await manager.GetModel(service_pb.GetModelRequest(name="models/merged"))
    assert model.base_model == "base"


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"base_model": "none-such"}, "base_model"),
        ({"base_model": "new"}, "base_model"),
        ({"base_model": "tuned"}, "base_model"),
        ({"base_model": "vectors"}, "base_model"),
        ({"base_model": "base", "kind": EMBEDDING}, "kind"),
        ({"load_options": pb.LoadOptions(context_length=5)}, "load_options.context_length"),
        ({"load_options": pb.LoadOptions(quantization="float32")}, "load_options.quantization"),
        ({"load_options": pb.LoadOptions(engine="torch")}, "load_options.engine"),
        ({"config": pb.ModelConfig(max_batch_size=2)}, "config.max_batch_size"),
    ],
)
async def test_adapters_that_can_not_be(service, weights, adapter, values, field):
    manager = service.stub("model_manager")
    await manager.DeployModel(deployment(weights, "base"))
    await manager.DeployModel(deployment(weights, "vectors", kind=EMBEDDING))
    await manager.DeployModel(deployment(adapter, "tuned", base_model="base"))
    call = manager.DeployModel(deployment(adapter, "new", **({"base_model": "base"} | values)))
    await refused(call, INVALID, "INVALID_ARGUMENT", field)


async def test_a_model_is_not_made_from_what_was_made_from_it(service, weights):
    manager = service.stub("model_manager")
    await manager.DeployModel(deployment(weights, "a"))
    await manager.DeployModel(deployment(weights, "b", base_model="a"))
    await manager.DeployModel(deployment(weights, "c", base_model="b"))
    call = manager.DeployModel(deployment(weights, "a", base_model="c", allow_update=True))
    await refused(call, INVALID, "INVALID_ARGUMENT", "base_model")


async def test_settings_of_the_base_are_not_an_adapters(service, weights, adapter):
    admin = service.stub("admin")
    await admin.DeployModel(deployment(weights, "base"))
    await admin.DeployModel(deployment(adapter, "tuned", base_model="base"))
    config = pb.ModelConfig(name="models/tuned/config", max_batch_size=4)
    call = admin.UpdateModelConfig(service_pb.UpdateModelConfigRequest(config=config))
    await refused(call, INVALID, "INVALID_ARGUMENT", "config.max_batch_size")
    config = pb.ModelConfig(name="models/tuned/config", system_prompt="Be brief.")
    changed = await admin.UpdateModelConfig(service_pb.UpdateModelConfigRequest(config=config))
    assert changed.system_prompt == "Be brief."
