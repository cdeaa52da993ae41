"""botserver's dialect before a real ModelService and a real TrainingService, whose jobs nobody
runs: tests bring them to their states, as the supervisor does."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from penstock.model.v1 import model_pb2
from penstock.model.v1 import model_service_pb2 as model_pb
from penstock.model.v1.model_service_pb2_grpc import ModelServiceStub

from gateway.settings import SERVICE_PORTS, ApiSettings, Settings
from policy.principals import Role
from policy.token_file import TokenFile
from services.training.jobs import JobLimits
from tests.integration.gateway.conftest import live_edge
from tests.integration.training.file_platform import SERVICE_TOKEN, Platform, platform
from tests.integration.training.job_platform import catalogue

API = "/api/v1/ai"
TRAINER = {"authorization": "Bearer trainer-token"}
OTHER_TRAINER = {"authorization": "Bearer other-trainer-token"}
USER = {"authorization": "Bearer my-token"}
ADMIN = {"authorization": "Bearer admin-token"}
SERVICE = (("authorization", f"Bearer {SERVICE_TOKEN}"),)


@dataclass
class Whole:
    """The edge and everything behind it."""

    http: httpx.AsyncClient
    training: Platform
    models: ModelServiceStub
    manager: dict[str, str]
    """Credential of a model manager."""
    weights: str
    """A folder that may be deployed."""

    async def start(self, who: dict[str, str] = TRAINER, **more: Any) -> httpx.Response:
        """Starts a job on a dataset, unless it is told otherwise."""
        body = {"base_model": "base", "dataset": "hours"} | more
        return await self.http.post(f"{API}/training/start", json=body, headers=who)

    async def report(self, model_id: str, state: Any) -> None:
        """Says what a serving process says of the first revision of a model."""
        seen = model_pb2.Observation(
            reporter="one", revision=f"models/{model_id}/revisions/1", state=state
        )
        report = model_pb.ReportModelStateRequest(
            reporter="one", service="inference", observations=[seen]
        )
        await self.models.ReportModelState(report, metadata=SERVICE)


@pytest.fixture
def limit() -> int:
    """Requests that a key may send in a minute; override it."""
    return 10_000


@pytest.fixture
async def whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> AsyncIterator[Whole]:
    monkeypatch.setattr("policy.token_store._RECHECK_S", 0.0)  # a key is made after they began
    async with contextlib.AsyncExitStack() as stack:
        address = await stack.enter_async_context(catalogue(tmp_path))
        limits = JobLimits(datasets={"hours": "", "held-out": ""})
        serving = platform(tmp_path, catalogue=address, job_limits=limits)
        training = await stack.enter_async_context(serving)
        _, key = TokenFile(tmp_path / "tokens.json").create("manager", [Role.MODEL_MANAGER])
        addresses = dict.fromkeys(SERVICE_PORTS, "127.0.0.1:1")
        settings = Settings(
            api=ApiSettings(max_requests_per_minute=limit),
            data_dir=tmp_path,
            api_tokens=("my-token", "your-token"),
            addresses={**addresses, "model": address, "training": training.server.address},
        )
        _, _, host, port = await stack.enter_async_context(live_edge(settings))
        client = httpx.AsyncClient(base_url=f"http://{host}:{port}", timeout=30)
        http = await stack.enter_async_context(client)
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(address))
        manager = {"authorization": f"Bearer {key}"}
        weights = str(tmp_path / "weights")
        yield Whole(http, training, ModelServiceStub(channel), manager, weights)
