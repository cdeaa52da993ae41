"""The routes of the dialect, all of them for known callers."""

from collections.abc import Iterator, Sequence

from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from gateway.clients import Clients
from gateway.dialects.dialect import Dialect
from gateway.dialects.webui import schema
from gateway.dialects.webui.control_routes import (
    Interrupt,
    Options,
    PngInfo,
    Progress,
    Skip,
    Unserved,
)
from gateway.dialects.webui.credentials import caller_of
from gateway.dialects.webui.drawing_routes import Draw, Drawing, GenerateImage
from gateway.dialects.webui.listings import (
    CONSTANTS,
    LISTINGS,
    SETTLED,
    Constant,
    Listed,
    MemoryState,
)
from gateway.dialects.webui.task_routes import TaskProgress
from gateway.guard import Guard
from gateway.settings import Settings

PREFIX = "/sdapi/v1"

UNSERVED = (
    "interrogate",
    "extra-single-image",
    "extra-batch-images",
    "create/{what}",
    "train/{what}",
)
"""What the WebUI does and this platform doesn't."""


def routes(
    settings: Settings, clients: Clients, guard: Guard, dialect: Dialect
) -> Sequence[BaseRoute]:
    """The routes of the dialect."""
    return [
        Route(path, guard.protect(endpoint, dialect, caller_of), methods=methods)
        for path, endpoint, methods in _endpoints(settings, clients)
    ]


def _endpoints(settings: Settings, clients: Clients) -> Iterator[tuple[str, ASGIApp, list[str]]]:
    drawing = Drawing(settings, clients)
    yield f"{PREFIX}/progress", Progress(clients), ["GET"]
    yield f"{PREFIX}/txt2img", Draw(drawing, schema.Txt2ImgRequest), ["POST"]
    yield f"{PREFIX}/img2img", Draw(drawing, schema.Img2ImgRequest), ["POST"]
    yield "/generate-image", GenerateImage(drawing), ["POST"]
    yield "/internal/progress", TaskProgress(settings, clients), ["POST"]
    yield f"{PREFIX}/interrupt", Interrupt(clients), ["POST"]
    yield f"{PREFIX}/skip", Skip(clients), ["POST"]
    yield f"{PREFIX}/options", Options(settings, clients), ["GET", "POST"]
    yield f"{PREFIX}/png-info", PngInfo(settings, clients), ["POST"]
    for name, listing in LISTINGS.items():
        yield f"{PREFIX}/{name}", Listed(listing, clients), ["GET"]
    yield "/api/sd-models", Listed(LISTINGS["sd-models"], clients), ["GET"]
    for name, answer in CONSTANTS.items():
        yield f"{PREFIX}/{name}", Constant(answer), ["GET"]
    yield f"{PREFIX}/memory", MemoryState(), ["GET"]
    for name, answer in SETTLED.items():
        yield f"{PREFIX}/{name}", Constant(answer), ["POST"]
    for name in UNSERVED:
        yield f"{PREFIX}/{name}", Unserved(), ["POST"]
