"""InferenceService over gRPC: translates, and leaves the deciding to the domain."""
# ruff: noqa: N802 - methods bear the names of their RPCs

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from penstock.inference.v1 import event_pb2 as event_pb
from penstock.inference.v1 import inference_service_pb2 as pb
from penstock.inference.v1 import queue_pb2 as queue_pb
from penstock.inference.v1.inference_service_pb2_grpc import InferenceServiceServicer

from services.errors import UnsupportedParameter
from services.inference import (
    convert,
    convert_events,
    convert_infer,
    tensor_inference,
    tensor_values,
)
from services.inference.callers import calling
from services.inference.conversation import check_chats, render
from services.inference.engine import LoadedModel
from services.inference.generation import Generator
from services.inference.prompts import off_loop
from services.inference.registry import AnyServed, Registry, ServedTensors
from services.inference.requests import Caller, ChatRequest, CompleteRequest, Message, Speaker
from services.inference.validation import check_vocabulary
from services.metering import Meter, Unmetered
from services.rpc.access import Role, requires
from services.serving.models import ModelKind
from services.serving.queues import Counts, queue_status

Context = Any
"""A `grpc.aio.ServicerContext`; its type parameters say nothing here."""


class InferenceServicer(InferenceServiceServicer):
    """Serves the models of a registry."""

    def __init__(
        self, generator: Generator, registry: Registry, meter: Meter | None = None
    ) -> None:
        """Takes what keeps account of tensors, beside the generator's (None: nothing does)."""
        self._generator = generator
        self._registry = registry
        self._meter = meter or Unmetered()

    @requires(Role.USER)
    async def Chat(self, request: pb.ChatRequest, context: Context) -> pb.ChatResponse:
        """Answers a conversation."""
        asked = convert.to_chat_request(request)
        return convert_events.from_chat_answer(
            await self._generator.collect(asked, await calling(request, context))
        )

    @requires(Role.USER)
    async def StreamChat(
        self, request: pb.ChatRequest, context: Context
    ) -> AsyncGenerator[event_pb.ChatEvent, None]:
        """Answers a conversation as it is generated."""
        asked = convert.to_chat_request(request)
        caller = await calling(request, context)
        async with aclosing(self._generator.stream(asked, caller)) as events:
            async for event in events:
                yield convert_events.from_chat_event(event)

    @requires(Role.USER)
    async def Complete(self, request: pb.CompleteRequest, context: Context) -> pb.CompleteResponse:
        """Continues texts."""
        asked = convert.to_complete_request(request)
        return convert_events.from_complete_answer(
            await self._generator.collect(asked, await calling(request, context))
        )

    @requires(Role.USER)
    async def StreamComplete(
        self, request: pb.CompleteRequest, context: Context
    ) -> AsyncGenerator[event_pb.CompleteEvent, None]:
        """Continues texts as they are generated."""
        asked = convert.to_complete_request(request)
        caller = await calling(request, context)
        async with aclosing(self._generator.stream(asked, caller)) as events:
            async for event in events:
                yield convert_events.from_complete_event(event)

    @requires(Role.USER)
    async def Tokenize(self, request: pb.TokenizeRequest, context: Context) -> pb.TokenizeResponse:
        """Turns text into token IDs."""
        text = self._registry.resolve(request.model).loaded.text
        ids = await off_loop(
            len(request.text), lambda: text.encode(request.text, add_special=request.add_special)
        )
        pieces = [text.piece(id) for id in ids] if request.with_pieces else []
        return pb.TokenizeResponse(ids=ids, pieces=pieces)

    @requires(Role.USER)
    async def Detokenize(
        self, request: pb.DetokenizeRequest, context: Context
    ) -> pb.DetokenizeResponse:
        """Turns token IDs into text."""
        loaded = self._registry.resolve(request.model).loaded
        check_vocabulary(request.ids, loaded.engine.info.vocabulary_size, "ids")
        ids = list(request.ids)
        text = await off_loop(len(ids), lambda: loaded.text.decode(ids))
        return pb.DetokenizeResponse(text=text)

    @requires(Role.USER)
    async def ApplyTemplate(
        self, request: pb.ApplyTemplateRequest, context: Context
    ) -> pb.ApplyTemplateResponse:
        """Renders a conversation with the model's chat template."""
        served = self._registry.resolve(request.model)
        check_chats(served)
        opens = request.add_generation_prompt or not request.HasField("add_generation_prompt")
        messages, tools = convert.to_messages(request.messages), convert.to_tools(request.tools)
        prompt = await off_loop(
            request.ByteSize(),
            lambda: render(
                served,
                messages,
                tools,
                system_prompt=served.settings.system_prompt,
                add_generation_prompt=opens,
            ),
        )
        return pb.ApplyTemplateResponse(prompt=prompt)

    @requires(Role.USER)
    async def GetRuntimeInfo(
        self, request: pb.GetRuntimeInfoRequest, context: Context
    ) -> pb.RuntimeInfo:
        """Tells how a model is being served."""
        served = self._registry.find(request.model)
        if isinstance(served, ServedTensors):
            return _tensor_runtime(served)
        info, status = served.loaded.engine.info, served.loaded.engine.status()
        text = served.loaded.text
        return pb.RuntimeInfo(
            model=served.id,
            context_length=info.context_length,
            slot_count=info.slots,
            template_name=text.template_name,
            chat_template=text.chat_template,
            revision=served.revision,
            engine=info.name,
            device=info.device,
            dtype=info.dtype,
            vocabulary_size=info.vocabulary_size,
            bos_token=text.bos_token,
            eos_token=text.eos_token,
            fingerprint=served.fingerprint,
            running_count=status.running,
            waiting_count=status.waiting,
            completed_24h=status.completed_24h,
        )

    @requires(Role.USER)
    async def Infer(self, request: pb.InferRequest, context: Context) -> pb.InferResponse:
        """Runs a model: chat models answer text, completion models continue it, tensor models
        compute with tensors."""
        served = self._registry.find(request.model)
        caller = await calling(request, context)
        if isinstance(served, ServedTensors):
            return await _infer_tensors(request, served, caller, self._meter)
        if not request.HasField("text"):
            field = str(request.WhichOneof("input"))
            raise UnsupportedParameter(
                f"'{field}': the model `{request.model}` takes text.", field=field
            )
        sampling = convert_infer.to_text_parameters(request.parameters)
        if served.kind is ModelKind.CHAT:
            message = Message(Speaker.USER, (request.text,))
            asked = ChatRequest(request.model, (message,), sampling)
        else:
            asked = CompleteRequest(request.model, (request.text,), sampling)
        answer = await self._generator.collect(asked, caller)
        timings = answer.timings
        return pb.InferResponse(
            model=answer.started.model,
            text=answer.choices[0].text,
            latency=convert_events.duration(timings.prefill_s + timings.decode_s),
            usage=convert_events.from_usage(answer.usage),
        )

    @requires(Role.USER)
    async def GetQueueStatus(
        self, request: pb.GetQueueStatusRequest, context: Context
    ) -> queue_pb.QueueStatus:
        """Tells what waits and what runs."""
        return queue_status(self._registry, "llm", counts)


async def _infer_tensors(
    request: pb.InferRequest, served: ServedTensors, caller: Caller, meter: Meter
) -> pb.InferResponse:
    """Answers tensors with tensors, and a structure with a structure."""
    convert_infer.refuse_parameters(request.parameters)
    match request.WhichOneof("input"):
        case "tensors":
            tensors = convert_infer.to_tensor_list(request.tensors)
            return convert_infer.from_inferred(
                served.id, await tensor_inference.infer(served, tensors, caller, meter)
            )
        case "struct":
            specs = served.loaded.info.inputs
            tensors = await off_loop(
                request.ByteSize(),
                lambda: tensor_values.to_tensors(convert_infer.to_values(request.struct), specs),
            )
            inferred = await tensor_inference.infer(served, tensors, caller, meter)
            struct = await off_loop(
                sum(len(tensor.data) for tensor in inferred.tensors),
                lambda: convert_infer.from_values(tensor_values.from_tensors(inferred.tensors)),
            )
            latency = convert_events.duration(inferred.latency_s)
            return pb.InferResponse(model=served.id, struct=struct, latency=latency)
        case _:
            raise UnsupportedParameter(
                f"'text': the model `{request.model}` takes tensors.", field="text"
            )


def _tensor_runtime(served: ServedTensors) -> pb.RuntimeInfo:
    info, status = served.loaded.info, served.loaded.status()
    mean = status.mean_latency_s
    return pb.RuntimeInfo(
        model=served.id,
        slot_count=1,
        revision=served.revision,
        engine=info.name,
        device=info.device,
        dtype=info.dtype,
        fingerprint=served.fingerprint,
        running_count=status.running,
        waiting_count=status.waiting,
        inputs=convert_infer.from_specs(info.inputs),
        outputs=convert_infer.from_specs(info.outputs),
        completed_24h=status.completed_24h,
        mean_latency=None if mean is None else convert_events.duration(mean),
    )


def counts(served: AnyServed) -> Counts:
    """Returns the counts of a model at this moment."""
    loaded = served.loaded
    if isinstance(loaded, LoadedModel):
        status = loaded.engine.status()
        return Counts(
            status.running,
            status.waiting,
            status.completed_24h,
            kv_usage=status.kv_usage,
            figures=status.figures,
        )
    of_tensors = loaded.status()
    return Counts(of_tensors.running, of_tensors.waiting, of_tensors.completed_24h)
