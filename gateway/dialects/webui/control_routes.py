"""What surrounds drawing: options, progress, interrupting, and reading images' own words."""

import binascii
import time
from typing import Any

import msgspec
from penstock.image.v1 import image_service_pb2 as service_pb2
from penstock.image.v1 import progress_pb2
from starlette.types import Receive, Scope, Send

from gateway.answers import send_json
from gateway.bodies import read_body
from gateway.clients import Clients, ask
from gateway.context import context_of
from gateway.dialects.webui import answer_schema as answers
from gateway.dialects.webui import schema
from gateway.dialects.webui.listings import checkpoints_of
from gateway.dialects.webui.option_schema import OptionValues
from gateway.dialects.webui.options import options_answer, to_set_options, wishes_of
from gateway.dialects.webui.spelling import option_spelling
from gateway.errors import Problem, ProblemError, invalid
from gateway.pictures import picture_bytes
from gateway.queries import QueryDecoder
from gateway.settings import Settings
from gateway.validation import decode

_YES = frozenset({"true", "1", "yes", "on", "y", "t"})
_NO = frozenset({"false", "0", "no", "off", "n", "f"})
_UNDERWAY = frozenset(
    {
        progress_pb2.Progress.STATE_QUEUED,
        progress_pb2.Progress.STATE_RUNNING,
        progress_pb2.Progress.STATE_INTERRUPTING,
    }
)
_NEVER = "0"
_READ_S = 60.0


class Options:
    """`GET` and `POST /sdapi/v1/options`."""

    def __init__(self, settings: Settings, clients: Clients) -> None:
        self._limit = settings.max_body_bytes
        self._clients = clients
        self._decoder = msgspec.json.Decoder(dict[str, Any])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        if scope["method"] == "POST":
            data = await read_body(scope, receive, self._limit)
            await self._change(scope, decode(self._decoder, data))
            await send_json(send, b"null")
            return
        await send_json(send, msgspec.json.encode(await self._tell(scope)))

    async def _tell(self, scope: Scope) -> OptionValues:
        context = context_of(scope)
        now = await ask(self._clients.images.GetOptions, service_pb2.GetOptionsRequest(), context)
        return options_answer(now, await checkpoints_of(self._clients, context))

    async def _change(self, scope: Scope, values: dict[str, Any]) -> None:
        context = context_of(scope)
        wishes = wishes_of(values)
        now = await ask(self._clients.images.GetOptions, service_pb2.GetOptionsRequest(), context)
        checkpoints = await checkpoints_of(self._clients, context) if wishes.checkpoint else ()
        request = to_set_options(wishes, checkpoints, now)
        if request is None:
            return
        try:
            await ask(self._clients.images.SetOptions, request, context)
        except ProblemError as error:
            raise ProblemError(option_spelling(error.problem)) from None


class Progress:
    """`GET /sdapi/v1/progress`: how far the caller's job is."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._query = QueryDecoder(schema.ProgressQuery)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        skip = _flag(self._query(scope).skip_current_image, "skip_current_image")
        request = service_pb2.GetProgressRequest(skip_preview=skip)
        progress = await ask(self._clients.images.GetProgress, request, context_of(scope))
        await send_json(send, msgspec.json.encode(progress_answer(progress)))


class Interrupt:
    """`POST /sdapi/v1/interrupt`: ends what the caller draws; it answers with what there is."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        request = service_pb2.InterruptRequest()
        await ask(self._clients.images.Interrupt, request, context_of(scope))
        await send_json(send, b"{}")


class Skip:
    """`POST /sdapi/v1/skip`: goes on with the next batch."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        await ask(self._clients.images.Skip, service_pb2.SkipRequest(), context_of(scope))
        await send_json(send, b"null")


class PngInfo:
    """`POST /sdapi/v1/png-info`."""

    def __init__(self, settings: Settings, clients: Clients) -> None:
        self._limit = settings.max_body_bytes
        self._clients = clients
        self._decoder = msgspec.json.Decoder(schema.PngInfoRequest)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        body = decode(self._decoder, await read_body(scope, receive, self._limit))
        request = service_pb2.ReadInfoRequest(image=picture_bytes(body.image, "image"))
        read = self._clients.images.ReadInfo
        found = await ask(read, request, context_of(scope), timeout_s=_READ_S)
        answer = answers.PngInfo(found.infotext, dict(found.items), dict(found.parameters))
        await send_json(send, msgspec.json.encode(answer))


class Unserved:
    """What the WebUI does and this platform doesn't."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuses a request."""
        message = f"This server does not do that: {scope['path']}."
        raise ProblemError(Problem("UNIMPLEMENTED", message))


def progress_answer(progress: progress_pb2.Progress) -> answers.ProgressAnswer:
    """Renders how far a job is. No job is no progress and no count: clients wait for both."""
    if progress.state not in _UNDERWAY:
        progress = progress_pb2.Progress()
    underway = progress.state in _UNDERWAY
    queued = progress.state == progress_pb2.Progress.STATE_QUEUED
    preview = progress.preview.data
    state = answers.ProgressState(
        skipped=progress.skipped,
        interrupted=progress.state == progress_pb2.Progress.STATE_INTERRUPTING,
        stopping_generation=False,
        job=progress.job_id,
        job_count=max(progress.batch_count, 1) if underway else 0,
        job_timestamp=_timestamp(progress),
        job_no=progress.batch_index,
        sampling_step=progress.step,
        sampling_steps=progress.step_count,
    )
    return answers.ProgressAnswer(
        progress=progress.fraction,
        eta_relative=progress.remaining_duration.ToNanoseconds() / 1e9,
        state=state,
        current_image=binascii.b2a_base64(preview, newline=False).decode() if preview else None,
        textinfo=f"In queue: {progress.queue_position} before it" if queued else None,
        current_task=progress.job_id or None,
    )


def _timestamp(progress: progress_pb2.Progress) -> str:
    begun = progress.start_time if progress.HasField("start_time") else progress.create_time
    if not begun.seconds:
        return _NEVER
    return time.strftime("%Y%m%d%H%M%S", time.localtime(begun.seconds))


def _flag(text: str | None, name: str) -> bool:
    word = (text or "false").casefold()
    if word not in _YES | _NO:
        raise invalid(f"Invalid '{name}': expected true or false.", name, "invalid_type")
    return word in _YES
