"""Fine-tuned models and checkpoints in the catalogue: by their IDs, deployed by TrainingService."""

from pathlib import Path
from urllib.parse import quote

import grpc
import pytest
from penstock.model.v1 import model_pb2 as pb
from penstock.model.v1 import model_service_pb2 as service_pb

from tests.integration.model.test_model_service import INVALID, deployment, refused

RESULT = "ft:base:local:hours:AbCd1234"
DENIED = grpc.StatusCode.PERMISSION_DENIED


@pytest.fixture
def training(tmp_path: Path) -> Path:
    """A folder of training jobs with the result of one."""
    folder = tmp_path / "training"
    result = folder / "jobs" / "ftjob-1" / "result"
    result.mkdir(parents=True)
    (result / "adapter_config.json").write_text("{}")
    (folder / "models").mkdir()
    (folder / "models" / quote(RESULT, safe="")).symlink_to("../jobs/ftjob-1/result")
    return folder


@pytest.fixture
async def service(start_service, database_url, tmp_path, training):
    roots = (tmp_path / "weights",)
    async with start_service(database_url, roots=roots, training=training) as service:
        yield service


async def test_a_result_is_deployed_by_the_service_and_removed_by_people(
    service, weights, training
):
    manager, trainer = service.stub("model_manager"), service.stub("service")
    await manager.DeployModel(deployment(weights, "base"))
    request = deployment(
        RESULT, RESULT, base_model="base", owned_by="somebody", request_id="training-ftjob-1"
    )
    model = await trainer.DeployModel(request)
    assert (model.name, model.base_model) == (f"models/{RESULT}", "base")
    assert model.revision.source == str((training / "jobs" / "ftjob-1" / "result").resolve())
    again = await trainer.DeployModel(request)
    assert (again.uid, again.revision.name) == (model.uid, model.revision.name)
    listed = (await service.stub("user").ListModels(service_pb.ListModelsRequest())).models
    assert [(m.name, m.owned_by, m.base_model, m.revision.source) for m in listed] == [
        ("models/base", "penstock", "", ""),
        (f"models/{RESULT}", "somebody", "base", ""),
    ]
    for name in (RESULT, "base"):
        await manager.DeleteModel(service_pb.DeleteModelRequest(name=f"models/{name}"))
    # What people removed does not come back when the service repeats itself.
    await refused(trainer.DeployModel(request), grpc.StatusCode.ABORTED, "CONFLICT", "request_id")
    # The weights are still there: people may deploy them again, under any ID.
    await manager.DeployModel(deployment(weights, "base"))
    model = await manager.DeployModel(deployment(RESULT, "mine", base_model="base"))
    assert model.name == "models/mine"


@pytest.mark.parametrize(
    "change", [{"source": "weights"}, {"source": "/"}, {"allow_update": True}, {"source": "ft"}]
)
async def test_the_service_deploys_nothing_else(service, weights, change):
    await service.stub("admin").DeployModel(deployment(weights, "base"))
    request = deployment(RESULT, RESULT, base_model="base")
    request.MergeFrom(service_pb.DeployModelRequest(**change))
    await refused(service.stub("service").DeployModel(request), DENIED, "PERMISSION_DENIED")
    for token in ("user", "trainer"):
        call = service.stub(token).DeployModel(deployment(RESULT, RESULT, base_model="base"))
        await refused(call, DENIED, "PERMISSION_DENIED")


async def test_a_result_that_is_not_there_is_refused(service, weights):
    manager = service.stub("model_manager")
    await manager.DeployModel(deployment(weights, "base"))
    for source in (f"{RESULT}:ckpt-step-5", "ft:../jobs", "ft:/../../jobs/ftjob-1/result"):
        call = manager.DeployModel(deployment(source, "x", base_model="base"))
        error = await refused(call, INVALID, "INVALID_ARGUMENT", "source")
        assert "jobs" not in (error.details() or "")


async def test_what_came_of_an_adapter_is_attached_beside_it(service, weights, training):
    manager = service.stub("model_manager")
    await manager.DeployModel(deployment(weights, "base"))
    await manager.DeployModel(deployment(RESULT, RESULT, base_model="base"))
    call = manager.DeployModel(deployment(RESULT, "second", base_model=RESULT))
    error = await refused(call, INVALID, "INVALID_ARGUMENT", "base_model")
    assert "name the model below it, 'base'" in (error.details() or "")
    model = await manager.DeployModel(
        deployment(RESULT, "second", base_model="base", kind=pb.MODEL_KIND_CHAT)
    )
    assert model.base_model == "base"
