"""The Triton engine takes the suite of all engines, as far as its capabilities go.

It stands in a file of its own: one real Triton and one loaded model do for all of it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from services.errors import FailedPrecondition, InvalidArgument
from services.inference.engine import LoadedModel, ModelSpec
from services.inference.engines.triton_loader import TritonTextLoader
from services.inference.engines.triton_settings import TritonTextSettings
from services.settings import TritonModelSettings, TritonSettings
from services.tritonserver import repository
from services.tritonserver.endpoints import Triton
from services.tritonserver.hosted import HostedModel
from services.tritonserver.tensors import bytes_tensor, tensor
from tests.conformance import test_control, test_generation
from tests.conformance.conftest import Make
from tests.conformance.recorder import sequence, submit
from tests.triton_models import add_tensorrt_llm, add_text_model
from tests.triton_server import TritonServer
from tests.unit.inference.engines.test_decoder_adapters import TARGETS, save_adapter

globals().update(
    {
        name: test
        for module in (test_generation, test_control)
        for name, test in vars(module).items()
        if name.startswith("test_")
    }
)

pytestmark = pytest.mark.timeout(300)
NAME = "tiny"


@pytest.fixture(scope="module")
def loaded_there(triton: TritonServer, tiny_llama: Path) -> TritonServer:
    """A Triton that has the model already: loading it anew for each test would take minutes."""
    model = AutoModelForCausalLM.from_pretrained(tiny_llama)
    adapter = save_adapter(tiny_llama.parent / "hours", model, TARGETS["llama"], 1)
    add_text_model(triton, NAME, tiny_llama, adapters=json.dumps({"hours": str(adapter)}))

    async def load() -> None:
        endpoints = Triton(TritonSettings(endpoints=(triton.address,)))
        await repository.load(endpoints.endpoints[0], NAME)
        await endpoints.close()

    asyncio.run(load())
    return triton


@pytest.fixture
async def make(loaded_there: TritonServer, tiny_llama: Path) -> AsyncIterator[Make]:
    endpoints = Triton(TritonSettings(endpoints=(loaded_there.address,), manage_models=False))
    made: list[LoadedModel] = []

    async def make_one(
        *, slots: int = 4, queue_limit: int = 8, context_length: int = 4096
    ) -> LoadedModel:
        settings = TritonTextSettings(slots, queue_limit, context_length)
        spec = ModelSpec(NAME, "1", tiny_llama)
        loaded = await TritonTextLoader(endpoints, settings).load(spec, lambda share: None)
        made.append(loaded)
        return loaded

    yield make_one
    for loaded in made:
        await loaded.engine.close()
    await endpoints.close()


@pytest.fixture
async def loaded(make: Make) -> LoadedModel:
    return await make()


async def test_adapters_are_named(loaded: LoadedModel, tiny_llama: Path) -> None:
    engine = loaded.engine
    assert engine.info.capabilities.lora
    adapter = await engine.attach("hours", tiny_llama.parent / "hours")
    await adapter.probe()
    request = sequence(test_generation.chat(loaded), 12, temperature=0, ignore_eos=True)
    plain = await submit(engine, request).until_over()
    running = submit(adapter, request)
    assert (adapter.status().waiting, engine.status().waiting) == (1, 0)
    adapted = await running.until_over()
    assert adapted.failure is None
    assert adapted.tokens() != plain.tokens()
    nobody = await engine.attach("nobody", tiny_llama.parent / "hours")
    with pytest.raises(FailedPrecondition, match=r"multi_lora\.json"):
        await nobody.probe()


@pytest.mark.parametrize(
    "told", ["nonsense", "[]", '{"temperature": "hot"}', '{"max_tokens": [1]}', '{"best_of": 2}']
)
async def test_what_can_t_be_read_is_refused(loaded_there: TritonServer, told: str) -> None:
    settings = TritonSettings(endpoints=(loaded_there.address,), manage_models=False)
    endpoints = Triton(settings)
    inputs = [
        bytes_tensor("text_input", ["Hello"]),
        tensor("stream", "BOOL", [True]),
        bytes_tensor("sampling_parameters", [told]),
    ]
    try:
        hosted = await HostedModel.open(endpoints, NAME)
        with pytest.raises(InvalidArgument):
            [answer async for answer in hosted.stream(inputs)]
        await hosted.close()
    finally:
        await endpoints.close()


async def test_tensorrt_llm_gives_the_same_tokens(
    loaded: LoadedModel, loaded_there: TritonServer, tiny_llama: Path
) -> None:
    """By token IDs, of the model behind the one for text: what its contract can say comes out as it
    does by the other contract."""
    add_tensorrt_llm(loaded_there, tiny_llama)
    hosted = TritonModelSettings(name="tensorrt_llm_bls", needs=("tensorrt_llm",))
    endpoints = Triton(TritonSettings(endpoints=(loaded_there.address,), models={"trt": hosted}))
    loader = TritonTextLoader(endpoints, TritonTextSettings())
    other = await loader.load(ModelSpec("trt", "1", tiny_llama), lambda share: None)
    try:
        prompt = test_generation.chat(loaded)
        free = await submit(loaded.engine, sequence(prompt, 12, temperature=0)).until_over()
        stop = frozenset({free.tokens()[5]})
        for request in (
            sequence(prompt, 12, temperature=0, logprobs=0),
            sequence(prompt, 12, 7, temperature=0.8, top_k=9, ignore_eos=True),
            sequence(prompt, 12, temperature=0, stop_token_ids=stop),
            sequence(prompt, 12, temperature=0, frequency_penalty=1.5, min_tokens=3),
        ):
            mine = await submit(other.engine, request).until_over()
            theirs = await submit(loaded.engine, request).until_over()
            assert mine.tokens() == theirs.tokens()
            assert mine.end() == theirs.end()
            assert [s.logprob for s in mine.scores()] == pytest.approx(
                [s.logprob for s in theirs.scores()], abs=1e-4
            )
        # Tokens that are no text, and texts that spell special tokens, go through by this contract.
        odd = await submit(other.engine, sequence([300, 200, 1, 2, 150], 3)).until_over()
        assert odd.failure is None
        assert "top_k" in other.engine.info.capabilities.sampling_fields
    finally:
        await other.close()
        await endpoints.close()
