"""Where Triton is: one channel to each endpoint, shared by all models of a process."""

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from weakref import WeakValueDictionary

import grpc

from policy.pem_files import PemFiles, Pems, TlsFileError
from policy.renewal import RenewedChannel
from services.errors import FailedPrecondition
from services.rpc.transport import MAX_MESSAGE_BYTES, channel_credentials
from services.settings_triton import TritonModelSettings, TritonSettings, repository_name
from services.tritonserver.protocol import InferenceStub, pb

_log = logging.getLogger(__name__)


class Endpoint:
    """One Triton."""

    def __init__(self, address: str, settings: TritonSettings) -> None:
        self.address = address
        self.outstanding = 0
        """Calls of models that run there."""
        self.settings = settings
        self.metadata: tuple[tuple[str, str], ...] = ()
        if settings.restricted_key:
            name = f"triton-grpc-protocol-{settings.restricted_key}"
            self.metadata += ((name, settings.restricted_value),)
        self._channel = _channel(address, settings)
        self.stub: Any = InferenceStub(self._channel)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def ready(self) -> bool:
        """Whether it takes calls. Raises `grpc.RpcError` when it does not answer."""
        answer = await self.stub.ServerReady(
            pb.ServerReadyRequest(),
            timeout=self.settings.connect_timeout_s,
            metadata=self.metadata,
        )
        return bool(answer.ready)

    async def model_ready(self, name: str) -> bool:
        """Whether a model takes calls there. Raises `grpc.RpcError` when it does not answer."""
        answer = await self.stub.ModelReady(
            pb.ModelReadyRequest(name=name),
            timeout=self.settings.connect_timeout_s,
            metadata=self.metadata,
        )
        return bool(answer.ready)

    def lock(self, name: str) -> asyncio.Lock:
        """Held by whoever loads or unloads a model of the repository there."""
        return self._locks.setdefault(name, asyncio.Lock())

    async def close(self) -> None:
        """Ends its calls."""
        await self._channel.close()


class Triton:
    """All endpoints. Its channels are opened when they are first needed, on the event loop."""

    def __init__(self, settings: TritonSettings) -> None:
        self.settings = settings
        self.users: Counter[str] = Counter()
        """How many models of this process use a model of the repository."""
        self._endpoints: list[Endpoint] | None = None

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        """Each Triton.

        Raises:
            FailedPrecondition: the settings name none, or certificates that can't be read.
        """
        if self._endpoints is None:
            addresses = list(dict.fromkeys(self.settings.endpoints))
            if not addresses:
                raise FailedPrecondition("[triton] endpoints names no Triton: add its host:port.")
            try:
                self._endpoints = [Endpoint(address, self.settings) for address in addresses]
            except TlsFileError as error:
                _log.error("[triton]: %s", error)
                raise FailedPrecondition(
                    "A certificate or key of [triton] can't be read: the server's log says which."
                ) from error
        return self._endpoints

    def hosted(self, model: str) -> TritonModelSettings:
        """How the settings want a model to be run, by its public ID; with its name in Triton."""
        found = self.settings.models.get(model, TritonModelSettings())
        return found if found.name else replace(found, name=repository_name(model))

    async def close(self) -> None:
        """Closes all channels."""
        for endpoint in self._endpoints or ():
            await endpoint.close()
        self._endpoints = None


def _channel(address: str, settings: TritonSettings) -> grpc.aio.Channel | RenewedChannel:
    # No keepalive: Triton hangs up on callers that ping more often than every five minutes. What
    # keeps an eye on the endpoint asks it whether it is ready.
    options: list[tuple[str, str | int]] = [
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.http2.bdp_probe", 0),
        # An endpoint that comes back is found at once, not after grpc's two minutes.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
        # Two of a process never share a connection unseen: each has channels of its own.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if not (settings.tls or settings.ca or settings.certificate):
        return grpc.aio.insecure_channel(address, options=options)
    if settings.server_name:
        options.append(("grpc.ssl_target_name_override", settings.server_name))

    def opened(pems: Pems) -> grpc.aio.Channel:
        return grpc.aio.secure_channel(address, channel_credentials(pems), options=options)

    files = PemFiles(certificate=settings.certificate, key=settings.certificate_key, ca=settings.ca)
    return RenewedChannel(opened, files)
