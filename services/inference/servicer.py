"""InferenceService over gRPC: translates, and leaves the deciding to the domain."""
# ruff: noqa: N802 - methods bear the names of their RPCs

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from penstock.inference.v1 import event_pb2 as event_pb
from penstock.inference.v1 import inference_service_pb2 as pb
from penstock.inference.v1 import queue_pb2 as queue_pb
from penstock.inference.v1 import sampling_pb2 as sampling_pb
from penstock.inference.v1.inference_service_pb2_grpc import InferenceServiceServicer

from services.errors import InvalidArgument, UnsupportedParameter
from services.inference import convert, convert_events
from services.inference.callers import caller_of
from services.inference.conversation import check_chats, render
from services.inference.generation import Generator, off_loop
from services.inference.registry import Registry, ServedModel
from services.inference.requests import Caller, ChatRequest, CompleteRequest, Message, Speaker
from services.inference.validation import check_vocabulary
from services.rpc.access import Role, principal, request_id, requires
from services.rpc.validation import validate
from services.serving.models import ModelKind
from services.serving.queues import Counts, queue_status

Context = Any
"""A `grpc.aio.ServicerContext`; its type parameters say nothing here."""


class InferenceServicer(InferenceServiceServicer):
    """Serves the models of a registry."""

    def __init__(self, generator: Generator, registry: Registry) -> None:
        self._generator = generator
        self._registry = registry

    @requires(Role.USER)
    async def Chat(self, request: pb.ChatRequest, context: Context) -> pb.ChatResponse:
        """Answers a conversation."""
        asked = convert.to_chat_request(request)
        return convert_events.from_chat_answer(
            await self._generator.collect(asked, _caller(context))
        )

    @requires(Role.USER)
    async def StreamChat(
        self, request: pb.ChatRequest, context: Context
    ) -> AsyncGenerator[event_pb.ChatEvent, None]:
        """Answers a conversation as it is generated."""
        asked = convert.to_chat_request(request)
        async with aclosing(self._generator.stream(asked, _caller(context))) as events:
            async for event in events:
                yield convert_events.from_chat_event(event)

    @requires(Role.USER)
    async def Complete(self, request: pb.CompleteRequest, context: Context) -> pb.CompleteResponse:
        """Continues texts."""
        asked = convert.to_complete_request(request)
        return convert_events.from_complete_answer(
            await self._generator.collect(asked, _caller(context))
        )

    @requires(Role.USER)
    async def StreamComplete(
        self, request: pb.CompleteRequest, context: Context
    ) -> AsyncGenerator[event_pb.CompleteEvent, None]:
        """Continues texts as they are generated."""
        asked = convert.to_complete_request(request)
        async with aclosing(self._generator.stream(asked, _caller(context))) as events:
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
            lambda: render(served, messages, tools, add_generation_prompt=opens),
        )
        return pb.ApplyTemplateResponse(prompt=prompt)

    @requires(Role.USER)
    async def GetRuntimeInfo(
        self, request: pb.GetRuntimeInfoRequest, context: Context
    ) -> pb.RuntimeInfo:
        """Tells how a model is being served."""
        served = self._registry.resolve(request.model)
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
        )

    @requires(Role.USER)
    async def Infer(self, request: pb.InferRequest, context: Context) -> pb.InferResponse:
        """Runs a model on text: chat models answer it, completion models continue it."""
        served = self._registry.resolve(request.model)
        if not request.HasField("text"):
            field = str(request.WhichOneof("input"))
            raise UnsupportedParameter(
                f"'{field}': the model `{request.model}` takes text.", field=field
            )
        sampling = convert.to_sampling(_parameters(request))
        if served.kind is ModelKind.CHAT:
            message = Message(Speaker.USER, (request.text,))
            asked = ChatRequest(request.model, (message,), sampling)
        else:
            asked = CompleteRequest(request.model, (request.text,), sampling)
        answer = await self._generator.collect(asked, _caller(context))
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
        return queue_status(self._registry, "llm", _counts)


def _caller(context: Context) -> Caller:
    remaining: float | None = context.time_remaining()
    return caller_of(principal(), request_id(), remaining)


def _parameters(request: pb.InferRequest) -> sampling_pb.Sampling:
    """Reads `parameters` as sampling fields."""
    given = MessageToDict(request.parameters)
    for name in given:
        if name not in sampling_pb.Sampling.DESCRIPTOR.fields_by_name:
            field = f"parameters.{name}"
            raise InvalidArgument(f"'{field}': there is no such parameter.", field=field)
    sampling = sampling_pb.Sampling()
    for name, value in given.items():
        try:
            ParseDict({name: value}, sampling)
        except ParseError:
            field = f"parameters.{name}"
            raise InvalidArgument(f"'{field}': has the wrong type.", field=field) from None
    if sampling.n > 1:
        raise InvalidArgument("'parameters.n': one inference has one answer.", field="parameters.n")
    try:
        validate(sampling)
    except InvalidArgument as error:
        raise InvalidArgument(error.message, field=f"parameters.{error.field}") from None
    return sampling


def _counts(served: ServedModel) -> Counts:
    status = served.loaded.engine.status()
    return Counts(status.running, status.waiting, status.completed_24h)
