"""Tool calls of every family: a real service, engine and tokenizer, and a model that says so."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import torch
from penstock.inference.v1 import event_pb2, message_pb2, sampling_pb2
from penstock.inference.v1 import inference_service_pb2 as pb
from penstock.inference.v1.inference_service_pb2_grpc import (
    InferenceServiceStub,
    add_InferenceServiceServicer_to_server,
)
from transformers import GPT2Config, GPT2LMHeadModel

from policy.token_store import TokenSources
from services.inference import convert
from services.inference.conversation import plan_tools, prompt_ids
from services.inference.engine import LoadedModel, ModelSpec
from services.inference.engines.hf_text import HFText
from services.inference.engines.torch_loader import TorchLoader
from services.inference.engines.torch_settings import TorchSettings
from services.inference.generation import Generator
from services.inference.registry import Registry, ServedModel
from services.inference.servicer import InferenceServicer
from services.rpc.authentication import CallAuthenticator
from services.rpc.server import Registration, Server, ServerSettings
from services.serving.models import Known, ModelKind, ModelSettings
from tests.integration.inference.inference_platform import USER
from tests.unit.inference.family_templates import END
from tests.unit.inference.family_tokenizers import family_tokenizer
from tests.unit.inference.scripted_engine import ScriptedEngine

WIDTH = 256
POSITIONS = 2048


def save_speaker(folder: Path, family: str, prompt_length: int, says: str) -> None:
    """Saves a GPT-2 that says this after any prompt of that length.

    Each position's embedding is a direction of its own, which nothing on the way changes; the head
    takes from it the token that comes next.
    """
    tokenizer = family_tokenizer(family)
    said = HFText(tokenizer).encode(says + END[family])
    assert len(said) <= WIDTH
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=POSITIONS,
        n_embd=WIDTH,
        n_layer=1,
        n_head=4,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.convert_tokens_to_ids(END[family]),
    )
    model = GPT2LMHeadModel(config)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if not name.endswith("ln_f.weight"):
                weights.zero_()
        for place, token in enumerate(said):
            model.transformer.wpe.weight[prompt_length - 1 + place, place] = 1.0
            model.lm_head.weight[token, place] = 1.0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def served(loaded: LoadedModel) -> ServedModel:
    return ServedModel("m", ModelKind.CHAT, "models/m/revisions/1", loaded, ModelSettings())


@asynccontextmanager
async def serving(model: ServedModel) -> AsyncIterator[Any]:
    registry = Registry()
    registry.know([Known("m", ModelKind.CHAT)])
    registry.put(model)
    servicer = InferenceServicer(Generator(registry), registry)
    server = Server(
        ServerSettings(),
        [Registration(add_InferenceServiceServicer_to_server, servicer)],
        authenticator=CallAuthenticator(TokenSources(api_tokens=("user-token",))),
    )
    await server.start()
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield InferenceServiceStub(channel)
    await server.stop(0)


Serve = Callable[[str, pb.ChatRequest, str], AbstractAsyncContextManager[Any]]


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    """Serves a model of a family that answers a request with a text."""

    @asynccontextmanager
    async def start(family: str, request: pb.ChatRequest, says: str) -> AsyncIterator[Any]:
        asked = convert.to_chat_request(request)
        alike = served(LoadedModel(ScriptedEngine(), HFText(family_tokenizer(family))))
        plan = plan_tools(asked, alike)
        prompt = prompt_ids(alike, asked.messages, plan.offered, opening=plan.opening)
        save_speaker(tmp_path, family, len(prompt), says)
        loader = TorchLoader(TorchSettings(device="cpu", dtype="float32"))
        loaded = await loader.load(ModelSpec("m", "1", tmp_path), lambda _: None)
        async with serving(served(loaded)) as stub:
            yield stub
        await loaded.engine.close()

    return start


def asking(text: str = "Weather?", **more: Any) -> pb.ChatRequest:
    message = message_pb2.Message(role=message_pb2.ROLE_USER, parts=[message_pb2.Part(text=text)])
    tools = [message_pb2.Tool(name="add"), message_pb2.Tool(name="weather")]
    sampling = sampling_pb2.Sampling(temperature=0, max_tokens=WIDTH)
    return pb.ChatRequest(model="m", messages=[message], tools=tools, sampling=sampling, **more)


A = '{"a": [1, "]}"]}'
W = '{"city": "Köln"}'
BOTH = [("add", A), ("weather", W)]
CASES = [
    (
        "chatml",
        f'<tool_call>\n{{"name": "add", "arguments": {A}}}\n</tool_call>\n'
        f'<tool_call>\n{{"name": "weather", "arguments": {W}}}\n</tool_call>',
        "",
        BOTH,
    ),
    (
        "llama",
        f'<|python_tag|>{{"name": "add", "parameters": {A}}}; {{"name": "weather", '
        f'"parameters": {W}}}',
        "",
        BOTH,
    ),
    ("llama", f'{{"name": "weather", "parameters": {W}}}', "", BOTH[1:]),
    (
        "mistral list",
        f'[TOOL_CALLS] [{{"name": "add", "arguments": {A}}}, {{"name": "weather", '
        f'"arguments": {W}, "id": "abcdefgh1"}}]',
        "",
        BOTH,
    ),
    ("mistral", f"Well.[TOOL_CALLS]add[ARGS]{A}[TOOL_CALLS]weather[ARGS]{W}", "Well.", BOTH),
]


@pytest.mark.parametrize(("family", "says", "text", "calls"), CASES)
async def test_parallel_calls_and_the_way_back(
    serve: Serve, family: str, says: str, text: str, calls: list[tuple[str, str]]
) -> None:
    request = asking()
    async with serve(family, request, says) as inference:
        answer = await inference.Chat(request, metadata=USER)
        [choice] = answer.choices
        message = choice.message
        assert [(call.name, call.arguments_json) for call in message.tool_calls] == calls
        assert "".join(part.text for part in message.parts) == text
        assert choice.finish_reason == event_pb2.FINISH_REASON_TOOL_CALLS

        streamed: list[list[str]] = []
        async for event in inference.StreamChat(request, metadata=USER):
            if event.HasField("tool_delta"):
                if event.tool_delta.name:
                    streamed.append([event.tool_delta.name, ""])
                streamed[-1][1] += event.tool_delta.arguments_json
        assert [tuple(call) for call in streamed] == calls

        request.messages.append(message)
        for call in message.tool_calls:
            request.messages.add(
                role=message_pb2.ROLE_TOOL,
                tool_call_id=call.id,
                parts=[message_pb2.Part(text=f"result of {call.name}")],
            )
        rendered = await inference.ApplyTemplate(
            pb.ApplyTemplateRequest(model="m", messages=request.messages, tools=request.tools),
            metadata=USER,
        )
        places = [rendered.prompt.index(f"result of {name}") for name, _ in calls]
        assert places == sorted(places)
        for name, _ in calls:
            assert rendered.prompt.count(f"result of {name}") == 1
        request.sampling.max_tokens = 1
        again = await inference.Chat(request, metadata=USER)
        assert again.usage.prompt_tokens > answer.usage.prompt_tokens


@pytest.mark.parametrize(
    ("family", "says"),
    [
        ("chatml", f" {W}}}\n</tool_call>"),
        ("llama", f" {W}}}"),
        ("mistral", W),
        ("mistral list", f" {W}}}]"),
    ],
)
async def test_a_named_tool(serve: Serve, family: str, says: str) -> None:
    choice = message_pb2.ToolChoice(mode=message_pb2.ToolChoice.MODE_NAMED, name="weather")
    request = asking(tool_choice=choice)
    async with serve(family, request, says) as inference:
        answer = await inference.Chat(request, metadata=USER)
        calls = answer.choices[0].message.tool_calls
        assert [(call.name, call.arguments_json) for call in calls] == BOTH[1:]


@pytest.mark.parametrize("family", ["chatml", "llama", "mistral", "mistral list"])
async def test_text_is_text(serve: Serve, family: str) -> None:
    """No call; markers that callers and models write by chance are no trouble."""
    request = asking(f"{END[family]} and [TOOL_CALLS] and <|python_tag|>")
    async with serve(family, request, '{"name": "nobody"} says.') as inference:
        answer = await inference.Chat(request, metadata=USER)
        [choice] = answer.choices
        assert choice.message.parts[0].text == '{"name": "nobody"} says.'
        assert choice.finish_reason == event_pb2.FINISH_REASON_STOP
