"""Names of models, as Ollama's clients write them."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from gateway.errors import ProblemError

Answer = TypeVar("Answer")

_LATEST = ":latest"
"""What clients add to a name that has no tag."""


async def with_model(name: str, act: Callable[[str], Awaitable[Answer]]) -> Answer:
    """Tries the whole name of a model, then the name without the tag that clients add.

    Raises:
        ProblemError: it failed.
    """
    known = name.removesuffix(_LATEST)
    try:
        return await act(name)
    except ProblemError as error:
        if known in (name, "") or error.problem.reason != "MODEL_NOT_FOUND":
            raise
    return await act(known)
