"""Asks for fewer tokens where a limit on them is no wish: the edge's own default, for example."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from penstock.inference.v1 import sampling_pb2

from gateway.errors import Problem, ProblemError

Answer = TypeVar("Answer")


async def fitted(
    act: Callable[[], Awaitable[Answer]], sampling: sampling_pb2.Sampling, *, spare: bool
) -> Answer:
    """Generates; once more with fewer tokens where there is no room for a limit that is `spare`.

    Raises:
        ProblemError: it failed otherwise.
    """
    try:
        return await act()
    except ProblemError as error:
        if not spare or not (cut(sampling, error.problem) or _unlimited(sampling, error.problem)):
            raise
    return await act()


def cut(sampling: sampling_pb2.Sampling, problem: Problem) -> bool:
    """Limits tokens to what fits beside the prompt, and tells whether that helps."""
    if problem.reason != "CONTEXT_LENGTH_EXCEEDED" or not sampling.HasField("max_tokens"):
        return False
    try:
        room = int(problem.metadata["context_length"]) - int(problem.metadata["prompt_tokens"])
    except (KeyError, ValueError):
        return False
    if not 0 < room < sampling.max_tokens:
        return False
    sampling.max_tokens = room
    return True


def _unlimited(sampling: sampling_pb2.Sampling, problem: Problem) -> bool:
    """Leaves the limit to the model, where it allows less."""
    if problem.param != "sampling.max_tokens":
        return False
    sampling.ClearField("max_tokens")
    return True
