"""Every engine takes part: `make` gives a loaded model with the asked bounds.

A new engine joins with one function here and one entry in `ENGINES`.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Protocol

import pytest
import torch

from services.inference.engine import LoadedModel, ModelSpec
from services.inference.engines.echo_engine import EchoLoader, EchoSettings
from services.inference.engines.openvino_loader import OpenVinoLoader
from services.inference.engines.openvino_settings import OpenVinoSettings
from services.inference.engines.torch_loader import TorchLoader
from services.inference.engines.torch_settings import TorchSettings
from tests.conformance.tiny_models import models_folder, save_model


class Make(Protocol):
    def __call__(
        self, *, slots: int = 4, queue_limit: int = 8, context_length: int = 4096
    ) -> Awaitable[LoadedModel]: ...


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(models_folder(tmp_path_factory) / "tiny-llama")


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


async def make_echo(folder: Path, slots: int, queue_limit: int, context_length: int) -> LoadedModel:
    settings = EchoSettings(slots, queue_limit, context_length, step_interval_s=0.0005)
    return await EchoLoader(settings).load(ModelSpec("echo", "1", folder), lambda share: None)


async def make_torch(
    folder: Path, slots: int, queue_limit: int, context_length: int
) -> LoadedModel:
    settings = TorchSettings(
        max_batch_size=slots,
        queue_limit=queue_limit,
        max_context=context_length,
        device="cpu",
        dtype="float32",
        step_tokens=64,
    )
    return await TorchLoader(settings).load(ModelSpec("tiny", "1", folder), lambda share: None)


async def make_openvino(
    folder: Path, slots: int, queue_limit: int, context_length: int
) -> LoadedModel:
    pytest.importorskip("openvino_genai", reason="the extra `openvino` is not installed")
    settings = OpenVinoSettings(
        cache=folder.parent / "openvino",
        max_batch_size=slots,
        queue_limit=queue_limit,
        max_context=context_length,
        dtype="float32",
        threads=1,
        step_tokens=64,
    )
    return await OpenVinoLoader(settings).load(ModelSpec("tiny", "1", folder), lambda share: None)


ENGINES: dict[str, Callable[[Path, int, int, int], Awaitable[LoadedModel]]] = {
    "echo": make_echo,
    "torch": make_torch,
    "openvino": make_openvino,
}


@pytest.fixture(params=ENGINES)
async def make(request: pytest.FixtureRequest, tiny_llama: Path) -> AsyncIterator[Make]:
    made: list[LoadedModel] = []

    async def make_one(
        *, slots: int = 4, queue_limit: int = 8, context_length: int = 4096
    ) -> LoadedModel:
        loaded = await ENGINES[request.param](tiny_llama, slots, queue_limit, context_length)
        made.append(loaded)
        return loaded

    yield make_one
    for loaded in made:
        await loaded.engine.close()


@pytest.fixture
async def loaded(make: Make) -> LoadedModel:
    return await make()
