"""Pages of lists by name, and what is on them."""

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import TypeVar

from services.errors import InvalidArgument
from services.image.registry import Registry
from services.image.samplers import SAMPLERS, SCHEDULERS, SamplerName, SchedulerName

T = TypeVar("T")

DEFAULT_SIZE = 100
MOST = 1000
_PREFIX = "after:"


def page(
    items: Sequence[T], name: Callable[[T], str], size: int, token: str
) -> tuple[list[T], str]:
    """Returns a page of items, by name, and the token of the next.

    Raises `InvalidArgument` for what is no token.
    """
    after = _decode(token)
    rest = sorted((item for item in items if not token or name(item) > after), key=name)
    size = min(size or DEFAULT_SIZE, MOST)
    shown = rest[:size]
    return shown, _encode(name(shown[-1])) if len(rest) > size else ""


def samplers(registry: Registry, model: str) -> list[SamplerName]:
    """Samplers that a model can use; an empty name is all that some model can."""
    models = [registry.find(model)] if model else registry.visible().values()
    usable = frozenset[str]().union(*(served.info.samplers for served in models))
    return [sampler for sampler in SAMPLERS if sampler.name in usable]


def schedulers(registry: Registry, model: str) -> list[SchedulerName]:
    """Sigma schedules that a model can use; an empty name is all that some model can."""
    models = [registry.find(model)] if model else registry.visible().values()
    usable = frozenset[str]().union(*(served.info.schedulers for served in models))
    return [scheduler for scheduler in SCHEDULERS if scheduler.name in usable]


def _encode(after: str) -> str:
    return base64.urlsafe_b64encode(f"{_PREFIX}{after}".encode()).rstrip(b"=").decode("ascii")


def _decode(token: str) -> str:
    try:
        padded = token + "=" * (-len(token) % 4)
        text = base64.b64decode(padded, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        text = ""
    if token and not text.startswith(_PREFIX):
        raise InvalidArgument(
            "This is no page token. Send next_page_token as it came, or none for the first page.",
            field="page_token",
        )
    return text.removeprefix(_PREFIX)
