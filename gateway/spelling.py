"""Field paths of the services, spelled as a dialect spells them, in problems and what they say."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from gateway.errors import Problem

Rule = tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]
"""A path of the service, and how the dialect spells it."""

Spelling = Callable[[Problem], Problem]
"""Spells a problem's field as the request did."""


def rules(*pairs: tuple[str, str]) -> Sequence[Rule]:
    """Makes rules of patterns and what replaces them."""
    return tuple((re.compile(pattern), spelled) for pattern, spelled in pairs)


def spelling(
    known: Sequence[Rule],
    context_param: str | None = None,
    rename: Callable[[str], str] | None = None,
) -> Spelling:
    """A spelling by rules, the first that fits, and then by what one request is like.

    `context_param` is the field that is named too long where a problem names none.
    """

    def spelled(problem: Problem) -> Problem:
        param = problem.param
        if param is None:
            if problem.reason == "CONTEXT_LENGTH_EXCEEDED":
                return replace(problem, param=context_param)
            return problem
        found = _first(known, param)
        found = found if rename is None else rename(found)
        if found == param:
            return problem
        mention = re.compile(rf"(?<![\w.\[]){re.escape(param)}(?![\w\[])")
        message = mention.sub(lambda _: found, problem.message)
        return replace(problem, param=found, message=message)

    return spelled


def message_of(problem: Problem) -> str:
    """The message, with the field at fault: for envelopes that have no other place for it."""
    param = problem.param
    if not param or re.search(rf"(?<!\w){re.escape(param)}(?!\w)", problem.message):
        return problem.message
    return f"{problem.message} The field at fault is '{param}'."


def _first(known: Sequence[Rule], param: str) -> str:
    for pattern, spelled in known:
        found, count = pattern.subn(spelled, param)
        if count:
            return found
    return param
