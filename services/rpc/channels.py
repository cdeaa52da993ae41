"""Channels for calls from one service to another.

Stubs over such a channel need no care: each call carries the service's token, the request ID and
trace of the call that it serves, and a deadline.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from policy.pem_files import PemFiles, Pems
from policy.renewal import RenewedChannel
from policy.vouchers import KEY as COUNTED_KEY
from policy.vouchers import Vouchers
from services.rpc.call import current
from services.rpc.metadata import DIALECT_KEY, NO_DIALECT
from services.rpc.service_config import service_config
from services.rpc.transport import MAX_MESSAGE_BYTES, channel_credentials, channel_options
from telemetry.tracing import TRACEPARENT, headers

DEFAULT_DEADLINE_S = 30.0
"""Deadline of calls with one response that name none. Streams run until they end; give them one
where there is one."""

_Pairs = tuple[tuple[str, str | bytes], ...]


@dataclass(frozen=True)
class ClientTls:
    """Files (PEM) to check servers with, and to prove who calls."""

    ca: Path | None = None
    """Authorities that servers are checked against. None: the system's."""
    certificate: Path | None = None
    """The caller's own certificate, for mutual TLS."""
    key: Path | None = None
    """Its private key."""
    server_name: str | None = None
    """Name to expect in the server's certificate. None: the host that is called."""


def channel(
    address: str,
    *,
    tls: ClientTls | None = None,
    token: str = "",
    vouchers: Vouchers | None = None,
    idempotent: Sequence[str] = (),
    deadline_s: float = DEFAULT_DEADLINE_S,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
) -> grpc.aio.Channel:
    """Opens a channel to a service.

    `token` goes with calls that bring no `authorization` of their own. `vouchers` are for channels
    whose calls go out under the credential of whoever calls: what was counted here is not counted
    again there. What reads only is repeated on UNAVAILABLE, as the service config of the protos
    says; `idempotent` names more methods to repeat (`package.Service/Method`, or `package.Service`
    for all of a service).
    """
    options = channel_options(max_message_bytes)
    options.append(("grpc.service_config", service_config(idempotent)))
    if tls is None:
        inner = grpc.aio.insecure_channel(address, options=options)
    else:
        if tls.server_name is not None:
            options.append(("grpc.ssl_target_name_override", tls.server_name))

        def opened(pems: Pems) -> grpc.aio.Channel:
            return grpc.aio.secure_channel(address, channel_credentials(pems), options=options)

        files = PemFiles(certificate=tls.certificate, key=tls.key, ca=tls.ca)
        inner = RenewedChannel(opened, files)
    return _ServiceChannel(inner, token, deadline_s, vouchers)


if TYPE_CHECKING:
    _MultiCallable = grpc.aio.UnaryUnaryMultiCallable[Any, Any]
else:  # generic for type checkers only
    _MultiCallable = object


class _Call(_MultiCallable):
    """One method, called with what every call carries. Stands for all four kinds."""

    def __init__(
        self,
        inner: Any,
        authorization: str,
        deadline_s: float | None,
        vouchers: Vouchers | None,
    ) -> None:
        self._inner = inner
        self._authorization = authorization
        self._deadline_s = deadline_s
        self._vouchers = vouchers

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        kwargs["metadata"] = self._metadata(tuple(kwargs.get("metadata") or ()))
        if kwargs.get("timeout") is None:
            kwargs["timeout"] = self._deadline_s
        return self._inner(*args, **kwargs)

    def _metadata(self, own: _Pairs) -> _Pairs:
        given = {key for key, _ in own}
        more: list[tuple[str, str | bytes]] = []
        if self._authorization and "authorization" not in given:
            more.append(("authorization", self._authorization))
        call = current()
        if call is not None:
            if "x-request-id" not in given:
                more.append(("x-request-id", call.request_id))
            if TRACEPARENT not in given:
                more += headers(call.trace).items()
            if self._vouchers is not None and call.principal is not None:
                voucher = self._vouchers.make(call.request_id, call.principal.id)
                more += [(COUNTED_KEY, voucher)] if voucher else []
            if call.dialect != NO_DIALECT and DIALECT_KEY not in given:
                more.append((DIALECT_KEY, call.dialect))
        return (*own, *more)


class _ServiceChannel(grpc.aio.Channel):
    """A channel whose calls carry a token, a request ID, a trace and a deadline.

    Not grpc's client interceptors: those add a task to every call.
    """

    def __init__(
        self,
        inner: grpc.aio.Channel | RenewedChannel,
        token: str,
        deadline_s: float,
        vouchers: Vouchers | None = None,
    ) -> None:
        self._inner: Any = inner
        self._vouchers = vouchers
        self._authorization = f"Bearer {token}" if token else ""
        self._deadline_s = deadline_s

    def unary_unary(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(self._inner.unary_unary(*args, **kwargs), self._deadline_s)

    def unary_stream(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(self._inner.unary_stream(*args, **kwargs), None)

    def stream_unary(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(self._inner.stream_unary(*args, **kwargs), self._deadline_s)

    def stream_stream(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(self._inner.stream_stream(*args, **kwargs), None)

    def _call(self, inner: Any, deadline_s: float | None) -> Any:
        return _Call(inner, self._authorization, deadline_s, self._vouchers)

    async def close(self, grace: float | None = None) -> None:
        await self._inner.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._inner.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._inner.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._inner.channel_ready()

    async def __aenter__(self) -> "_ServiceChannel":
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *exc: Any) -> None:
        await self._inner.__aexit__(*exc)
