"""What a job leaves behind serves: adapters as PEFT saves them, beside the starter chat model."""

from __future__ import annotations

import json
from pathlib import Path

import grpc
import peft
import pytest
import torch
from penstock.inference.v1 import inference_service_pb2 as inference_pb
from penstock.inference.v1 import message_pb2, sampling_pb2
from penstock.inference.v1.inference_service_pb2_grpc import InferenceServiceStub
from penstock.model.v1 import model_service_pb2
from penstock.model.v1.model_service_pb2_grpc import ModelServiceStub
from transformers import AutoModelForCausalLM

from services.rpc.channels import channel
from services.training.clients import CatalogueClient
from services.training.folder import job_folder, model_link
from tests.integration.serving_processes import ADMIN, run_processes, until_ready

pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:.*is_gradient_checkpointing.* is deprecated:FutureWarning"  # peft asks for it
    ),
    pytest.mark.timeout(300),
]
STARTER = Path(__file__).parents[3] / "starters" / "chat" / "model"
CONFIG = f"""
[api.models.starter]
path = "{STARTER}"
default_temperature = 0
aliases = ["default"]

[services.inference]
device = "cpu"
max_batch_size = 2
max_context = 256

[services.model]
model_roots = ["/nowhere"]
"""
RESULT = "ft:starter:local:changed:AbCd1234"
UNCHANGED = f"{RESULT}:ckpt-step-5"


def save_adapter(folder: Path, *, scale: float) -> None:
    """Saves an adapter as a job does; with the scale 0 it changes nothing."""
    torch.manual_seed(1)
    whole = AutoModelForCausalLM.from_pretrained(STARTER, dtype=torch.float32)
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    model = peft.get_peft_model(whole, config)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "lora_B" in name:
                weights.normal_(std=scale)
    model.save_pretrained(folder)
    described = folder / "adapter_config.json"
    told = json.loads(described.read_text()) | {"base_model_name_or_path": "starter"}
    described.write_text(json.dumps(told))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder of training jobs after one has ended."""
    root = tmp_path / "training"
    folder = job_folder(root, "ftjob-1")
    for place, model_id, scale in (
        (folder.result, RESULT, 3.0),
        (folder.checkpoint(5), UNCHANGED, 0.0),
    ):
        place.mkdir(parents=True)
        save_adapter(place, scale=scale)
        link = model_link(root, model_id)
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(place)
    return root


async def test_results_and_checkpoints_are_called_by_their_ids(tmp_path: Path, root: Path) -> None:
    async with (
        run_processes(tmp_path, "inference", CONFIG) as processes,
        channel(processes.address("model"), token="service-token") as service,
        grpc.aio.insecure_channel(processes.address("model")) as people,
        grpc.aio.insecure_channel(processes.address("inference")) as inference,
    ):
        models, chats = ModelServiceStub(people), InferenceServiceStub(inference)

        async def answer(model: str) -> str:
            message = message_pb2.Message(
                role=message_pb2.ROLE_USER,
                parts=[message_pb2.Part(text="What is the capital of France?")],
            )
            request = inference_pb.ChatRequest(
                model=model,
                messages=[message],
                sampling=sampling_pb2.Sampling(temperature=0, max_tokens=12),
            )
            answer = await chats.Chat(request, metadata=ADMIN, wait_for_ready=True)
            assert answer.model == model
            return answer.choices[0].message.parts[0].text

        await until_ready(models, "starter")
        client = CatalogueClient(service, root, patience_s=600)
        base = await client.find("default")
        assert (base.id, base.whole_id, base.folder) == ("starter", "starter", STARTER)
        assert await client.deploy(RESULT, base.id, "ftjob-1", "me") == ""
        # Called at once, by its ID.
        changed = await answer(RESULT)
        deploy = model_service_pb2.DeployModelRequest(
            model_id="early", source=UNCHANGED, base_model="default", kind=1, wait=True
        )
        await models.DeployModel(deploy, metadata=ADMIN)
        plain = await answer("starter")
        assert plain
        assert changed != plain
        assert await answer("early") == plain
        found = await client.find(RESULT)
        assert (found.whole_id, found.folder) == ("starter", STARTER)
        assert found.adapter == job_folder(root, "ftjob-1").result.resolve()
        assert found.context_length == 256
        # Nothing else of that place is to be had, and the settings' roots hold for the rest.
        for source in (str(job_folder(root, "ftjob-1").result), f"{RESULT}:ckpt-step-6"):
            deploy.source, deploy.model_id = source, "other"
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await models.DeployModel(deploy, metadata=ADMIN)
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        await models.DeleteModel(
            model_service_pb2.DeleteModelRequest(name=f"models/{RESULT}"), metadata=ADMIN
        )
        assert await answer("early") == plain
