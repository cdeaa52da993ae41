"""Lists of what there is to choose from. What this platform never has is an empty list."""

import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import msgspec
from penstock.image.v1 import image_service_pb2 as service_pb2
from penstock.image.v1 import sampler_pb2
from starlette.types import Receive, Scope, Send

from gateway.answers import send_json
from gateway.clients import Clients, Method, ask
from gateway.context import RequestContext, context_of
from gateway.dialects.webui import answer_schema as answers
from gateway.errors import ProblemError

_PAGE_SIZE = 1000
_MOST_PAGES = 100
_NO_RHO = -1.0
_UNTOLD = frozenset({"MODEL_NOT_FOUND", "MODEL_NOT_READY"})

Ways = TypeVar("Ways", service_pb2.ListSamplersRequest, service_pb2.ListSchedulersRequest)
Answer = TypeVar("Answer")
Listing = Callable[[Clients, RequestContext], Awaitable[object]]


async def checkpoints_of(clients: Clients, context: RequestContext) -> list[sampler_pb2.Checkpoint]:
    """Gets every checkpoint.

    Raises:
        ProblemError: the image service doesn't tell.
    """
    request = service_pb2.ListCheckpointsRequest(page_size=_PAGE_SIZE)
    found: list[sampler_pb2.Checkpoint] = []
    for _ in range(_MOST_PAGES):
        page = await ask(clients.images.ListCheckpoints, request, context)
        found.extend(page.checkpoints)
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    return found


async def _checkpoints(clients: Clients, context: RequestContext) -> list[answers.CheckpointItem]:
    return [
        answers.CheckpointItem(
            title=checkpoint.title,
            model_name=checkpoint.checkpoint_name,
            hash=checkpoint.short_hash,
            sha256=checkpoint.sha256,
            filename=checkpoint.filename,
            config=None,
        )
        for checkpoint in await checkpoints_of(clients, context)
    ]


async def _of_current(
    method: Method[Ways, Answer], request: Ways, clients: Clients, context: RequestContext
) -> Answer:
    """Asks for what the checkpoint takes that the options name: it is the one that draws.

    While it can't tell, for what any takes.
    """
    now = await ask(clients.images.GetOptions, service_pb2.GetOptionsRequest(), context)
    request.model = now.model
    try:
        return await ask(method, request, context)
    except ProblemError as error:
        if error.problem.reason not in _UNTOLD:
            raise
    request.model = ""
    return await ask(method, request, context)


async def _samplers(clients: Clients, context: RequestContext) -> list[answers.SamplerItem]:
    request = service_pb2.ListSamplersRequest(page_size=_PAGE_SIZE)
    page = await _of_current(clients.images.ListSamplers, request, clients, context)
    return [
        answers.SamplerItem(sampler.name, list(sampler.aliases), dict(sampler.options))
        for sampler in page.samplers
    ]


async def _schedulers(clients: Clients, context: RequestContext) -> list[answers.SchedulerItem]:
    request = service_pb2.ListSchedulersRequest(page_size=_PAGE_SIZE)
    page = await _of_current(clients.images.ListSchedulers, request, clients, context)
    return [
        answers.SchedulerItem(
            name=scheduler.name,
            label=scheduler.label,
            aliases=list(scheduler.aliases),
            default_rho=scheduler.default_rho if scheduler.HasField("default_rho") else _NO_RHO,
            need_inner_model=scheduler.need_inner_model,
        )
        for scheduler in page.schedulers
    ]


LISTINGS: Mapping[str, Listing] = {
    "sd-models": _checkpoints,
    "samplers": _samplers,
    "schedulers": _schedulers,
}
"""Lists that the image service has, by the last part of their path."""

CONSTANTS: Mapping[str, Any] = {
    "scripts": answers.ScriptNames([], []),
    "script-info": [],
    # For `hr_upscaler`: those that every engine has.
    "upscalers": [answers.UpscalerItem("Lanczos"), answers.UpscalerItem("Nearest")],
    "latent-upscale-modes": [
        answers.LatentMode("Latent"),
        answers.LatentMode("Latent (antialiased)"),
        answers.LatentMode("Latent (bicubic)"),
        answers.LatentMode("Latent (bicubic antialiased)"),
        answers.LatentMode("Latent (nearest)"),
        answers.LatentMode("Latent (nearest-exact)"),
    ],
    "sd-vae": [],
    "loras": [],
    "hypernetworks": [],
    "face-restorers": [],
    "realesrgan-models": [],
    "prompt-styles": [],
    "extensions": [],
    "embeddings": answers.TextualInversions({}, {}),
    "cmd-flags": answers.Nothing(),
}
"""Answers that are always the same, by the last part of their path."""

SETTLED: Mapping[str, Any] = {
    "refresh-checkpoints": None,
    "refresh-vae": None,
    "unload-checkpoint": answers.Nothing(),
    "reload-checkpoint": answers.Nothing(),
}
"""Wishes that need no doing: the catalogue is always fresh, and memory is the service's matter."""


class Listed:
    """`GET` of a list that the image service has."""

    def __init__(self, listing: Listing, clients: Clients) -> None:
        self._listing = listing
        self._clients = clients

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        found = await self._listing(self._clients, context_of(scope))
        await send_json(send, msgspec.json.encode(found))


class Constant:
    """An answer that is always the same."""

    def __init__(self, answer: object) -> None:
        self._body = msgspec.json.encode(answer)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        await send_json(send, self._body)


class MemoryState:
    """`GET /sdapi/v1/memory`: that of the machine that the edge runs on."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        total, free = _memory("SC_PHYS_PAGES"), _memory("SC_AVPHYS_PAGES")
        ram = answers.RamState(float(free), float(total - free), float(total))
        answer = answers.Memory(ram, {"error": "unavailable"})
        await send_json(send, msgspec.json.encode(answer))


def _memory(pages: str) -> int:
    """Bytes; 0 where the system doesn't tell."""
    if pages not in os.sysconf_names:
        return 0
    return os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE")
