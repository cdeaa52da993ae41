"""Calls of models on one endpoint: with one answer, or a stream of them."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import grpc

from services.errors import DeadlineExceeded
from services.rpc.call import current
from services.tritonserver.endpoints import Endpoint
from services.tritonserver.failures import status_error, told, translate
from services.tritonserver.protocol import InferRequest, InferResponse
from telemetry.tracing import headers

Parameter = bool | int | float | str


@dataclass(frozen=True, slots=True)
class CallOptions:
    """What goes with a call beside its tensors."""

    request_id: str = ""
    """Triton's `id` of the request; logs and python models see it."""
    deadline: float | None = None
    """On the event loop's clock. Goes as the call's deadline, and as the parameter `timeout`, which
    bounds the wait in Triton's queue and which python models see."""
    priority: int = 0
    """1 is the highest; 0 leaves it to the model. Counts where its queue has that many levels."""
    affinity: bytes = b""
    """Calls with the same go to the same endpoint, if there is no reason not to."""
    trace: Mapping[str, str] = field(default_factory=dict[str, str])
    """Headers that continue the request's trace (W3C trace context)."""
    parameters: Mapping[str, Parameter] = field(default_factory=dict[str, Parameter])
    """More parameters of the request."""

    def with_affinity(self, affinity: bytes) -> "CallOptions":
        """These, for an endpoint that had the same."""
        return replace(self, affinity=affinity)

    def of_this_call(self) -> "CallOptions":
        """These, with request ID and trace of the call that is being served."""
        call = current()
        request_id = self.request_id or ("" if call is None else call.request_id)
        return replace(self, request_id=request_id, trace=self.trace or headers())


async def infer(endpoint: Endpoint, request: InferRequest, options: CallOptions) -> InferResponse:
    """Calls a model that gives one answer.

    Raises:
        DomainError: see `failures`.
    """
    timeout = _prepare(request, options)
    try:
        return await endpoint.stub.ModelInfer(
            request, timeout=timeout, metadata=_metadata(endpoint, options)
        )
    except grpc.RpcError as error:
        raise translate(error, request.model_name) from error


async def stream(
    endpoint: Endpoint, request: InferRequest, options: CallOptions
) -> AsyncGenerator[InferResponse, None]:
    """Calls a model that gives any number of answers. Closing this cancels the call.

    Raises:
        DomainError: see `failures`.
    """
    timeout = _prepare(request, options)
    call: Any = endpoint.stub.ModelStreamInfer(
        timeout=timeout, metadata=_metadata(endpoint, options)
    )
    failure: grpc.aio.AioRpcError | None = None
    try:
        await call.write(request)
        await call.done_writing()
        while (answer := await call.read()) is not grpc.aio.EOF:
            if answer.error_message:
                failure = failure or told(answer.error_message)  # the stream ends by itself
            elif answer.infer_response.outputs and failure is None:
                yield answer.infer_response
        if failure is not None:
            raise failure
        if (code := await call.code()) is not grpc.StatusCode.OK:
            raise status_error(code, await call.details() or "")
    except grpc.RpcError as error:
        raise translate(error, request.model_name) from error
    except asyncio.InvalidStateError as error:  # the stream ended before all was written
        ended = status_error(await call.code(), await call.details() or "")
        raise translate(ended, request.model_name) from error
    finally:
        call.cancel()  # leaving the stream alone does not


def _prepare(request: InferRequest, options: CallOptions) -> float | None:
    """Writes the options into the request; returns the seconds that are left."""
    request.id = options.request_id
    for name, value in options.parameters.items():
        _set(request.parameters[name], value)
    if options.priority:
        request.parameters["priority"].int64_param = options.priority
    if options.deadline is None:
        return None
    left = options.deadline - asyncio.get_running_loop().time()
    if left <= 0:
        raise DeadlineExceeded("The deadline passed before the answer was complete.")
    request.parameters["timeout"].int64_param = max(1, int(left * 1e6))
    return left


def _set(parameter: Any, value: Parameter) -> None:
    match value:
        case bool():
            parameter.bool_param = value
        case int():
            parameter.int64_param = value
        case float():
            parameter.double_param = value
        case str():
            parameter.string_param = value


def _metadata(endpoint: Endpoint, options: CallOptions) -> tuple[tuple[str, str], ...]:
    own = (("x-request-id", options.request_id),) if options.request_id else ()
    return (*endpoint.metadata, *own, *options.trace.items())
