"""Strict tools of every family: a model that babbles at random gives arguments of the schema."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from penstock.inference.v1 import event_pb2, message_pb2, sampling_pb2
from penstock.inference.v1 import inference_service_pb2 as pb
from transformers import GPT2Config, GPT2LMHeadModel

from services.inference.engine import ModelSpec
from services.inference.engines.torch_loader import TorchLoader
from services.inference.engines.torch_settings import TorchSettings
from tests.integration.inference.inference_platform import USER
from tests.integration.inference.test_tool_families import served, serving
from tests.unit.inference.family_templates import END
from tests.unit.inference.family_tokenizers import family_tokenizer

SCHEMAS: dict[str, Any] = {
    "weather": {
        "type": "object",
        "properties": {"city": {"enum": ["Köln", 'a "}]; b']}, "days": {"type": "integer"}},
        "required": ["city", "days"],
        "additionalProperties": False,
    },
    "add": {
        "type": "object",
        "properties": {"x": {"type": "array", "items": {"type": "boolean"}, "maxItems": 3}},
        "required": ["x"],
        "additionalProperties": False,
    },
}
REQUIRED = message_pb2.ToolChoice(mode=message_pb2.ToolChoice.MODE_REQUIRED)
NAMED = message_pb2.ToolChoice(mode=message_pb2.ToolChoice.MODE_NAMED, name="weather")


@pytest.fixture(params=["chatml", "llama", "mistral", "mistral list"])
async def inference(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Any]:
    family = request.param
    tokenizer = family_tokenizer(family)
    torch.manual_seed(5)
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(tokenizer),
            n_positions=2048,
            n_embd=32,
            n_layer=1,
            n_head=4,
            bos_token_id=None,
            eos_token_id=tokenizer.convert_tokens_to_ids(END[family]),
        )
    )
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loader = TorchLoader(TorchSettings(device="cpu", dtype="float32", max_context=2048))
    loaded = await loader.load(ModelSpec("m", "1", tmp_path), lambda _: None)
    async with serving(served(loaded)) as stub:
        yield stub
    await loaded.engine.close()


def asking(choice: message_pb2.ToolChoice, seed: int, temperature: float) -> pb.ChatRequest:
    return pb.ChatRequest(
        model="m",
        messages=[
            message_pb2.Message(
                role=message_pb2.ROLE_USER, parts=[message_pb2.Part(text="Weather?")]
            )
        ],
        tools=[
            message_pb2.Tool(name=name, parameters_json=json.dumps(schema), strict=True)
            for name, schema in SCHEMAS.items()
        ],
        tool_choice=choice,
        sampling=sampling_pb2.Sampling(temperature=temperature, seed=seed, max_tokens=250),
    )


async def streamed(inference: Any, request: pb.ChatRequest) -> list[tuple[str, str]]:
    """Names and arguments of the whole calls."""
    calls: list[list[str]] = []
    reason = event_pb2.FINISH_REASON_UNSPECIFIED
    async for event in inference.StreamChat(request, metadata=USER):
        if event.HasField("tool_delta"):
            if event.tool_delta.name:
                calls.append([event.tool_delta.name, ""])
            calls[-1][1] += event.tool_delta.arguments_json
        elif event.HasField("finished"):
            reason = event.finished.reason
        else:
            assert not event.delta.text, "text beside calls that must come"
    if reason == event_pb2.FINISH_REASON_LENGTH:
        calls = calls[:-1]  # the last may be cut off: numbers and lists of calls may go on
    else:
        assert reason == event_pb2.FINISH_REASON_TOOL_CALLS
        assert calls
    return [(name, arguments) for name, arguments in calls]


@pytest.mark.parametrize("choice", [REQUIRED, NAMED], ids=["required", "named"])
async def test_arguments_are_always_valid(inference: Any, choice: message_pb2.ToolChoice) -> None:
    requests = [
        asking(choice, seed, temperature=(0.0, 0.7, 1.0, 2.0)[seed % 4]) for seed in range(8)
    ]
    found = [
        call
        for calls in await asyncio.gather(*(streamed(inference, each) for each in requests))
        for call in calls
    ]
    for name, arguments in found:
        jsonschema.validate(json.loads(arguments), SCHEMAS[name])
    assert len(found) >= 4
    assert {name for name, _ in found} == ({"weather"} if choice is NAMED else set(SCHEMAS))
    for request in requests[:2]:
        calls = await streamed(inference, request)
        answer = await inference.Chat(request, metadata=USER)
        told = [(c.name, c.arguments_json) for c in answer.choices[0].message.tool_calls]
        assert told[: len(calls)] == calls
