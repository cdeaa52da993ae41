"""`GET /metrics` for Prometheus, on an address of its own.

Answered on the event loop, where what is looked up belongs: that takes a few milliseconds every
quarter of a minute, and no token waits for longer.
"""

import asyncio
import contextlib
import logging
from email.parser import BytesParser

from prometheus_client.exposition import choose_encoder

from telemetry.registry import REGISTRY

_MOST_HEAD_BYTES = 16 * 1024
_HEAD_S = 5.0
_SEND_S = 10.0
_logger = logging.getLogger(__name__)


class Exposition:
    """Tells what the registry holds to whoever asks."""

    def __init__(self) -> None:
        self._server: asyncio.Server | None = None
        self.address = ""
        """Where, with the real port; empty until `start`."""

    async def start(self, host: str, port: int) -> None:
        """Listens. Raises `OSError`."""
        self._server = await asyncio.start_server(self._answer, host, port, limit=_MOST_HEAD_BYTES)
        name, number = self._server.sockets[0].getsockname()[:2]
        self.address = f"[{name}]:{number}" if ":" in name else f"{name}:{number}"

    async def close(self) -> None:
        """Stops listening."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_HEAD_S):
                head = await reader.readuntil(b"\r\n\r\n")
            async with asyncio.timeout(_SEND_S):
                writer.write(_response(head))
                await writer.drain()
        except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError):
            pass  # whoever asked is gone, or speaks no HTTP
        except Exception:
            _logger.exception("metrics can't be told")
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def _response(head: bytes) -> bytes:
    request, _, rest = head.partition(b"\r\n")
    method, _, target = request.partition(b" ")
    path = target.partition(b" ")[0].partition(b"?")[0]
    if path != b"/metrics":
        return _message(b"404 Not Found", b"text/plain", b"Metrics are at /metrics.\n")
    if method not in (b"GET", b"HEAD"):
        return _message(b"405 Method Not Allowed", b"text/plain", b"Ask with GET.\n")
    headers = BytesParser().parsebytes(rest, headersonly=True)
    # What is no ASCII comes as an object.
    encode, content_type = choose_encoder(str(headers.get("accept", "")))
    body = encode(REGISTRY)
    message = _message(b"200 OK", content_type.encode("latin-1"), body)
    return message if method == b"GET" else message[: -len(body)]


def _message(status: bytes, content_type: bytes, body: bytes) -> bytes:
    return (
        b"HTTP/1.1 %b\r\ncontent-type: %b\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
        % (
            *(status, content_type, len(body)),
            body,
        )
    )
