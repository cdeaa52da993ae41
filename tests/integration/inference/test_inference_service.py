# ruff: noqa: ASYNC110 - engines tell their counts, not when they change
import asyncio
from dataclasses import replace
from typing import Any

import grpc
import pytest
from google.protobuf.struct_pb2 import Struct
from penstock.inference.v1 import event_pb2, message_pb2, priority_pb2, queue_pb2, sampling_pb2
from penstock.inference.v1 import inference_service_pb2 as pb

from tests.integration.inference.inference_platform import USER, Platform
from tests.integration.reasons import reason

TEXT = "Wörter 😀 and words"


def chat(text: str = TEXT, model: str = "echo", **more: Any) -> pb.ChatRequest:
    part = message_pb2.Part(text=text)
    message = message_pb2.Message(role=message_pb2.ROLE_USER, parts=[part])
    return pb.ChatRequest(model=model, messages=[message], **more)


def sampling(**fields: Any) -> sampling_pb2.Sampling:
    return sampling_pb2.Sampling(**fields)


async def test_chat_answers(platform: Platform) -> None:
    answer = await platform.inference.Chat(chat(model="org/alias"), metadata=USER)
    (choice,) = answer.choices
    assert choice.message.parts[0].text == TEXT
    assert choice.finish_reason == event_pb2.FINISH_REASON_STOP
    assert answer.model == "echo"
    assert answer.usage.completion_tokens == len(TEXT.encode()) + 1
    assert answer.create_time.seconds > 0


async def test_a_streamed_chat_adds_up_to_the_answer(platform: Platform) -> None:
    request = chat(sampling=sampling(logprobs=2, n=2, seed=1))
    answer = await platform.inference.Chat(request, metadata=USER)
    events = [event async for event in platform.inference.StreamChat(request, metadata=USER)]
    kinds = [event.WhichOneof("event") for event in events]
    assert (kinds[0], kinds[-1]) == ("started", "done")
    assert kinds.count("finished") == 2
    for choice in answer.choices:
        deltas = [e.delta for e in events if e.HasField("delta") and e.delta.index == choice.index]
        assert "".join(delta.text for delta in deltas) == choice.message.parts[0].text
        assert [lp for delta in deltas for lp in delta.logprobs] == list(choice.logprobs)
    assert events[-1].done.usage == answer.usage
    assert events[0].started.fingerprint == answer.fingerprint


async def test_completions(platform: Platform) -> None:
    prompts = [pb.Prompt(text="one"), pb.Prompt(token_ids=pb.TokenIds(ids=b"two"))]
    request = pb.CompleteRequest(
        model="completer", prompts=prompts, echo=True, sampling=sampling(max_tokens=2, n=2)
    )
    answer = await platform.inference.Complete(request, metadata=USER)
    assert [choice.text for choice in answer.choices] == ["oneon", "oneon", "twotw", "twotw"]
    events = [event async for event in platform.inference.StreamComplete(request, metadata=USER)]
    texts = [""] * 4
    for event in events:
        if event.HasField("delta"):
            texts[event.delta.index] += event.delta.text
    assert texts == [choice.text for choice in answer.choices]


async def test_tools(platform: Platform) -> None:
    call = '<tool_call>\n{"name": "f", "arguments": {"x": [1]}}\n</tool_call>'
    request = chat(call, tools=[message_pb2.Tool(name="f")])
    answer = await platform.inference.Chat(request, metadata=USER)
    (choice,) = answer.choices
    assert choice.finish_reason == event_pb2.FINISH_REASON_TOOL_CALLS
    assert choice.message.tool_calls[0].arguments_json == '{"x": [1]}'
    # The call and its result are rendered back into the next prompt.
    request.messages.append(choice.message)
    request.messages.add(
        role=message_pb2.ROLE_TOOL,
        tool_call_id=choice.message.tool_calls[0].id,
        parts=[message_pb2.Part(text="42")],
    )
    rendered = await platform.inference.ApplyTemplate(
        pb.ApplyTemplateRequest(model="echo", messages=request.messages, tools=request.tools),
        metadata=USER,
    )
    assert '"x"' in rendered.prompt
    assert "42" in rendered.prompt


async def test_tokens_there_and_back(platform: Platform) -> None:
    request = pb.TokenizeRequest(model="echo", text=TEXT, with_pieces=True)
    tokens = await platform.inference.Tokenize(request, metadata=USER)
    assert b"".join(tokens.pieces).decode() == TEXT
    back = await platform.inference.Detokenize(
        pb.DetokenizeRequest(model="echo", ids=tokens.ids), metadata=USER
    )
    assert back.text == TEXT


async def test_templates_with_and_without_an_open_turn(platform: Platform) -> None:
    messages = chat("hi").messages
    request = pb.ApplyTemplateRequest(model="echo", messages=messages)
    opened = await platform.inference.ApplyTemplate(request, metadata=USER)
    request.add_generation_prompt = False
    closed = await platform.inference.ApplyTemplate(request, metadata=USER)
    assert opened.prompt == closed.prompt + "<|im_start|>assistant\n"


async def test_templates_begin_with_the_models_own_system_prompt(platform: Platform) -> None:
    served = platform.registry.resolve("echo")
    served.settings = replace(served.settings, system_prompt="Be kind.")
    request = pb.ApplyTemplateRequest(model="echo", messages=chat("hi").messages)
    answer = await platform.inference.ApplyTemplate(request, metadata=USER)
    assert answer.prompt.startswith("<|im_start|>system\nBe kind.<|im_end|>")


async def test_runtime_info(platform: Platform) -> None:
    info = await platform.inference.GetRuntimeInfo(
        pb.GetRuntimeInfoRequest(model="models/echo"), metadata=USER
    )
    assert (info.model, info.engine, info.slot_count) == ("echo", "echo", 4)
    assert info.template_name == "chatml"
    assert "<tool_call>" in info.chat_template
    assert (info.bos_token, info.eos_token) == ("<|endoftext|>", "<|im_end|>")


async def test_infer(platform: Platform) -> None:
    parameters = Struct()
    parameters.update({"max_tokens": 3, "stop": ["x"], "logprobs": None})
    del parameters.fields["logprobs"]
    request = pb.InferRequest(model="echo", text="hello", parameters=parameters)
    answer = await platform.inference.Infer(request, metadata=USER)
    assert answer.text == "hel"
    assert answer.usage.completion_tokens == 3
    for bad, field in (({"nope": 1}, "nope"), ({"top_k": "x"}, "top_k"), ({"n": 2}, "n")):
        parameters = Struct()
        parameters.update(bad)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await platform.inference.Infer(
                pb.InferRequest(model="echo", text="a", parameters=parameters), metadata=USER
            )
        assert reason(caught.value) == ("INVALID_ARGUMENT", f"parameters.{field}")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await platform.inference.Infer(
            pb.InferRequest(model="echo", tensors=pb.TensorList()), metadata=USER
        )
    assert reason(caught.value) == ("UNSUPPORTED_PARAMETER", "tensors")


async def test_the_queue_tells_what_runs(platform: Platform) -> None:
    call = platform.inference.StreamChat(chat("x" * 1000, "slow"), metadata=USER)
    await call.read()
    status = await platform.inference.GetQueueStatus(pb.GetQueueStatusRequest(), metadata=USER)
    workers = {worker.model: worker for worker in status.workers}
    assert (status.depth, status.pending, status.active_workers) == (1, 0, 1)
    assert workers["slow"].state == queue_pb2.QueueStatus.Worker.STATE_BUSY
    assert workers["echo"].state == queue_pb2.QueueStatus.Worker.STATE_IDLE
    assert workers["loading"].state == queue_pb2.QueueStatus.Worker.STATE_LOADING
    assert workers["broken"].state == queue_pb2.QueueStatus.Worker.STATE_OFFLINE
    assert "vectors" not in workers
    call.cancel()


ERRORS = [
    (chat(model="nope"), "NOT_FOUND", "MODEL_NOT_FOUND", "model"),
    (chat(model="loading"), "UNAVAILABLE", "MODEL_NOT_READY", "model"),
    (chat(model="broken"), "UNAVAILABLE", "MODEL_NOT_READY", "model"),
    (chat(model="vectors"), "INVALID_ARGUMENT", "INVALID_ARGUMENT", "model"),
    (chat(model="completer"), "INVALID_ARGUMENT", "INVALID_ARGUMENT", "model"),
    (pb.ChatRequest(model="echo"), "INVALID_ARGUMENT", "MISSING_FIELD", "messages"),
    (chat("x" * 9000), "OUT_OF_RANGE", "CONTEXT_LENGTH_EXCEEDED", "messages"),
    (
        chat(sampling=sampling(temperature=3)),
        "INVALID_ARGUMENT",
        "INVALID_ARGUMENT",
        "sampling.temperature",
    ),
    (
        chat(sampling=sampling(mirostat=1)),
        "INVALID_ARGUMENT",
        "UNSUPPORTED_PARAMETER",
        "sampling.mirostat",
    ),
    (
        chat(guide=sampling_pb2.Guide(json_schema="{}")),
        "INVALID_ARGUMENT",
        "UNSUPPORTED_PARAMETER",
        "guide.json_schema",
    ),
    (
        chat(priority=priority_pb2.PRIORITY_HIGH),
        "PERMISSION_DENIED",
        "PERMISSION_DENIED",
        "priority",
    ),
]


@pytest.mark.parametrize(("request_", "code", "expected", "field"), ERRORS)
async def test_errors_tell_reason_and_field(
    platform: Platform, request_: pb.ChatRequest, code: str, expected: str, field: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await platform.inference.Chat(request_, metadata=USER)
    assert caught.value.code().name == code
    assert reason(caught.value) == (expected, field)
    with pytest.raises(grpc.aio.AioRpcError) as streamed:
        async for _ in platform.inference.StreamChat(request_, metadata=USER):
            pass
    assert streamed.value.details() == caught.value.details()
    assert platform.registry.resolve("echo").active == 0


async def test_an_unknown_model_is_told_in_openais_words(platform: Platform) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await platform.inference.Chat(chat(model="nope"), metadata=USER)
    words = "The model `nope` does not exist or you do not have access to it."
    assert caught.value.details() == words


async def test_every_method_needs_a_user(platform: Platform) -> None:
    for method in pb.DESCRIPTOR.services_by_name["InferenceService"].methods:
        call = getattr(platform.inference, method.name)
        request = getattr(pb, method.input_type.name)()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await (call(request).read() if method.server_streaming else call(request))
        assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED, method.name


async def drained(call: Any) -> None:
    async for _ in call:
        pass


async def running(platform: Platform) -> int:
    return platform.registry.resolve("slow").loaded.engine.status().running


async def until_free(platform: Platform) -> None:
    async with asyncio.timeout(10):
        while await running(platform):
            await asyncio.sleep(0.001)


async def test_a_full_queue_is_told_at_once(platform: Platform) -> None:
    calls = [
        platform.inference.StreamChat(chat("x" * 500, "slow"), metadata=USER) for _ in range(2)
    ]
    for call in calls:
        await call.read()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await platform.inference.Chat(chat(model="slow"), metadata=USER)
    assert reason(caught.value)[0] == "QUEUE_FULL"
    for call in calls:
        call.cancel()
    await until_free(platform)


@pytest.mark.parametrize("streamed", [True, False])
async def test_leaving_frees_the_sequence(platform: Platform, streamed: bool) -> None:
    request = chat("x" * 4000, "slow")
    if streamed:
        call = platform.inference.StreamChat(request, metadata=USER)
        await call.read()
    else:
        call = platform.inference.Chat(request, metadata=USER)
        while not await running(platform):
            await asyncio.sleep(0.005)
    assert await running(platform) == 1
    call.cancel()
    await until_free(platform)
    assert platform.registry.resolve("slow").active == 0


@pytest.mark.parametrize("streamed", [True, False])
async def test_the_deadline_reaches_the_engine(platform: Platform, streamed: bool) -> None:
    rpc = platform.inference.StreamChat if streamed else platform.inference.Chat
    call = rpc(chat("x" * 4000, "slow"), metadata=USER, timeout=0.2)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await (drained(call) if streamed else call)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    await until_free(platform)


async def test_a_stop_text_frees_the_sequence(platform: Platform) -> None:
    request = chat("one two three" + "x" * 4000, "slow", sampling=sampling(stop=["two"]))
    answer = await platform.inference.Chat(request, metadata=USER)
    assert answer.choices[0].message.parts[0].text == "one "
    assert answer.choices[0].stop_sequence == "two"
    await until_free(platform)
