"""`/internal/progress`: how far one job is, by the ID that its client gave it (`force_task_id`).

`/sdapi/v1/progress` can't tell the jobs of one key apart; this does.
"""

import binascii

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
from gateway.settings import Settings
from gateway.validation import decode

_ACTIVE = (progress_pb2.Progress.STATE_RUNNING, progress_pb2.Progress.STATE_INTERRUPTING)
_NO_PREVIEW = -1


class TaskProgress:
    """`POST /internal/progress`."""

    def __init__(self, settings: Settings, clients: Clients) -> None:
        self._limit = settings.max_body_bytes
        self._clients = clients
        self._decoder = msgspec.json.Decoder(schema.TaskProgressRequest)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        body = decode(self._decoder, await read_body(scope, receive, self._limit))
        request = service_pb2.GetProgressRequest(job_id=body.id_task)
        progress = await ask(self._clients.images.GetProgress, request, context_of(scope))
        await send_json(send, msgspec.json.encode(task_progress(progress, body.id_live_preview)))


def task_progress(
    progress: progress_pb2.Progress, seen: int | None = None
) -> answers.TaskProgressAnswer:
    """Renders how far a job is. A preview that was `seen`, by its number, isn't told again."""
    queued = progress.state == progress_pb2.Progress.STATE_QUEUED
    answer = answers.TaskProgressAnswer(
        active=progress.state in _ACTIVE,
        queued=queued,
        completed=progress.state == progress_pb2.Progress.STATE_FINISHED,
    )
    if not answer.active:
        waits = f"In queue: {progress.queue_position} before it"
        return msgspec.structs.replace(answer, textinfo=waits if queued else "Waiting...")
    answer.progress = progress.fraction
    answer.eta = progress.remaining_duration.ToNanoseconds() / 1e9
    answer.id_live_preview = _NO_PREVIEW if seen is None else seen
    preview = progress.preview
    number = progress.batch_index * progress.step_count + preview.step
    if preview.data and number != seen:
        data = binascii.b2a_base64(preview.data, newline=False).decode()
        answer.live_preview = f"data:{preview.mime_type};base64,{data}"
        answer.id_live_preview = number
    return answer
