"""Every engine takes part: `encoder` is loaded once with each.

A new engine joins with one entry in `ENGINES`.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.embedding.engine import Encoder, EncoderLoader, EncoderSpec
from services.embedding.engines.echo_engine import EchoLoader, EchoSettings
from services.embedding.engines.torch_loader import TorchLoader
from services.embedding.engines.torch_settings import TorchSettings
from tests.conformance.embedding.tiny_encoders import save_encoder


@dataclass(frozen=True)
class Contestant:
    loader: EncoderLoader
    dtype: str = "auto"
    least_cosine: float = 1 - 1e-6
    """Between the vectors of an input in different batches."""


ENGINES = {
    "echo": Contestant(EchoLoader(EchoSettings(batch_interval_s=0.0005))),
    "torch-float32": Contestant(TorchLoader(TorchSettings(device="cpu")), "float32"),
    "torch-bfloat16": Contestant(TorchLoader(TorchSettings(device="cpu")), "bfloat16", 0.999),
    "torch-transformers": Contestant(
        TorchLoader(TorchSettings(device="cpu", encoder="transformers")), "float32"
    ),
}

Load = Callable[..., Awaitable[Encoder]]


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_encoder(tmp_path_factory.mktemp("encoders") / "tiny-bert")


@pytest.fixture(scope="session")
def tiny_cross(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_encoder(tmp_path_factory.mktemp("encoders") / "tiny-cross", labels=1)


@pytest.fixture(params=ENGINES)
def contestant(request: pytest.FixtureRequest) -> Contestant:
    return ENGINES[request.param]


@pytest.fixture
async def load() -> AsyncIterator[Load]:
    """Loads with any loader; what was loaded is closed at the end."""
    loaded: list[Encoder] = []

    async def load_one(
        loader: EncoderLoader,
        folder: Path,
        *,
        dtype: str = "float32",
        context_length: int = 0,
        scores_pairs: bool = False,
    ) -> Encoder:
        spec = EncoderSpec("tiny", "1", folder, context_length, dtype, scores_pairs)
        loaded.append(await loader.load(spec, lambda share: None))
        return loaded[-1]

    yield load_one
    for encoder in loaded:
        await encoder.close()


@pytest.fixture
async def encoder(contestant: Contestant, load: Load, tiny_bert: Path) -> Encoder:
    return await load(contestant.loader, tiny_bert, dtype=contestant.dtype)


@pytest.fixture
async def cross(contestant: Contestant, load: Load, tiny_cross: Path) -> Encoder:
    return await load(contestant.loader, tiny_cross, dtype=contestant.dtype, scores_pairs=True)
