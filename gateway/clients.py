"""Channels to the services: options, deadlines, retries and errors, set once."""

import asyncio
from collections.abc import Awaitable
from importlib import resources
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import grpc
from grpc_health.v1 import health_pb2
from penstock.access.v1 import key_service_pb2_grpc
from penstock.embedding.v1 import embedding_service_pb2_grpc
from penstock.image.v1 import image_service_pb2_grpc
from penstock.inference.v1 import inference_service_pb2_grpc, response_service_pb2_grpc
from penstock.model.v1 import model_service_pb2_grpc
from penstock.retrieval.v1 import retrieval_service_pb2_grpc
from penstock.training.internal.v1 import batch_work_service_pb2_grpc
from penstock.training.v1 import batch_service_pb2_grpc, training_service_pb2_grpc

from gateway.context import RequestContext
from gateway.errors import ClientGoneError, ProblemError, from_rpc_error, in_time
from gateway.rate_limits import tokens_told
from gateway.settings import Settings, TlsSettings
from gateway.steps import StepClient
from policy.cancelling import heed_cancellation
from policy.pem_files import PemFiles, Pems
from policy.renewal import RenewedChannel

_MAX_MESSAGE_BYTES = 65 * 1024 * 1024
_CATALOGUE_S = 10.0

_OPTIONS: list[tuple[str, str | int]] = [
    ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # Without these, a reader that stops reading lets a million tokens pile up in flight.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 64 * 1024),
    ("grpc.initial_reconnect_backoff_ms", 100),
    # How long one attempt may take: a busy machine needs more than a moment to shake hands.
    ("grpc.min_reconnect_backoff_ms", 5_000),
    # Calls fail at once while a channel waits to try again: that wait has to be short.
    ("grpc.max_reconnect_backoff_ms", 250),
    # Else a new channel begins with the failures of others that had the address.
    ("grpc.use_local_subchannel_pool", 1),
    # Reads alone are tried again: nothing is computed or changed twice behind the caller's back.
    (
        "grpc.service_config",
        resources.files("penstock").joinpath("service_config.json").read_text(),
    ),
]

Request = TypeVar("Request", contravariant=True)
Response = TypeVar("Response", covariant=True)
Answer = TypeVar("Answer")


class Method(Protocol[Request, Response]):
    """An RPC of a stub with one answer. What it takes may be a stream."""

    def __call__(
        self,
        request: Request,
        /,
        *,
        timeout: float | None = None,
        metadata: Any = None,
    ) -> "Call[Response]":
        """Starts the call."""
        ...


class Call(Awaitable[Response], Protocol[Response]):
    """A unary RPC that runs."""

    def cancel(self) -> bool:
        """Ends it."""
        ...

    async def trailing_metadata(self) -> Any:
        """What came behind the answer."""
        ...


HealthCheck = Method[health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse]
"""Asks a service whether it serves."""


class Clients:
    """The stubs of all services, and the step stream to the inference service."""

    def __init__(self, settings: Settings) -> None:
        self._channels = {
            name: _channel(address, settings.tls) for name, address in settings.addresses.items()
        }
        own: dict[str, str] = {}
        if settings.service_token:
            own["authorization"] = f"Bearer {settings.service_token}"
        inference = self._channels["inference"]
        self.models = model_service_pb2_grpc.ModelServiceStub(self._channels["model"])
        self.keys = key_service_pb2_grpc.KeyServiceStub(self._channels["model"])
        self.inference = inference_service_pb2_grpc.InferenceServiceStub(inference)
        self.responses = response_service_pb2_grpc.ResponseServiceStub(inference)
        self.embedding = embedding_service_pb2_grpc.EmbeddingServiceStub(
            self._channels["embedding"]
        )
        self.images = image_service_pb2_grpc.ImageServiceStub(self._channels["image"])
        self.retrieval = retrieval_service_pb2_grpc.RetrievalServiceStub(
            self._channels["retrieval"]
        )
        training = self._channels["training"]
        self.training = training_service_pb2_grpc.TrainingServiceStub(training)
        self.batches = batch_service_pb2_grpc.BatchServiceStub(training)
        self.batch_work = batch_work_service_pb2_grpc.BatchWorkServiceStub(training)
        self.health = {name: _health(channel) for name, channel in self._channels.items()}
        self.steps = StepClient(inference, own, settings.addresses["inference"])

    async def start(self) -> None:
        """Connects."""
        self.steps.start()

    async def close(self) -> None:
        """Fails what runs and closes every channel."""
        await self.steps.close()
        await asyncio.gather(*(channel.close() for channel in self._channels.values()))


async def ask(
    method: Method[Request, Answer],
    request: Request,
    context: RequestContext,
    *,
    timeout_s: float = _CATALOGUE_S,
    gone: "asyncio.Future[None] | None" = None,
) -> Answer:
    """Makes a unary call on behalf of a caller; it is cancelled when the caller leaves.

    Raises:
        ProblemError: the call failed.
        ClientGoneError: `gone` was done before the call.
    """
    metadata = grpc.aio.Metadata(*context.metadata().items())  # else grpc.aio makes one, slowly
    timeout_s = context.within(timeout_s)
    call = method(request, timeout=timeout_s, metadata=metadata)

    def leave(_: object) -> None:
        call.cancel()

    if gone is not None:
        gone.add_done_callback(leave)
    try:
        answer = await call
        context.note_tokens(tokens_told(await call.trailing_metadata()))
        return answer
    except grpc.aio.AioRpcError as error:
        heed_cancellation()
        context.note_tokens(tokens_told(error.trailing_metadata()))
        raise ProblemError(in_time(from_rpc_error(error), timeout_s)) from None
    except asyncio.CancelledError:
        if gone is not None and gone.done():
            heed_cancellation()
            raise ClientGoneError from None
        raise
    finally:
        if gone is not None:
            gone.remove_done_callback(leave)


def _health(channel: grpc.aio.Channel) -> HealthCheck:
    return channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )


def _channel(address: str, tls: TlsSettings) -> grpc.aio.Channel:
    if not tls.certificate:
        return grpc.aio.insecure_channel(address, options=_OPTIONS)

    def opened(pems: Pems) -> grpc.aio.Channel:
        own = pems.certificate if pems.key is not None else None
        credentials = grpc.ssl_channel_credentials(pems.ca, pems.key, own)
        return grpc.aio.secure_channel(address, credentials, options=_OPTIONS)

    # It does what a channel does.
    return cast("grpc.aio.Channel", RenewedChannel(opened, _files(tls)))


def _files(tls: TlsSettings) -> PemFiles:
    """Services show certificates of one authority; without one, they show this very file."""
    if not tls.client_ca:
        return PemFiles(ca=Path(tls.certificate))
    return PemFiles(certificate=Path(tls.certificate), key=Path(tls.key), ca=Path(tls.client_ca))
