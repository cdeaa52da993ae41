"""Raw inference for every dialect: what a model is, and tensor models asked with JSON."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from google.protobuf.struct_pb2 import Struct
from penstock.inference.v1 import inference_service_pb2 as inference_pb2
from penstock.model.v1 import model_pb2
from penstock.model.v1 import model_service_pb2 as model_service
from starlette.types import Receive

from gateway.calls import ask_while_there
from gateway.clients import Clients, ask
from gateway.context import RequestContext
from gateway.errors import Problem, ProblemError
from gateway.settings import Settings
from gateway.tensors import to_tensors

_MODELS = "models/"
_OFF_LOOP_BYTES = 64 * 1024
"""Tensors larger than this are read and written on another thread."""
_SHOWN = 64

T = TypeVar("T")

KIND_WORDS = {
    model_pb2.MODEL_KIND_CHAT: "chat",
    model_pb2.MODEL_KIND_COMPLETION: "completion",
    model_pb2.MODEL_KIND_EMBEDDING: "embedding",
    model_pb2.MODEL_KIND_IMAGE: "image",
    model_pb2.MODEL_KIND_RERANK: "rerank",
    model_pb2.MODEL_KIND_TENSOR: "tensor",
}
"""What models do, in words."""


class Inferences:
    """The catalogue and the inference service, as raw inference uses them."""

    def __init__(self, settings: Settings, clients: Clients) -> None:
        self._settings = settings
        self._clients = clients

    async def model(self, model_id: str, context: RequestContext, field: str) -> model_pb2.Model:
        """Gets the model that a field of a request names, by ID or alias.

        Raises:
            ProblemError: there is none, or the catalogue does not answer.
        """
        request = model_service.GetModelRequest(name=f"{_MODELS}{model_id}")
        try:
            return await ask(self._clients.models.GetModel, request, context)
        except ProblemError as error:
            problem = error.problem
            malformed = problem.reason == "INVALID_ARGUMENT" and problem.param == "name"
            if problem.reason not in ("MODEL_NOT_FOUND", "NOT_FOUND") and not malformed:
                raise
            message = f"The model `{model_id[:_SHOWN]}` does not exist."
            raise ProblemError(
                replace(problem, reason="MODEL_NOT_FOUND", message=message, param=field, code=None)
            ) from None

    async def runtime(self, model_id: str, context: RequestContext) -> inference_pb2.RuntimeInfo:
        """Tells how a text or tensor model is served.

        Raises:
            ProblemError: it isn't.
        """
        request = inference_pb2.GetRuntimeInfoRequest(model=model_id)
        return await ask(self._clients.inference.GetRuntimeInfo, request, context)

    async def infer(
        self, request: inference_pb2.InferRequest, context: RequestContext, receive: Receive
    ) -> inference_pb2.InferResponse:
        """Runs a text or tensor model once.

        Raises:
            ProblemError: it failed.
            ClientGoneError: the client left.
        """
        timeout_s = self._settings.request_timeout_s
        stub = self._clients.inference
        return await ask_while_there(stub.Infer, request, context, receive, timeout_s)

    async def infer_arrays(
        self,
        model_id: str,
        data: bytes,
        context: RequestContext,
        receive: Receive,
        *,
        batched: bool = False,
        parameters: Struct | None = None,
    ) -> inference_pb2.InferResponse:
        """Runs a tensor model on arrays in JSON, which stand in the request's `input`.

        Raises:
            ProblemError: the arrays are not what the model takes, or it failed.
            ClientGoneError: the client left.
        """
        info = await self.runtime(model_id, context)
        tensors = await off_loop(
            len(data), lambda: to_tensors(data, info.inputs, "input", batched=batched)
        )
        request = inference_pb2.InferRequest(model=model_id, tensors=tensors, parameters=parameters)
        try:
            return await self.infer(request, context, receive)
        except ProblemError as error:
            raise ProblemError(_spelled(error.problem)) from None


async def off_loop(size: int, work: Callable[[], T]) -> T:
    """Runs work on tensors of that many bytes, on another thread when they are large."""
    return work() if size <= _OFF_LOOP_BYTES else await asyncio.to_thread(work)


def _spelled(problem: Problem) -> Problem:
    """Tensors have their places in a list that the caller never saw."""
    if problem.param is None or not problem.param.startswith("tensors"):
        return problem
    message = problem.message.replace(f"'{problem.param}'", "'input'")
    return replace(problem, param="input", message=message)
