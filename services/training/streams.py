"""Reads the stream of an upload, and writes that of a download."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

from google.api.httpbody_pb2 import HttpBody
from penstock.training.v1 import training_service_pb2 as pb

from services.errors import DeadlineExceeded, InvalidArgument, SlowReader
from services.rpc.validation import validate
from services.training.callers import Context
from services.training.convert import to_new_file
from services.training.receiving import NewFile

_DISCARD_S = 5.0
_DISCARD_IDLE_S = 0.25
_SETTLE_S = 0.02
_CONTENT_TYPE = "application/octet-stream"
"""Also of files that a browser would run."""


class Upload:
    """The pieces of an upload as they come."""

    def __init__(self, received: AsyncIterator[pb.UploadFileRequest], *, idle_s: float) -> None:
        self._received = received
        self._idle_s = idle_s

    async def header(self) -> NewFile:
        """Reads the first piece."""
        request = await self._next()
        if request is None or not request.HasField("header"):
            if request is not None:
                validate(request)
            raise InvalidArgument(
                "'header': must come first: it says what the file is.", field="header"
            )
        validate(request)
        return to_new_file(request.header)

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Reads the content, to its end."""
        while (request := await self._next()) is not None:
            validate(request)
            if request.HasField("header"):
                raise InvalidArgument("'header': comes once, before the content.", field="header")
            yield request.chunk

    async def discard(self) -> None:
        """Throws away what is being sent, until that ends or pauses, or takes long: gRPC's client
        for asyncio takes a piece that it can't send for the cause, and never tells the real one."""
        try:
            async with asyncio.timeout(_DISCARD_S):
                while True:
                    async with asyncio.timeout(_DISCARD_IDLE_S):
                        await anext(self._received)
        except (TimeoutError, StopAsyncIteration):
            pass

    async def _next(self) -> pb.UploadFileRequest | None:
        """Returns the next piece; None at the end."""
        try:
            async with asyncio.timeout(self._idle_s):
                return await anext(self._received)
        except StopAsyncIteration:
            # A caller who left ends its stream like one who has sent everything, and only then this
            # task is cancelled.
            await asyncio.sleep(_SETTLE_S)
            return None
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"Nothing of the file came for {self._idle_s:g} s. Send it again."
            ) from error


async def write_pieces(
    pieces: AsyncGenerator[bytes, None], context: Context, *, slow_s: float
) -> None:
    """Sends a file, one piece at a time. Raises `SlowReader` where nobody reads them.

    At least one message goes out, which tells that all is well so far.
    """
    first = True
    async for piece in pieces:
        await _write(
            HttpBody(content_type=_CONTENT_TYPE if first else "", data=piece), context, slow_s
        )
        first = False
    if first:
        await _write(HttpBody(content_type=_CONTENT_TYPE), context, slow_s)


async def _write(message: HttpBody, context: Context, slow_s: float) -> None:
    try:
        async with asyncio.timeout(slow_s):
            await context.write(message)
    except TimeoutError as error:
        # The status waits behind the piece. Where the reader never comes back, the call is dropped.
        if (call := asyncio.current_task()) is not None:
            asyncio.get_running_loop().call_later(slow_s, call.cancel)
        raise SlowReader(
            f"The file was not read for {slow_s:g} s, so its download was ended. Go on with "
            "offset_bytes."
        ) from error
