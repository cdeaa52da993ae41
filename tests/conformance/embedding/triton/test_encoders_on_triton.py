"""Encoders on a real Triton: what every encoder promises, and the vectors of the torch engine."""

import asyncio
import json
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from services.embedding.engine import Encoder, EncoderSpec
from services.embedding.engines.torch_loader import TorchLoader
from services.embedding.engines.torch_settings import TorchSettings
from services.embedding.engines.triton_loader import TritonLoader
from services.errors import FailedPrecondition, InvalidArgument, Unavailable
from services.settings_triton import TritonSettings
from services.tritonserver.calls import CallOptions, infer
from services.tritonserver.endpoints import Triton
from services.tritonserver.tensors import tensor, to_request
from tests.conformance.embedding.conftest import Contestant, Load
from tests.conformance.embedding.reference import cosines, inputs, matrix
from tests.conformance.embedding.test_every_encoder import *  # noqa: F403  (the same promises)
from tests.conformance.embedding.test_every_encoder import random_inputs
from tests.conformance.embedding.tiny_encoders import TEXTS, save_encoder
from tests.conformance.embedding.triton.conftest import Connect
from tests.triton_server import TritonServer

TORCH = TorchLoader(TorchSettings(device="cpu"))


async def test_the_same_batch_gives_the_same_bytes(
    encoder: Encoder, contestant: Contestant
) -> None:
    """But for the last bits: what Triton computes together depends on when it comes."""
    batch = inputs(encoder, TEXTS)
    first, again = [matrix(await encoder.encode(batch, normalize=True)) for _ in range(2)]
    assert cosines(first, again).min() >= contestant.least_cosine


async def test_callers_at_once_get_their_own(encoder: Encoder, contestant: Contestant) -> None:
    """Triton computes them together, so they may differ in their last bits."""
    batches = [random_inputs(encoder, [n, 3], seed=n) for n in range(1, 13)]
    alone = [await encoder.encode(batch, normalize=True) for batch in batches]
    at_once = await asyncio.gather(*(encoder.encode(b, normalize=True) for b in batches))
    for one, other in zip(alone, at_once, strict=True):
        assert cosines(matrix(one), matrix(other)).min() >= contestant.least_cosine


async def test_vectors_and_scores_are_those_of_the_torch_engine(
    encoder: Encoder, cross: Encoder, load: Load, tiny_bert: Path, tiny_cross: Path
) -> None:
    own = await load(TORCH, tiny_bert)
    batch = inputs(encoder, TEXTS)
    for normalize in (True, False):
        found = matrix(await encoder.encode(batch, normalize=normalize))
        assert np.allclose(found, matrix(await own.encode(batch, normalize=normalize)), atol=1e-5)
    pairs = await load(TORCH, tiny_cross, scores_pairs=True)
    query, *documents = cross.text.encode(["color of the sky", "the sky is red", "bread"])
    asked = [cross.text.pair(query, document) for document in documents]
    assert await cross.score(asked) == pytest.approx(await pairs.score(asked), abs=1e-5)
    for mine, theirs in ((encoder.info, own.info), (cross.info, pairs.info)):
        assert mine.name == "triton"
        assert mine.dtype == theirs.dtype
        for same in ("context_length", "dimensions", "parameter_count", "shortening", "prompts"):
            assert getattr(mine, same) == getattr(theirs, same), same


async def test_triton_puts_callers_together(hosting: TritonServer, encoder: Encoder) -> None:
    """Requests of any lengths are computed in fewer runs than there are requests."""

    def counts() -> tuple[int, int]:
        with urllib.request.urlopen(f"http://{hosting.http}/v2/models/tiny-bert/stats") as answer:
            stats = json.load(answer)["model_stats"][0]
        return stats["inference_count"], stats["execution_count"]

    before = await asyncio.to_thread(counts)
    batches = [random_inputs(encoder, [n]) for n in range(1, 41)]
    await asyncio.gather(*(encoder.encode(batch, normalize=True) for batch in batches))
    after = await asyncio.to_thread(counts)
    inferred, runs = after[0] - before[0], after[1] - before[1]
    assert inferred == 40
    assert runs < 40


async def test_what_is_wrong_in_one_request_leaves_others_alone(
    hosting: TritonServer, encoder: Encoder
) -> None:
    triton = Triton(TritonSettings(endpoints=(hosting.address,)))
    bad = {
        "shape": [tensor("input_ids", "INT64", [[5, 6]]), tensor("attention_mask", "INT64", [[1]])],
        "token": [tensor("input_ids", "INT64", [[5, 10**6]])],
        "empty": [
            tensor("input_ids", "INT64", [[5]]),
            tensor("attention_mask", "INT64", [[0]]),
        ],
    }
    calls = [
        infer(triton.endpoints[0], to_request("tiny-bert", given), CallOptions())
        for given in bad.values()
    ]
    good = encoder.encode(inputs(encoder, TEXTS), normalize=True)
    *failed, vectors = await asyncio.gather(*calls, good, return_exceptions=True)
    assert [type(one) for one in failed] == [InvalidArgument] * len(bad)
    assert isinstance(vectors, list)
    await triton.close()


async def test_another_folder_than_was_exported_is_refused(
    connect: Connect, tiny_bert: Path, tiny_cross: Path, tmp_path: Path
) -> None:
    with pytest.raises(FailedPrecondition, match="other weights"):
        await connect("tiny-bert", save_encoder(tmp_path / "other", num_hidden_layers=1))
    with pytest.raises(FailedPrecondition, match="kind EMBEDDING"):
        await connect("tiny-bert", tiny_cross, scores_pairs=True)
    with pytest.raises(FailedPrecondition, match="kind RERANK"):
        await connect("tiny-cross", tiny_bert)


@pytest.mark.parametrize(
    ("changes", "match"),
    [({"context_length": 129}, "context"), ({"dtype": "float16"}, "float16")],
)
async def test_what_was_not_exported_is_refused(
    hosting: TritonServer, tiny_bert: Path, changes: dict[str, object], match: str
) -> None:
    triton = Triton(TritonSettings(endpoints=(hosting.address,), manage_models=False))
    spec = EncoderSpec("tiny-bert", "1", tiny_bert, **changes)  # type: ignore[arg-type]
    with pytest.raises(FailedPrecondition, match=match):
        await TritonLoader(triton).load(spec, lambda share: None)
    await triton.close()


async def test_a_model_that_triton_lacks_says_so(hosting: TritonServer, tiny_bert: Path) -> None:
    triton = Triton(TritonSettings(endpoints=(hosting.address,)))
    spec = EncoderSpec("nobody", "1", tiny_bert)
    with pytest.raises(Unavailable, match="nobody"):
        await TritonLoader(triton).load(spec, lambda share: None)
    await triton.close()
