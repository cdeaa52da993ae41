"""Channels that are opened anew when certificates change; nothing that runs is lost by it."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from policy.pem_files import PemFiles, Pems

_LOOK_S = 1.0
_LONGEST_CALL_S = 24 * 3600.0


class RenewedChannel:
    """Does what a `grpc.aio.Channel` does, over one that shows the certificates of now.

    Calls that run when certificates change go on over the connection that they began on.
    """

    def __init__(self, opened: Callable[[Pems], Any], files: PemFiles) -> None:
        """Takes what opens a channel with certificates. Raises `TlsFileError`."""
        self._open = opened
        self._files = files
        self._inner = opened(files.read())
        self._look_at = time.monotonic() + _LOOK_S
        self._leaving: set[asyncio.Task[None]] = set()

    def present(self) -> Any:
        """Returns the channel of now."""
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + _LOOK_S
            news = self._files.news()
            if news is not None:
                old, self._inner = self._inner, self._open(news)
                task = asyncio.ensure_future(old.close(_LONGEST_CALL_S))
                self._leaving.add(task)
                task.add_done_callback(self._leaving.discard)
        return self._inner

    def unary_unary(self, *args: Any, **kwargs: Any) -> Any:
        """As `grpc.aio.Channel`."""
        return _Method(self, "unary_unary", args, kwargs)

    def unary_stream(self, *args: Any, **kwargs: Any) -> Any:
        """As `grpc.aio.Channel`."""
        return _Method(self, "unary_stream", args, kwargs)

    def stream_unary(self, *args: Any, **kwargs: Any) -> Any:
        """As `grpc.aio.Channel`."""
        return _Method(self, "stream_unary", args, kwargs)

    def stream_stream(self, *args: Any, **kwargs: Any) -> Any:
        """As `grpc.aio.Channel`."""
        return _Method(self, "stream_stream", args, kwargs)

    async def close(self, grace: float | None = None) -> None:
        """Ends calls, after the grace, and all connections."""
        for task in self._leaving:
            task.cancel()
        await asyncio.gather(*self._leaving, return_exceptions=True)
        await self._inner.close(grace)

    def get_state(self, try_to_connect: bool = False) -> Any:
        """As `grpc.aio.Channel`."""
        return self._inner.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: Any) -> None:
        """As `grpc.aio.Channel`."""
        await self._inner.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """As `grpc.aio.Channel`."""
        await self._inner.channel_ready()

    async def __aenter__(self) -> "RenewedChannel":
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class _Method:
    """A method of the channel of now."""

    def __init__(
        self, channel: RenewedChannel, kind: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self._channel = channel
        self._made_by = (kind, args, kwargs)
        self._of: Any = None
        self._callable: Any = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        channel = self._channel.present()
        if channel is not self._of:
            kind, made_args, made_kwargs = self._made_by
            self._of, self._callable = channel, getattr(channel, kind)(*made_args, **made_kwargs)
        return self._callable(*args, **kwargs)
